"""The mapping of each destination, kept in a table of dyncdc's own; what someone took from its columns is restored."""

from __future__ import annotations

from dataclasses import replace

from dyncdc.errors import DyncdcError
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.sql.column_comments import joined_comment
from dyncdc.schema.sql.quoting import on_cluster, qualified, quote_name, quote_text
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.mappings import MappingNews, mapping_news, save_mapping
from dyncdc.sinks.state.rows import until_made_again
from dyncdc.sinks.tables.evolution import alter
from dyncdc.telemetry.task_health import TaskHealth


async def keep_mapping(
    clickhouse: ClickHouse,
    pipeline: str,
    spec: TableSpec,
    table: ExistingTable,
    health: TaskHealth,
    cluster: str | None = None,
) -> MappingNews:
    """Keep what is new of a mapping and return how the destination differs from what was kept.

    ``table`` as ``read_destination`` gives it. Raises RetryableError, and FatalError when nothing can be kept.
    """
    news = mapping_news(table, spec)
    for column in news.comments:
        await _restore(clickhouse, table, _comment(column), health, cluster)
    for name, default in (news.defaults or {}).items():
        await _restore(
            clickhouse, table, (name, f"MODIFY COLUMN {quote_name(name)} DEFAULT {default}"), health, cluster
        )
    for name in news.dropped:
        hint = f"values that only it held are gone: `dyncdc snapshot {spec.source_table}` brings them again"
        health.log_error("column dropped", table=spec.source_table, column=name, hint=hint)
    with until_made_again():
        await save_mapping(clickhouse, pipeline, table, news.rows)
    return news


def kept_now(table: ExistingTable, news: MappingNews) -> ExistingTable:
    """Return the table with what is kept of it by now."""
    rows = {name: replace(row, number=row.number + 1) for name, row in news.rows.items()}
    return replace(table, stored={**table.stored, **rows})


def _comment(column: ExistingColumn) -> tuple[str, str]:
    origin = column.origin
    if origin is None:
        raise AssertionError("only columns that were made for an attribute have a comment to restore")
    made = ColumnSpec(column.name, column.type, origin.path, origin.takes, origin.lossy, encoding=origin.encoding)
    text = quote_text(joined_comment(column.comment, made))
    return column.name, f"COMMENT COLUMN {quote_name(column.name)} {text}"


async def _restore(
    clickhouse: ClickHouse, table: ExistingTable, change: tuple[str, str], health: TaskHealth, cluster: str | None
) -> None:
    """Put back what the rows do without. What keeps it from being done is told, and keeps nothing else waiting."""
    name, action = change
    what = "comment" if action.startswith("COMMENT") else "default"
    try:
        await alter(clickhouse, table.name, f"ALTER TABLE {qualified(table.name)}{on_cluster(cluster)} {action}")
    except DyncdcError as error:
        health.log_error(f"{what} not restored", table=table.name, column=name, error=str(error), hint=error.hint)
    else:
        health.log_error(
            f"{what} restored", table=table.name, column=name, hint="someone had taken it away; rows are right"
        )

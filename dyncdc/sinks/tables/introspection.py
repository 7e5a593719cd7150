"""Existing tables: what the server says of one."""

from __future__ import annotations

from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.sql.quoting import qualified, quote_text
from dyncdc.sinks.client.client import ClickHouse


async def read_table(clickhouse: ClickHouse, name: str) -> ExistingTable | None:
    """Read how a table of the connection's database is now, None when there is none. Also after every ALTER."""
    rows = await clickhouse.fetch(
        "SELECT toString(uuid), engine, engine_full, sorting_key, partition_key, create_table_query FROM system.tables"
        f" WHERE database = currentDatabase() AND name = {quote_text(name)}",
        doing=f"reading the definition of {name}",
    )
    if not rows:
        return None
    uuid, engine, engine_full, sorting_key, partition_key, create_query = rows[0]
    columns = await read_columns(clickhouse, name)
    return ExistingTable(name, uuid, engine, engine_full, sorting_key, partition_key, columns, create_query)


async def read_columns(clickhouse: ClickHouse, name: str) -> tuple[ExistingColumn, ...]:
    """Read the columns of a table as they are now, in their order."""
    rows = await clickhouse.fetch(
        "SELECT name, type, comment, default_kind IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL'), is_in_partition_key,"
        " is_in_sorting_key, if(default_kind = 'DEFAULT', default_expression, '')"
        f" FROM system.columns WHERE database = currentDatabase() AND table = {quote_text(name)} ORDER BY position",
        doing=f"reading the columns of {name}",
    )
    return tuple(
        ExistingColumn(column, kind, comment, bool(computed), bool(in_partition_key), bool(in_sorting_key), default)
        for column, kind, comment, computed, in_partition_key, in_sorting_key, default in rows
    )


async def has_rows(clickhouse: ClickHouse, name: str) -> bool:
    """Return whether a table holds any row, deleted ones included."""
    return bool(await clickhouse.fetch(f"SELECT 1 FROM {qualified(name)} LIMIT 1", doing=f"looking into {name}"))

"""``dyncdc_mappings``: what fills each column of a destination, kept where no one edits it.

Comments say the same to people, and to versions that knew nothing else; a catalogue may write over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from dyncdc.config.attribute_paths import format_attribute_path, parse_attribute_path
from dyncdc.pipeline.destinations.row_settings import tells_apart
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.sql.column_comments import Origin, read_comment
from dyncdc.schema.sql.quoting import mentions, quote_text
from dyncdc.schema.stored_mapping import FIXED, By, Role, StoredColumn
from dyncdc.schema.table_spec import AttributeType, Encoding, TableSpec
from dyncdc.schema.types.widening import holds_all_of
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.tables.introspection import read_table

from .rows import append_rows, catch_up
from .tables import MAPPINGS


@dataclass(frozen=True, slots=True)
class MappingNews:
    """How a destination differs from what was kept of it.

    ``rows`` are to be kept. ``comments`` and ``defaults`` are columns that someone took these from. ``dropped`` are
    columns of attributes. ``narrowed``: in words, columns that do not hold all that they held. ``spill``: the spill
    column that is gone.
    """

    rows: Mapping[str, StoredColumn]
    comments: tuple[ExistingColumn, ...] = ()
    defaults: Mapping[str, str] | None = None
    dropped: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()
    spill: str = ""


async def read_destination(
    clickhouse: ClickHouse, name: str, known: Mapping[str, StoredColumn] | None = None
) -> ExistingTable | None:
    """Read how a destination is now, with what is kept of its mapping; None when there is none.

    ``known``: what was kept of it before; someone may have dropped the table that says so.
    """
    table = await read_table(clickhouse, name)
    if table is None:
        return None
    return with_kept(table, {**(known or {}), **await load_mapping(clickhouse, table.uuid)})


async def load_mapping(clickhouse: ClickHouse, uuid: str) -> dict[str, StoredColumn]:
    """Return what is kept of a table by column; nothing where no version with that table has run yet.

    Nor where the database gives its tables no UUIDs, as one of the engine Ordinary: what tells tables apart there?
    """
    if not tells_apart(uuid):
        return {}
    await catch_up(clickhouse, MAPPINGS)
    row = "(role, type, attribute, takes, lossy, encoding, `by`, `default`)"
    try:
        rows = await clickhouse.fetch(
            f"SELECT column, argMax({row}, number) AS newest, max(number) FROM {MAPPINGS}"
            f" WHERE destination_uuid = {quote_text(uuid)} GROUP BY column",
            doing="loading the mapping of columns",
        )
    except TableGoneError:
        return {}
    return {str(column): _kept(newest, int(number)) for column, newest, number in rows}


async def save_mapping(
    clickhouse: ClickHouse, pipeline: str, table: ExistingTable, rows: Mapping[str, StoredColumn]
) -> None:
    """Append rows, each after the one that was loaded."""
    values = [
        {
            "destination_uuid": table.uuid,
            "column": column,
            "number": kept.number + 1,
            "pipeline": pipeline,
            "table": table.name,
            "role": kept.role,
            "attribute": format_attribute_path(kept.origin.path) if kept.origin is not None else "",
            "takes": list(kept.origin.takes) if kept.origin is not None else [],
            "type": kept.type,
            "lossy": int(kept.origin is not None and kept.origin.lossy),
            "encoding": kept.origin.encoding if kept.origin is not None else "",
            "by": kept.by,
            "default": kept.default,
        }
        for column, kept in rows.items()
    ]
    if values and tells_apart(table.uuid):
        await append_rows(clickhouse, MAPPINGS, values, f"keeping the mapping of {table.name}")


def with_kept(table: ExistingTable, kept: Mapping[str, StoredColumn]) -> ExistingTable:
    """Return the table with the attributes that its columns were made for, whatever their comments say now.

    A comment of ours that differs is believed only where it came with a column that was renamed.
    """
    columns = tuple(replace(column, stored=_believed(column, kept)) for column in table.columns)
    return replace(table, columns=columns, stored=kept)


def _believed(column: ExistingColumn, kept: Mapping[str, StoredColumn]) -> Origin | None:
    mine = kept.get(column.name)
    if mine is None or mine.origin is None or mine.by not in FIXED or mine.role != "attribute":
        return None
    said = read_comment(column.comment)
    if said is None or said == mine.origin:
        return mine.origin
    moved = any(other.origin == said for name, other in kept.items() if name != column.name and other.by == "comment")
    return None if moved else mine.origin


def mapping_news(table: ExistingTable, spec: TableSpec) -> MappingNews:
    """Compare a destination, read by ``read_destination``, with what is kept of it; pure."""
    kept = table.stored
    now = dict(_rows(table, spec))
    rows = {name: row for name, row in now.items() if row != kept.get(name)}
    there = {column.name: column for column in table.columns}
    gone = {
        name: replace(row, role="gone")
        for name, row in kept.items()
        if name not in there and row.role == "attribute" and row.by == "comment"
    }
    renamed = _renamed(table)
    spills = [name for name, row in kept.items() if row.role == "spill"]
    return MappingNews(
        rows | gone,
        tuple(
            column
            for name, column in there.items()
            if name in now and now[name].by == "comment" and read_comment(column.comment) != now[name].origin
        ),
        {name: row.default for name, row in now.items() if row.default and there[name].default != row.default},
        tuple(name for name in gone if name not in renamed),
        tuple(
            f"column {name} is {there[name].type}, and was {row.type}"
            for name, row in kept.items()
            if name in now and row.role == "attribute" and not holds_all_of(there[name].type, row.type)
        ),
        next((name for name in spills if not spec.spill_column and name not in there), ""),
    )


def _renamed(table: ExistingTable) -> set[str]:
    """Names in ``kept`` whose column stands in the table under another name."""
    said = [read_comment(column.comment) for column in table.columns if column.name not in table.stored]
    return {name for name, row in table.stored.items() if row.origin is not None and row.origin in said}


def _rows(table: ExistingTable, spec: TableSpec) -> Iterator[tuple[str, StoredColumn]]:
    """What is to be kept of each column, as the table is now."""
    roles: dict[str, Role] = {
        spec.spill_column: "spill",
        spec.version_column: "version",
        spec.deleted_column: "deleted",
        spec.expired_column: "expired",
    }
    mapped = {column.name: column for column in spec.columns}
    for column in table.columns:
        before = table.stored.get(column.name, StoredColumn("gone", ""))
        if column.computed:
            continue
        if column.name in roles:
            yield column.name, StoredColumn(roles[column.name], column.type, number=before.number)
            continue
        origin, own = column.origin, mapped.get(column.name)
        if origin is not None and (before.by == "comment" or read_comment(column.comment) == origin):
            same = before.role == "attribute" and before.type == column.type
            default = before.default if same and not mentions(column.default, spec.spill_column) else column.default
            default = default if mentions(default, spec.spill_column) else ""
            yield column.name, StoredColumn("attribute", column.type, origin, "comment", default, before.number)
        elif own is not None:
            found = Origin(own.path, own.takes, own.lossy, own.encoding)
            by: By = "name" if own.path == (column.name,) else "sample"
            yield column.name, StoredColumn("attribute", column.type, found, by, "", before.number)


def _kept(newest: Sequence[object], number: int) -> StoredColumn:
    role, kind, attribute, takes, lossy, encoding, by, default = newest
    origin = None
    if attribute:
        types = cast("tuple[AttributeType, ...]", tuple(cast("Sequence[str]", takes)))
        origin = Origin(parse_attribute_path(str(attribute)), types, bool(lossy), cast(Encoding, encoding))
    return StoredColumn(cast(Role, role), str(kind), origin, cast(By, by), str(default), number)

"""A table that someone else has filled: what its versions are, and what of the ClickPipes guide stands beside it.

Source: ClickHouse documentation, "CDC from DynamoDB to ClickHouse": a table of one column ``item``, a materialized view
from it into the destination, and the pipe's table of errors; its clean-up step drops these three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.sql.quoting import qualified
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.tables.introspection import read_columns
from dyncdc.sinks.tables.versions import UNITS, Versions, made_by_others, read_versions, unit_of
from dyncdc.timestamps import short_timestamp

ERRORS_SUFFIX = "_clickpipes_error"

_NAME = r"(?:\w+|`(?:[^`\\]|\\.)*`)"
_TARGET = re.compile(rf"CREATE MATERIALIZED VIEW {_NAME}(?:\.{_NAME})?(?: UUID '[^']*')? TO (?:{_NAME}\.)?({_NAME})")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A table or view that also writes into the destination, or fed it. ``guide``: of the guide's shape for certain."""

    name: str
    view: bool
    guide: bool

    @property
    def drop(self) -> str:
        """The statement that the user may run; dyncdc never does."""
        return f"DROP {'VIEW' if self.view else 'TABLE'} IF EXISTS {qualified(self.name)}"


@dataclass(frozen=True, slots=True)
class ClickPipesTable:
    """What is known of a foreign destination. ``versions`` None: it has no usable version column."""

    versions: Versions | None
    leftovers: tuple[Leftover, ...] = ()


async def look_at_adoption(clickhouse: ClickHouse, table: ExistingTable) -> ClickPipesTable | None:
    """Look at a destination's rows and surroundings; None for one that dyncdc has made."""
    if not made_by_others(table):
        return None
    return ClickPipesTable(await read_versions(clickhouse, table), await _leftovers(clickhouse, table.name))


async def _leftovers(clickhouse: ClickHouse, destination: str) -> tuple[Leftover, ...]:
    rows = await clickhouse.fetch(
        "SELECT name, engine, create_table_query, dependencies_table FROM system.tables"
        " WHERE database = currentDatabase() ORDER BY name",
        doing="looking for what writes into the destination",
    )
    names = {str(name) for name, *_ in rows}
    found: list[Leftover] = []
    for view, engine, query, _ in rows:
        target = _TARGET.match(query) if engine == "MaterializedView" else None
        if target is None or _unquoted(target[1]) != destination:
            continue
        sources = [str(name) for name, _, _, dependents in rows if view in dependents]
        raw = [name for name in sources if await _is_raw(clickhouse, name)]
        found.append(Leftover(str(view), view=True, guide=bool(raw)))
        for name in raw:
            found.append(Leftover(name, view=False, guide=True))
            found += [Leftover(errors, view=False, guide=True) for errors in (name + ERRORS_SUFFIX,) if errors in names]
    if destination + ERRORS_SUFFIX in names:
        found.append(Leftover(destination + ERRORS_SUFFIX, view=False, guide=True))
    return tuple(found)


async def _is_raw(clickhouse: ClickHouse, name: str) -> bool:
    return [(column.name, column.type) for column in await read_columns(clickhouse, name)] == [("item", "String")]


def _unquoted(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith("`") else name


def adoption_notes(adoption: ClickPipesTable, spec: TableSpec, snapshot: str) -> list[str]:
    """Say, for people, what the rows are, how they are healed, and what may be dropped. Holds no item values."""
    return [*_rows(adoption.versions, spec, snapshot), *_dropping(adoption.leftovers)]


def _rows(versions: Versions | None, spec: TableSpec, snapshot: str) -> list[str]:
    if versions is None:
        return []
    if not versions.rows:
        return ["the table is empty"]
    notes = []
    if versions.zero:
        notes.append(
            f"{versions.zero:,} of its {versions.rows:,} rows have version 0: loaded by a snapshot of their own"
        )
    if versions.greatest:
        notes.append(_times(versions))
    if snapshot == "none":
        notes.append('with snapshot.method = "none" these rows stay as they are until their items change')
        return notes
    notes.append(
        "dyncdc's versions are microseconds, greater than all of these: its first snapshot replaces every row by the"
        " item as it is then"
    )
    if spec.deleted_column and spec.deletes == "tombstone":
        notes.append("rows of items that were deleted meanwhile are marked as deleted at the end of that snapshot")
    else:
        notes.append("rows of items that were deleted meanwhile stay: no column marks them, or deletes are ignored")
    return notes


def _times(versions: Versions) -> str:
    unit = unit_of(versions.greatest, versions.now)
    if not unit:
        return f"its versions go from {versions.least} to {versions.greatest}: no times that dyncdc knows"
    per_second = dict(UNITS)[unit]
    begin, end = (
        short_timestamp(value / per_second) if value > 0 else str(value)
        for value in (min(versions.least, versions.greatest), versions.greatest)
    )
    return f"its other versions are {unit}, {begin} to {end}"


def _dropping(leftovers: tuple[Leftover, ...]) -> list[str]:
    if not leftovers:
        return []
    guide = [leftover for leftover in leftovers if leftover.guide]
    others = [leftover.name for leftover in leftovers if not leftover.guide]
    notes = []
    if guide:
        notes.append(
            "left over from the guide for ClickPipes; once both pipes are deleted and dyncdc's snapshot is complete:"
        )
        notes += [f"    {leftover.drop};" for leftover in guide]
    if others:
        notes.append(f"{', '.join(others)} also write into this table: what they write must have smaller versions")
    return notes

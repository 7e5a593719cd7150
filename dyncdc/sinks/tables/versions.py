"""Versions that someone else wrote into a table: how large they are, and whether ours would ever win over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dyncdc.schema.existing.compatibility import VERSION_TYPES, Incompatibility
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.sql.quoting import qualified, quote_name
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse

from .orphan_rows import full_version

DAY_MICROSECONDS: Final = 86_400 * 1_000_000
_EARLIEST_SECONDS: Final = 946_684_800
"""2000-01-01: no change of DynamoDB is older, and seconds, milliseconds and so on of later times never overlap."""

UNITS: Final = (("seconds", 1), ("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))
"""What a version may count since the epoch, and how many make a second."""

_SETTINGS: Final = {"max_execution_time": 10, "timeout_overflow_mode": "break"}
"""Of a very large table a part tells enough."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What a table's version column holds. ``least``: of those that are not 0; ``now``: the server's, microseconds."""

    rows: int
    zero: int
    least: int
    greatest: int
    now: int


def made_by_others(table: ExistingTable) -> bool:
    """Whether someone else made the table: no column of it says what fills it."""
    return all(column.origin is None for column in table.columns)


async def read_versions(clickhouse: ClickHouse, table: ExistingTable) -> Versions | None:
    """Read what the version column holds; None where there is none, or not of whole numbers."""
    name = next(iter(table.engine_columns), "")
    column = table.column(name)
    if column is None or column.type not in VERSION_TYPES:
        return None
    version = quote_name(name)
    rows = await clickhouse.fetch(
        f"SELECT count(), countIf({version} = 0), toString(minIf({version}, {version} != 0)), toString(max({version})),"
        f" toUnixTimestamp64Micro(now64(6)) FROM {qualified(table.name)}",
        settings=_SETTINGS,
        doing=f"looking at the versions of {table.name}",
    )
    count, zero, least, greatest, now = rows[0]
    return Versions(int(count), int(zero), int(least), int(greatest), int(now))


def unit_of(version: int, now_microseconds: int) -> str:
    """What a version counts, by its size; "" for what is no time of these units."""
    latest = (now_microseconds + DAY_MICROSECONDS) // 1_000_000
    for unit, per_second in UNITS:
        if _EARLIEST_SECONDS * per_second <= version <= latest * per_second:
            return unit
    return ""


def incompatible_versions(spec: TableSpec, versions: Versions) -> Sequence[Incompatibility]:
    """Why ours would not win over the versions that stand; nothing when they would."""
    limit = full_version(spec, versions.now + DAY_MICROSECONDS)
    if not versions.rows or versions.greatest <= limit:
        return ()
    unit = unit_of(versions.greatest, versions.now)
    what = f"they look like {unit}" if unit else "they are no times up to now"
    return (
        Incompatibility(
            f"its greatest version is {versions.greatest}, beyond tomorrow in microseconds ({what}): no change would"
            " ever win over such a row",
            "use another table, or copy the rows into a new one with versions in microseconds (or 0: the snapshot heals"
            " them)",
        ),
    )

"""Disk space: no ALTER on a full disk. ClickHouse accepts one, writes an empty definition, and cannot start again.

Measured with 24.8, 25.8 and 26.9: INSERT and CREATE are refused cleanly (243), ADD COLUMN and COMMENT COLUMN are not.
"""

from __future__ import annotations

from typing import Final

from dyncdc.errors import FatalError
from dyncdc.sinks.client.client import ClickHouse

LEAST_BYTES: Final = 256 * 2**20
LEAST_SHARE: Final = 0.05
"""So much of each disk has to be free, whichever is less, beside what ClickHouse itself keeps free there."""

FULL_SECONDS: Final = 120.0
"""For so long after a statement was refused for lack of space none is free."""

# Definitions are on the default disk. Numbers as Float64: a bucket has 2^64 - 1 bytes.
_DISKS: Final = (
    "SELECT name, toFloat64(free_space), toFloat64(total_space), toFloat64(keep_free_space) FROM system.disks"
    " WHERE name = 'default' OR name IN (SELECT arrayJoin(disks) FROM system.storage_policies WHERE policy_name IN"
    " (SELECT storage_policy FROM system.tables WHERE database = currentDatabase())) ORDER BY name"
)


class NoSpaceError(FatalError):
    """There is no room for a change of a table's definition."""


async def require_space(clickhouse: ClickHouse, doing: str) -> None:
    """Return if every disk that tables of the database are on has room, as this server sees it."""
    hint = "free disk space on the server: on a full disk an ALTER would leave a table that ClickHouse cannot load"
    if clickhouse.seconds_since_full() < FULL_SECONDS:
        raise NoSpaceError(f"{doing}: ClickHouse has just refused a statement for lack of disk space", hint=hint)
    for name, free, total, kept in await clickhouse.fetch(_DISKS, doing=f"{doing}: looking at its disks"):
        least = kept + min(LEAST_BYTES, LEAST_SHARE * total)
        if free < least:
            raise NoSpaceError(f"{doing}: disk {name} has less than {least / 2**20:,.0f} MiB free", hint=hint)

"""Gaps, requests for snapshots, and the sources that tables were read from."""

from __future__ import annotations

from dataclasses import dataclass

from .shards import SourceId


@dataclass(frozen=True, slots=True)
class Gap:
    """One open row of ``dyncdc_gaps``: changes of ``table`` between two instants (server clock) were lost unread.

    ``source``, ``shard`` and ``position`` say after what they were lost; ``shard`` is "" where it is not one shard.
    ``accepted``: the user took the gap (``accept_gap``); nothing is done about it.
    """

    table: str
    source: str
    shard: str
    begin: float
    end: float
    position: str = ""
    reason: str = ""
    accepted: bool = False
    noticed_at: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells gaps apart: the same loss noticed again is the same gap."""
        return self.table, self.source, self.shard, round(self.begin * 1_000_000)


@dataclass(frozen=True, slots=True)
class Request:
    """One row of ``dyncdc_requests`` that no one has answered yet: someone wants a fresh snapshot of ``table``."""

    id: str
    table: str
    requested_at: float


@dataclass(frozen=True, slots=True)
class TableSource:
    """Which source a table's changes were read from by the session of ``epoch``, which began at ``at`` (seconds).

    ``held``: every shard of the source has had a durable position at the same time, in this session or an earlier one.
    """

    table: str
    source: SourceId
    epoch: int
    at: float
    held: bool = False
    empty: str = ""
    """UUID of the destination that held no rows when the first session that follows the table into it began."""

"""Snapshots, and the exports they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SnapshotState = Literal["waiting", "exporting", "loading", "sweeping", "complete", "failed"]
"""``sweeping``: every file is durable, and the keys that it does not hold are being marked as deleted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row of ``dyncdc_snapshots``: one attempt to load one table, written before AWS is asked for anything.

    ``version`` (microseconds) is what its rows carry: export time minus the margin. ``destination_uuid`` is the UUID of
    the ClickHouse table it was made for: a re-created table has another one and needs another snapshot.
    ``covered_from`` is the instant (seconds, server clock) from which the stream is read for the table without a break.
    ``had_rows``: the destination may not have been empty when this snapshot was begun. ``request``: the id of the
    request that it answers. ``epoch``: of the session that wrote this state; that of the greatest counts. ``saved_at``:
    when it did, by the store's clock.
    """

    id: str
    table: str
    state: SnapshotState
    destination_uuid: str
    export_arn: str = ""
    export_time: float = 0.0
    version: int = 0
    segments: int = 0
    covered_from: float = 0.0
    had_rows: bool = False
    request: str = ""
    epoch: int = 0
    saved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Export:
    """A DynamoDB export as AWS describes it. ``export_time`` in seconds since the epoch."""

    arn: str
    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    export_time: float
    item_count: int = 0
    failure: str = ""
    segments: int = 0
    """Of a scan; 0 for an export."""

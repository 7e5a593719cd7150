"""What ClickHouse holds of a pipeline, as of the last time that it answered. Values only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dyncdc.model.snapshots import Snapshot

from .model import DeadLettersStatus, Freshness, GapStatus, MemberStatus, TableStatus


@dataclass(slots=True)
class ClickHouseState:
    """One answer. Gaps come with the earliest first, dead letters with the most first."""

    dead_letters: list[DeadLettersStatus] = field(default_factory=list)
    gaps: list[GapStatus] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    members: list[MemberStatus] = field(default_factory=list)
    tables: Mapping[str, TableStatus] = field(default_factory=dict)
    """By destination. With what ClickHouse holds and nothing else."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    """The newest of each DynamoDB table."""
    loaded: frozenset[str] = frozenset()
    """Tables with a complete snapshot of the destination that the newest is for."""


@dataclass(slots=True)
class LatestState:
    """The last answer, kept while ClickHouse is down. ``wanted``: a page is open; otherwise nothing is asked."""

    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: Freshness = field(default_factory=Freshness)
    state: ClickHouseState = field(default_factory=ClickHouseState)

    @property
    def known(self) -> bool:
        """Whether ClickHouse was ever asked."""
        return self.fresh.read_at > 0


def newest_snapshots(snapshots: Iterable[Snapshot]) -> tuple[dict[str, Snapshot], frozenset[str]]:
    """The newest of each table, and the tables that are loaded.

    While a table is loaded again it is as complete as it was.
    """
    found = list(snapshots)
    newest = {snapshot.table: snapshot for snapshot in found}
    loaded = (
        snapshot.table
        for snapshot in found
        if snapshot.state == "complete" and snapshot.destination_uuid == newest[snapshot.table].destination_uuid
    )
    return newest, frozenset(loaded)

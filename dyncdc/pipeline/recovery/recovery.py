"""Recovery: a loss is recorded and reported before anything else happens, until a snapshot has repaired it.

It decides whether the pipeline may go on after a loss; it reads nothing and loads nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from dyncdc.errors import FatalError
from dyncdc.model.gaps import Gap, Request
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.reading.lineage import LostPosition
from dyncdc.pipeline.runtime import Instruments, ShownRetrier

from .gaps import gaps_of, joined
from .open_gaps import OpenGaps
from .policy import Policy
from .requests import SnapshotRequests
from .table_sources import TableSources

REQUEST_POLL_SECONDS = 2.0
"""Pause between two looks for requests: one small query."""


async def _nothing() -> None:
    return None


class SourceLostError(FatalError):
    """A stream that was read is gone forever, and its gap is durable. Another session can read what took its place."""


class Recovery:
    """Gaps and requests of one session. Loaders ask it what to do, stream readers report what is lost."""

    def __init__(
        self,
        store: RecoveryStore,
        policy: Policy,
        instruments: Instruments,
        membership: Membership,
    ) -> None:
        self._membership = membership
        self._store = store
        self._policy = policy
        self._health = instruments.health
        self._retry = ShownRetrier(instruments, "recovery", "ClickHouse to show or take gaps and requests")
        self._gaps = OpenGaps(store, instruments, self._retry, lambda table: self.wanted(table).set())
        self._requests = SnapshotRequests(policy, instruments.health)
        self._table_sources = TableSources(store, policy, self._retry)
        self._wanted: dict[str, asyncio.Event] = {}
        self._still_there: Callable[[], Awaitable[None]] = _nothing

    async def begin(self, sources: Sequence[Source], snapshots: SnapshotStore, checkpointer: Checkpointer) -> None:
        """Find what was lost between the last session and this one. Once, after the checkpoints and before any reading.

        Raises FatalError when a loss may not, or cannot, be made good.
        """
        self._still_there = partial(checkpointer.ownership.check, ())
        await self._gaps.load()
        self._take(await self._retry(self._store.open_requests))
        followed, gaps = await self._table_sources.compare(sources, snapshots, checkpointer)
        await self._gaps.record(gaps)
        self._enforce({row.table for row in followed})
        await self._table_sources.save(followed)

    def covered(self, table: str) -> float:
        """Up to when, at least, a table sent its changes to the stream in former sessions; 0 if that is unknown."""
        return self._table_sources.covered(table)

    def was_empty(self, table: str, uuid: str) -> bool:
        """Whether a destination held no rows before this pipeline: what another member has written since is ours."""
        return self._table_sources.was_empty(table, uuid)

    def was_followed(self, table: str) -> bool:
        """Whether an earlier session may have written changes of the table.

        No one knows of changes that never reached the stream between two sessions that had loaded nothing yet. Of
        several members any may be the first.
        """
        return self._table_sources.was_followed(table) and not self._membership.assignment.shared

    def was_checkpointed(self, source: SourceId) -> bool:
        """Whether all that a source held has been followed before: what is missing since is a loss."""
        return self._table_sources.was_checkpointed(source)

    async def checkpointed(self, source: SourceId) -> None:
        """Remember that every shard of a source has a durable position."""
        await self._table_sources.checkpointed(source)

    async def notice(self, source: Source, lost: Sequence[LostPosition], end: float | None = None) -> None:
        """Make lost positions durable as gaps, and tell. Only after it has returned may reading go on elsewhere.

        ``end``: up to when changes were lost; up to now where that is not known. What a shard goes on to lose is one
        gap. Raises FatalError when the loss may not, or cannot, be made good.
        """
        tables, now = self._policy.tables.get(source.id, ()), source.server_time
        known = self._gaps.all()
        found = [joined(gap, known, now) for gap in gaps_of(tables, source.id, lost, now if end is None else end)]
        await self._gaps.record([gap for gap in found if gap is not None])
        self._enforce(tables)

    async def missed(self, gaps: Sequence[Gap]) -> None:
        """Make gaps durable that are no lost positions, and tell. Raises FatalError as ``notice`` does."""
        await self._gaps.record(gaps)
        self._enforce({gap.table for gap in gaps})

    def _enforce(self, tables: Collection[str]) -> None:
        """Stop unless every open gap of these tables can be made good, and someone wants that."""
        gaps = (gap for gap in self._gaps.unaccepted() if gap.table in tables)
        self._policy.enforce(gaps, self._requests.tables())

    def recovering(self, source: SourceId) -> bool:
        """Whether a table of ``source`` has an open gap: then all that the source still holds is read."""
        tables = self._policy.tables.get(source, ())
        return any(gap.table in tables for gap in self._gaps.unaccepted())

    def gaps(self, table: str) -> list[Gap]:
        """The table's open gaps that a snapshot has to close."""
        return [gap for gap in self._gaps.unaccepted() if gap.table == table]

    def request(self, table: str) -> Request | None:
        """The newest request for a snapshot of a table that no one has answered."""
        return self._requests.newest(table)

    def wanted(self, table: str) -> asyncio.Event:
        """Set whenever there may be a reason for another snapshot of a table; the waiter clears it."""
        return self._wanted.setdefault(table, asyncio.Event())

    async def completed(self, snapshot: Snapshot) -> None:
        """Close what a complete snapshot has made good: gaps that end before its coverage, requests up to its own.

        Raises FatalError when the snapshot may be lost.
        """
        closed, done = self._gaps.closed_by(snapshot), self._requests.answered(snapshot)
        if not closed and not done:
            return
        now = await self._retry(self._store.server_time)

        async def close() -> None:
            await self._still_there()  # at each attempt: between two of them the snapshot may have been lost
            await self._store.save_gaps(closed, recovered_at=now)
            await self._store.finish_requests(done, now)

        await self._retry(close)
        self._gaps.close(closed, snapshot)
        self._requests.close(done, snapshot)

    async def poll(self) -> None:
        """Look for requests, and for the gaps that other processes have noticed, until cancelled.

        Those are other members, and a process that was replaced while it was frozen: it may note one before it ends.

        Raises FatalError for a gap that may not, or cannot, be made good.
        """
        with self._health.task("requests") as task:
            while True:
                task.waiting_for("the next look at requests", for_seconds=REQUEST_POLL_SECONDS)
                await asyncio.sleep(REQUEST_POLL_SECONDS)
                task.waiting_for("ClickHouse to show the requests")
                requests = await self._retry(self._store.open_requests)
                self._take(requests)
                await self._adopt(requests)
                task.moved()

    def _take(self, requests: Sequence[Request]) -> None:
        for table in self._requests.add(requests):
            self.wanted(table).set()

    async def _adopt(self, requests: Sequence[Request]) -> None:
        """Take up what other processes have noticed; except in member 0, forget what member 0 has closed."""
        follows = not self._membership.assignment.is_leader
        if follows:
            self._requests.keep({request.id for request in requests})
        await self._gaps.adopt(closed_elsewhere=follows)
        self._enforce(self._policy.all_tables)

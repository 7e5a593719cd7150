"""Recovery: a loss is recorded and reported before anything else happens, until a snapshot has repaired it.

It decides whether the pipeline may go on after a loss; it reads nothing and loads nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from dyncdc.errors import FatalError
from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.reading.lineage import LostPosition
from dyncdc.pipeline.runtime import Instruments, Retrier

from .gaps import closes, gaps_of, in_words, joined, last_covered, missed_since

T = TypeVar("T")

REQUEST_POLL_SECONDS = 2.0
"""Pause between two looks for requests: one small query."""


async def _nothing() -> None:
    return None


class SourceLostError(FatalError):
    """A stream that was read is gone forever, and its gap is durable. Another session can read what took its place."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be done about a loss, by DynamoDB table.

    ``tables``: what each source carries. ``unrepeatable``: why a table cannot be loaded again, where it cannot.
    ``destinations``: UUIDs of the tables that are loaded; one that no snapshot was begun for has nothing to lose.
    ``created``: when DynamoDB made the tables, in seconds since the epoch.
    """

    on_lost_position: Literal["resnapshot", "stop"] = "stop"
    tables: Mapping[SourceId, Sequence[str]] = field(default_factory=dict)
    unrepeatable: Mapping[str, str] = field(default_factory=dict)
    destinations: Mapping[str, str] = field(default_factory=dict)
    created: Mapping[str, float] = field(default_factory=dict)
    empty: Collection[str] = ()
    """Tables whose destination holds no rows."""


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
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._retrier = Retrier(instruments, "recovery", "recovery", first_seconds=0.5)
        self._gaps: dict[tuple[str, str, str, int], Gap] = {}
        self._recovered: dict[tuple[str, str, str, int], float] = {}
        """Gaps that this session has closed, and where they ended: a look that was under way may still show them."""
        self._requests: dict[str, Request] = {}
        self._closed: set[str] = set()
        """Requests that are done or ignored: a look that was under way may still show them."""
        self._wanted: dict[str, asyncio.Event] = {}
        self._still_there: Callable[[], Awaitable[None]] = _nothing
        self._followed: dict[str, TableSource] = {}
        self._followed_before: frozenset[str] = frozenset()
        self._covered: dict[str, float] = {}

    async def begin(self, sources: Sequence[Source], snapshots: SnapshotStore, checkpointer: Checkpointer) -> None:
        """Find what was lost between the last session and this one. Once, after the checkpoints and before any reading.

        Raises FatalError when a loss may not, or cannot, be made good.
        """
        self._still_there = partial(checkpointer.check_ownership, ())
        self._gaps = {gap.key: gap for gap in await self._retry(self._store.open_gaps)}
        self._take(await self._retry(self._store.open_requests))
        before = {row.table: row for row in await self._retry(self._store.table_sources)}
        self._followed_before = frozenset(before)
        if any(not checkpointer.saved(row.source) for row in before.values()):
            # Another process may have begun, saved and said so since we have loaded the checkpoints.
            await self._retry(checkpointer.load_again)
        known = await self._retry(snapshots.load) if before else ()
        begun = {(snapshot.table, snapshot.destination_uuid) for snapshot in known}
        # Nothing is asked of AWS before the positions in the stream are saved.
        held = {snapshot.table for snapshot in known if snapshot.export_arn}
        loaded = {(snapshot.table, snapshot.destination_uuid) for snapshot in known if snapshot.covered_from}
        gaps: list[Gap] = []
        followed: list[TableSource] = []
        for source in sources:
            for table in self._policy.tables.get(source.id, ()):
                same = table in before and before[table].source == source.id
                was_held = same and before[table].held
                uuid = self._policy.destinations.get(table)
                if same and (table, uuid) in loaded:
                    self._covered[table] = last_covered(before[table], checkpointer.saved(source.id))
                # A row of a later session: we were frozen between two reads and are replaced; what we know is old.
                stale = table in before and before[table].epoch > checkpointer.epoch
                empty = self._empty(table, uuid or "", before.get(table))
                followed.append(TableSource(table, source.id, checkpointer.epoch, source.server_time, was_held, empty))
                if table in before and not stale and (uuid is None or (table, uuid) in begun):
                    newest, marks = checkpointer.newest_epoch(source.id), checkpointer.saved(before[table].source)
                    gaps += missed_since(
                        replace(before[table], held=before[table].held or table in held),
                        source.id,
                        newest,
                        marks,
                        source.server_time,
                        self._policy.created.get(table, 0.0),
                    )
        await self._record(gaps)
        self._enforce({row.table for row in followed})
        await self._retry(lambda: self._store.save_table_sources(followed))
        self._followed = {row.table: row for row in followed}

    def covered(self, table: str) -> float:
        """Up to when, at least, a table sent its changes to the stream in former sessions; 0 if that is unknown."""
        return self._covered.get(table, 0.0)

    def _empty(self, table: str, uuid: str, before: TableSource | None) -> str:
        """The destination's UUID if it held no rows when someone first followed the table into it."""
        return uuid if table in self._policy.empty or (before is not None and before.empty == uuid) else ""

    def was_empty(self, table: str, uuid: str) -> bool:
        """Whether a destination held no rows before this pipeline: what another member has written since is ours."""
        row = self._followed.get(table)
        return row is not None and row.empty == uuid

    def was_followed(self, table: str) -> bool:
        """Whether an earlier session may have written changes of the table.

        No one knows of changes that never reached the stream between two sessions that had loaded nothing yet. Of
        several members any may be the first.
        """
        return table in self._followed_before and not self._membership.assignment.shared

    def was_checkpointed(self, source: SourceId) -> bool:
        """Whether all that a source held has been followed before: what is missing since is a loss."""
        return any(row.held for row in self._followed.values() if row.source == source)

    async def checkpointed(self, source: SourceId) -> None:
        """Remember that every shard of a source has a durable position."""
        rows = [replace(row, held=True) for row in self._followed.values() if row.source == source and not row.held]
        if rows:
            await self._retry(lambda: self._store.save_table_sources(rows))
            self._followed.update((row.table, row) for row in rows)

    async def notice(self, source: Source, lost: Sequence[LostPosition], end: float | None = None) -> None:
        """Make lost positions durable as gaps, and tell. Only after it has returned may reading go on elsewhere.

        ``end``: up to when changes were lost; up to now where that is not known. What a shard goes on to lose is one
        gap. Raises FatalError when the loss may not, or cannot, be made good.
        """
        tables, now = self._policy.tables.get(source.id, ()), source.server_time
        known = list(self._gaps.values())
        found = [joined(gap, known, now) for gap in gaps_of(tables, source.id, lost, now if end is None else end)]
        await self._record([gap for gap in found if gap is not None])
        self._enforce(tables)

    async def missed(self, gaps: Sequence[Gap]) -> None:
        """Make gaps durable that are no lost positions, and tell. Raises FatalError as ``notice`` does."""
        await self._record(gaps)
        self._enforce({gap.table for gap in gaps})

    async def _record(self, gaps: Sequence[Gap]) -> None:
        if not gaps:
            return
        now = await self._retry(self._store.server_time)
        stamped = [
            replace(gap, noticed_at=self._gaps[gap.key].noticed_at if gap.key in self._gaps else now) for gap in gaps
        ]
        await self._retry(lambda: self._store.save_gaps(stamped))
        for gap in stamped:
            if gap.key not in self._gaps:
                self._metrics.gaps.labels(gap.table).inc()
                self._health.log_error(
                    "position lost", table=gap.table, shard=gap.shard, position=gap.position, gap=in_words(gap)
                )
            self._gaps[gap.key] = gap
            self.wanted(gap.table).set()

    def _enforce(self, tables: Collection[str]) -> None:
        """Stop unless every open gap of these tables can be made good, and someone wants that."""
        for gap in self._gaps.values():
            if gap.table not in tables or gap.accepted:
                continue
            why_not = self._policy.unrepeatable.get(gap.table)
            if why_not is not None:
                raise FatalError(
                    f"{in_words(gap)}; a fresh snapshot would bring them, but {why_not}",
                    hint='set snapshot.method = "export" with a bucket, or "scan"; or go on without them under another'
                    " `pipeline` name",
                )
            if self._policy.on_lost_position == "stop" and self.request(gap.table) is None:
                raise FatalError(
                    in_words(gap),
                    hint=f"run `dyncdc snapshot {gap.table}` and start again,"
                    ' or set kinesis.on_lost_position = "resnapshot"',
                )

    def recovering(self, source: SourceId) -> bool:
        """Whether a table of ``source`` has an open gap: then all that the source still holds is read."""
        tables = self._policy.tables.get(source, ())
        return any(gap.table in tables and not gap.accepted for gap in self._gaps.values())

    def gaps(self, table: str) -> list[Gap]:
        """The table's open gaps that a snapshot has to close."""
        return [gap for gap in self._gaps.values() if gap.table == table and not gap.accepted]

    def request(self, table: str) -> Request | None:
        """The newest request for a snapshot of a table that no one has answered."""
        if table in self._policy.unrepeatable:
            return None
        mine = [request for request in self._requests.values() if request.table == table]
        return max(mine, key=lambda request: (request.requested_at, request.id), default=None)

    def wanted(self, table: str) -> asyncio.Event:
        """Set whenever there may be a reason for another snapshot of a table; the waiter clears it."""
        return self._wanted.setdefault(table, asyncio.Event())

    async def completed(self, snapshot: Snapshot) -> None:
        """Close what a complete snapshot has made good: gaps that end before its coverage, requests up to its own.

        Raises FatalError when the snapshot may be lost.
        """
        healed = [
            gap
            for gap in self._gaps.values()
            if gap.table == snapshot.table and closes(snapshot, gap) and gap.source != snapshot.export_arn
        ]
        answered = self._requests.get(snapshot.request)
        done = [
            request
            for request in self._requests.values()
            if answered is not None
            and request.table == snapshot.table
            and (request.requested_at, request.id) <= (answered.requested_at, answered.id)
        ]
        if not healed and not done:
            return
        now = await self._retry(self._store.server_time)

        async def close() -> None:
            await self._still_there()  # at each attempt: between two of them the snapshot may have been lost
            await self._store.save_gaps(healed, recovered_at=now)
            await self._store.finish_requests(done, now)

        await self._retry(close)
        for gap in healed:
            self._recovered[gap.key] = gap.end
            if self._gaps.get(gap.key) != gap:
                continue  # it has gone on meanwhile: another snapshot has to close the rest
            del self._gaps[gap.key]
            self._health.log_info("gap recovered", table=gap.table, shard=gap.shard, snapshot=snapshot.id)
        for request in done:
            del self._requests[request.id]
            self._closed.add(request.id)
            self._health.log_info(
                "snapshot request done", table=request.table, request=request.id, snapshot=snapshot.id
            )

    async def poll(self) -> None:
        """Look for requests, and for the gaps that other members have noticed, until cancelled.

        Raises FatalError for a gap that may not, or cannot, be made good.
        """
        with self._health.task("requests") as task:
            while True:
                task.waiting_for("the next look at requests", for_seconds=REQUEST_POLL_SECONDS)
                await asyncio.sleep(REQUEST_POLL_SECONDS)
                task.waiting_for("ClickHouse to show the requests")
                requests = await self._retry(self._store.open_requests)
                self._take(requests)
                if self._membership.assignment.shared:
                    self._forget({request.id for request in requests})
                    await self._adopt()
                task.moved()

    async def _adopt(self) -> None:
        """Take up what the other members have noticed; where member 0 closes gaps, let go of what it has closed."""
        before = set(self._gaps)
        gaps = {gap.key: gap for gap in await self._retry(self._store.open_gaps)}
        for gap in gaps.values():
            mine = self._gaps.get(gap.key)
            if (mine is None or mine.end < gap.end) and self._recovered.get(gap.key, -1.0) < gap.end:
                self._gaps[gap.key] = gap
                self.wanted(gap.table).set()
        if not self._membership.assignment.is_leader:
            for key in before - gaps.keys():
                self._gaps.pop(key, None)
        self._enforce({table for tables in self._policy.tables.values() for table in tables})

    def _forget(self, still_open: Collection[str]) -> None:
        """Let go of requests that member 0 has answered."""
        if not self._membership.assignment.is_leader:
            for id_ in self._requests.keys() - still_open:
                del self._requests[id_]

    def _take(self, requests: Sequence[Request]) -> None:
        known = {table for tables in self._policy.tables.values() for table in tables}
        for request in requests:
            if request.id in self._requests or request.id in self._closed or request.table not in known:
                continue
            why_not = self._policy.unrepeatable.get(request.table)
            if why_not is not None:
                self._closed.add(request.id)
                self._health.log_info(
                    "snapshot request ignored", table=request.table, request=request.id, reason=why_not
                )
                continue
            self._requests[request.id] = request
            self._health.log_info("snapshot requested", table=request.table, request=request.id)
            self.wanted(request.table).set()

    async def _retry(self, operation: Callable[[], Awaitable[T]]) -> T:
        with self._health.task("recovery") as task:  # health sees it, whatever waits for it
            task.waiting_for("ClickHouse to show or take gaps and requests")
            return await self._retrier(operation)

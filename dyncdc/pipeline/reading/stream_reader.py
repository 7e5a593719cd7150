"""Stream reader: discovers the shards of one stream and has each read when its turn comes.

Parents before children, nothing skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dyncdc.errors import PositionLostError, RetryableError
from dyncdc.model import HORIZON, Mark, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.reading.shard_reader import ReadOptions
from dyncdc.pipeline.recovery.gaps import lost_with_source
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.runtime import Backoff
from dyncdc.pipeline.services import Services, StreamTask

from .lineage import LostPosition, lost_positions, ready, unread_parents
from .reader_pool import ReaderPool
from .retention_edge import Hole
from .shard_reader import ShardReader

LIST_INTERVAL_SECONDS = 30.0
"""The safety net: children are named by the last answer of their parent, so a list finds only what that missed."""


class StreamReader:
    """One stream. Discovery is incremental: what was listed stands, what failed is listed again."""

    def __init__(
        self,
        stream: StreamTask,
        readers: ReaderPool,
        services: Services,
        *,
        list_interval_seconds: float = LIST_INTERVAL_SECONDS,
    ) -> None:
        self.source = source = stream.source
        self._stream = stream
        self._readers = readers
        self._instruments = services.instruments
        self._checkpointer = checkpointer = services.checkpointer
        self._membership = membership = services.membership
        self._recovery = recovery = services.recovery
        self._list_interval_seconds = list_interval_seconds
        self._listed: dict[ShardId, Shard] = {}
        self._named: set[ShardId] = set()
        """Children named by a parent's last answer that no list has shown yet."""
        self._read: set[ShardId] = set()
        """Shards read to their end; they are not read again while that waits to be persisted."""
        self._complete = False
        """Whether a list that is younger than every known shard was read to its last page."""
        self._list_now = True
        self._wake = asyncio.Event()
        # After a loss all that is still there is read, whatever start is configured.
        self._fresh = self._begins_here() and not recovery.recovering(source.id)
        self._suspects: dict[ShardId, PositionLostError] = {}
        """Shards whose reading failed because their position is lost, until a list has shown what became of them."""
        self._restarted_at: dict[ShardId, float] = {}
        self._unnamed_at = float("-inf")
        """Loop time at which a shard last ended without a word of its children: only a list tells them."""
        self._claimed: dict[ShardId, float] = {}
        """What the first row that was seen of another member's shard said: perhaps no more than where it starts."""
        self.held = asyncio.Event()
        """Set while every listed shard has a row in the checkpoints: from then on nothing can be missed."""
        self.listed_at = float("-inf")
        """Loop time at which the last complete list was begun."""
        checkpointer.watched.add(source.id)
        checkpointer.on_saved(self._wake.set)
        checkpointer.on_ended_elsewhere(self._ended_elsewhere)
        membership.on_seen(self._wake.set)

    def _begins_here(self) -> bool:
        """Whether the source was never read: by this member, where others have begun before it."""
        saved = self._checkpointer.saved(self.source.id)
        if not self._membership.assignment.shared or self._recovery.was_checkpointed(self.source.id):
            return not saved
        return not any(self._owns(Shard(self.source.id, shard)) for shard in saved)

    def _owns(self, shard: Shard) -> bool:
        return self._membership.assignment.owns(shard)

    def _ended_elsewhere(self, sources: Collection[SourceId]) -> None:
        """Only the list tells which children other members' shards have left to us."""
        if self.source.id in sources:
            self.relist()

    def relist(self) -> None:
        """List the shards now."""
        self._list_now = True
        self._wake.set()

    @property
    def _name(self) -> str:
        return f"discovery:{self.source.label}"

    async def run(self) -> None:
        """Discover and release until cancelled.

        Raises SourceLostError when the source itself is gone, FatalError for a loss that may not be made good.
        """
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=0.2)
        next_list = loop.time()  # the first list is due
        pause_seconds = 0.0
        with self._instruments.health.task(self._name) as task:
            while True:
                self._wake.clear()
                if self._list_now or loop.time() >= next_list:
                    task.waiting_for("the list of shards")
                    try:
                        await self._discover()
                        backoff.reset()
                        pause_seconds = self._list_interval_seconds
                    except RetryableError as error:
                        pause_seconds = backoff.next_seconds()
                        self._instruments.metrics.retry("discovery", error)
                        self._instruments.health.log_retry(self._name, error, pause_seconds)
                    next_list = loop.time() + pause_seconds
                self._release()
                if self.held.is_set():
                    await self._recovery.checkpointed(self.source.id)
                if not backoff.failures:  # without an answer about shards nothing moves, however often it asks
                    task.moved()
                task.waiting_for("the next list of shards", for_seconds=pause_seconds)
                try:
                    async with asyncio.timeout_at(next_list):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _discover(self) -> None:
        begun = asyncio.get_running_loop().time()
        seen: set[ShardId] = set()
        held_before = self._recovery.was_checkpointed(self.source.id)
        known = self._checkpointer.known_shards(self.source.id) if held_before else set()
        self._complete = self._list_now = False
        try:
            async for page in self.source.list_shards():
                for shard in page:
                    seen.add(shard.id)
                    self._listed[shard.id] = shard
                if not self._fresh or self._starts_at_horizon():
                    self._follow(but=self._unread_parents(known).values() if known else ())
                    self._release()
        except PositionLostError as error:
            await self._lose_everything(error)
        # A child that no list has shown is believed to be there, until its reading fails for the second time.
        self._named -= seen | (self._suspects.keys() & self._restarted_at.keys())
        self._read -= set(self._checkpointer.finished(self.source.id))
        elsewhere = self._read_elsewhere()
        for other in elsewhere:  # listed no more, but its reader is not done: its children wait
            self._listed.setdefault(other, Shard(self.source.id, other))
        present = seen | self._named | self._read | self._readers.running(self.source.id) | elsewhere
        for gone in self._listed.keys() - present:
            del self._listed[gone]
        await self._give_up_lost(self._lost(present, known))
        self._complete = not self._list_now
        if self._complete:
            self.listed_at = begun
        self._follow()

    def _read_elsewhere(self) -> set[ShardId]:
        """Shards that other members have begun and not finished. Only they can say that one is lost."""
        finished = self._checkpointer.finished(self.source.id)
        return {
            shard
            for shard in self._checkpointer.saved(self.source.id)
            if shard not in finished and not self._owns(Shard(self.source.id, shard))
        }

    def _unread_parents(self, known: Collection[ShardId]) -> dict[ShardId, ShardId]:
        """Shards that came and went unread. The owner of a child that names one notices."""
        others = {shard.id for shard in self._listed.values() if not self._owns(shard)}
        return unread_parents(self._listed, {*known, *others})

    def _starts_at_horizon(self) -> bool:
        """Whether shards may be followed before the list is complete: nothing depends on which were there first."""
        return all(self.source.start_position(shard) == HORIZON for shard in self._listed.values())

    async def _give_up_lost(self, lost: Sequence[LostPosition]) -> None:
        """Look at every position once a list is complete; go on elsewhere where one is lost, after its gap is durable.

        A shard that is still there is read from its horizon. One that is gone counts as finished, so that its children
        need not wait for it.
        """
        if not lost:
            return
        # One that was frozen and replaced finds everything lost.
        await self._checkpointer.check_ownership({(self.source.id, loss.shard) for loss in lost})
        await self._recovery.notice(self.source, lost)
        self.held.clear()
        for loss in lost:
            await self._readers.stop(self.source.id, loss.shard)
            self._suspects.pop(loss.shard, None)
            shard = self._listed.get(loss.shard, Shard(self.source.id, loss.shard))
            there = loss.shard in self._listed
            mark = Mark(HORIZON, self.source.server_time) if there else replace(loss.mark, finished=True)
            self._checkpointer.restart(shard, mark)
            self._restarted_at[loss.shard] = asyncio.get_running_loop().time()

    def _lost(self, present: Collection[ShardId], known: Collection[ShardId]) -> list[LostPosition]:
        marks = dict(self._checkpointer.saved(self.source.id))
        for (source, shard), ledger in self._checkpointer.ledgers.items():
            if source == self.source.id:
                marks[shard] = ledger.frontier
        for shard in (*self._checkpointer.finished(self.source.id), *self._read, *self._read_elsewhere()):
            marks.pop(shard, None)
        judged = {shard: self._read_so_far(shard, mark) for shard, mark in marks.items()}
        # What is with the writer has not expired, but may be lost with this process: the gap begins at what is durable.
        lost = {loss.shard: replace(loss, mark=marks[loss.shard]) for loss in self._expired(judged, present)}
        for shard, error in self._suspects.items():
            if shard in marks and shard not in lost:
                lost[shard] = LostPosition(shard, marks[shard], str(error))
        if known:  # else the source was never held before, and nothing of it is missed
            latest = max((mark.read_until for mark in self._checkpointer.saved(self.source.id).values()), default=0.0)
            for shard, child in self._unread_parents(known).items():
                reason = f"it came and went unread; its child {child} names it"
                lost[shard] = LostPosition(shard, Mark(HORIZON, latest), reason)
        return list(lost.values())

    def _read_so_far(self, shard: ShardId, frontier: Mark) -> Mark:
        """What has been read and waits for ClickHouse cannot expire any more; who reads on notices what does."""
        shard_reader = self._readers.shard_readers.get((self.source.id, shard))
        if shard_reader is None:
            return frontier
        reading = shard_reader.is_reading(asyncio.get_running_loop().time())
        until = self.source.server_time if reading else shard_reader.put_until
        return replace(frontier, read_until=max(frontier.read_until, until))

    async def _fell_off(self, shard: Shard, mark: Mark, hole: Hole) -> None:
        """A shard was read so slowly that records of it expired: write that down before it is read on."""
        await self._checkpointer.check_ownership({(self.source.id, shard.id)})
        reason = "it was read more slowly than it was written, or its retention was decreased, until records expired"
        await self._recovery.notice(self.source, [LostPosition(shard.id, mark, reason)], hole.end)

    def _expired(self, marks: Mapping[ShardId, Mark], present: Collection[ShardId]) -> list[LostPosition]:
        retention_seconds = self.source.retention_seconds
        if retention_seconds is None:
            return []
        now = self.source.server_time
        return list(lost_positions(marks, present, retention_seconds=retention_seconds, now=now))

    async def _lose_everything(self, error: PositionLostError) -> None:
        """The source is gone: write down what that costs. What has taken its place is for another session to read."""
        marks = self._checkpointer.positions(self.source.id)
        mine = {shard: mark for shard, mark in marks.items() if self._owns(Shard(self.source.id, shard))}
        await self._checkpointer.check_ownership({(self.source.id, shard) for shard in mine})
        lost = lost_with_source(mine, str(error))
        await self._recovery.notice(self.source, lost)
        raise SourceLostError(str(error), hint=error.hint) from error

    def _suspect(self, shard: ShardId, error: PositionLostError) -> None:
        """Have the list looked at: the shard or the whole stream may be gone. At once, but not over and over."""
        self._suspects[shard] = error
        since = asyncio.get_running_loop().time() - self._restarted_at.get(shard, float("-inf"))
        if since > self._list_interval_seconds:
            self._list_now = True
            self._wake.set()

    def _follow(self, but: Collection[ShardId] = ()) -> None:
        """Give every listed shard its row. A fresh source starts as configured, all else at the horizon.

        ``but``: shards that reveal a loss get theirs only after the loss is recorded, or it would be forgotten.
        """
        saved = self._checkpointer.saved(self.source.id)
        finished = self._checkpointer.finished(self.source.id)
        for shard in self._listed.values():
            if shard.id in finished or shard.id in but or not self._owns(shard):
                continue
            mark = saved.get(shard.id)
            if mark is None:
                mark = self._first_mark(shard)
            self._readers.follow(shard, mark)

    def _first_mark(self, shard: Shard) -> Mark:
        """Where a new shard begins. One whose parents ended long ago may have lost its first records unread.

        A child of what another member has begun is read from its beginning, like every child.
        """
        if self._fresh and not shard.parents & self._checkpointer.saved(self.source.id).keys():
            return Mark(self.source.start_position(shard), self.source.server_time)
        ends = [self._checkpointer.read_until(self.source.id, parent) for parent in shard.parents]
        return Mark(HORIZON, min((end for end in ends if end), default=self.source.server_time))

    def _release(self) -> None:
        """Start every shard whose turn has come. Starts beyond the horizon are saved before the first read."""
        if self._complete and self._checkpointer.checkpointed(self.source.id):
            self._fresh = False
            if self._held_elsewhere():
                self.held.set()
        finished = self._checkpointer.finished(self.source.id)
        busy = self._readers.running(self.source.id) | self._read | self._suspects.keys()
        for shard in ready(self._listed, finished, busy, complete=self._complete):
            ledger = self._checkpointer.ledgers.get((shard.source, shard.id))
            if ledger is None or (ledger.persisted is None and ledger.frontier.position != HORIZON):
                continue
            # Before the first read: Kinesis would go on at the horizon without a word, and the loss would not show.
            if self._expired({shard.id: ledger.frontier}, {shard.id}):
                continue
            self._readers.start(
                self.source,
                shard,
                self._stream.decoder,
                ReadOptions(on_hole=self._fell_off, unusable=self._stream.unusable),
                self._ended,
                self._suspect,
            )

    def _ended(self, last: RawChunk | None) -> None:
        """Take up the children that the last answer named; they start when their parents are persisted as finished."""
        if last is not None:
            self._read.add(last.shard.id)
            if not last.children:
                self._unnamed_at = asyncio.get_running_loop().time()
            for child in last.children:
                self._name_child(child, last.read_until)
        self._wake.set()

    def _name_child(self, child: Shard, read_until: float) -> None:
        if child.id not in self._listed:
            self._named.add(child.id)
            self._listed[child.id] = child
        # A child may be finished while its parent is read again: nothing would ever read it, and all would wait for it.
        if self._owns(child) and child.id not in self._checkpointer.finished(self.source.id):
            self._readers.follow(child, Mark(HORIZON, read_until))
        if child.parents - self._listed.keys() - set(self._checkpointer.finished(self.source.id)):
            # The other parent of a merge may be younger than our last list, and not expired at all.
            self._complete, self._list_now = False, True

    def read_past(self, instant: float) -> bool:
        """Whether all that the source held before ``instant`` (seconds, server clock) is durable in the destination."""
        mine = [ledger for (source, _), ledger in self._checkpointer.ledgers.items() if source == self.source.id]
        if not self.held.is_set() or self.pending() or not all(ledger.read_until > instant for ledger in mine):
            return False
        saved = self._checkpointer.saved(self.source.id)
        return self._held_elsewhere() and all(saved[shard].read_until > instant for shard in self._read_elsewhere())

    def complete_until(self) -> float | None:
        """Up to when (arrival, server clock) all is durable that this member answers for; None while that is unknown.

        That is every unfinished shard, those of other members included: their owners may not know them yet.
        """
        if not self.held.is_set() or self.listed_at < self._unnamed_at:
            return None
        # An unread child says nothing, and its parent nothing about it: the tip of a shard that was closed long ago
        # looks like that of an open one.
        bounds = [self._durable_until(shard) for shard in self._listed.values() if not self._done(shard.id)]
        known = [bound for bound in bounds if bound]
        return min(known) if known and len(known) == len(bounds) else None

    def _done(self, shard: ShardId) -> bool:
        ledger = self._checkpointer.ledgers.get((self.source.id, shard))
        return shard in self._checkpointer.finished(self.source.id) or (ledger is not None and ledger.frontier.finished)

    def _durable_until(self, shard: Shard) -> float | None:
        """Up to when a shard has been read and saved. None before that: a start may claim more."""
        if self._owns(shard):
            ledger = self._checkpointer.ledgers.get((shard.source, shard.id))
            return None if ledger is None else ledger.read_until or None
        saved = self._checkpointer.saved(shard.source).get(shard.id)
        if saved is None:
            return None
        first = self._claimed.setdefault(shard.id, saved.read_until)
        return saved.read_until if saved.read_until > first else None

    def shard_readers(self) -> list[ShardReader]:
        """Running readers of this stream."""
        return [
            shard_reader
            for (source, _), shard_reader in self._readers.shard_readers.items()
            if source == self.source.id
        ]

    def pending(self) -> bool:
        """Whether a listed shard of this member is neither finished nor being read, or others wait for its end."""
        finished = set(self._checkpointer.finished(self.source.id))
        running = self._readers.running(self.source.id)
        awaited = {parent for shard in self.elsewhere() for parent in shard.parents}
        waiting = [
            shard
            for shard in self._listed.values()
            if shard.id not in finished and self._owns(shard) and (shard.id not in running or shard.id in awaited)
        ]
        return any(not self._never_ready(shard) for shard in waiting)

    def _never_ready(self, shard: Shard) -> bool:
        """Whether a parent's owner has ended in order (``--once``) before the parent had: it is beyond the tip.

        What it had saved before it said so is known only to a look that was begun after that.
        """
        finished = self._checkpointer.finished(self.source.id)
        return self._checkpointer.looked_at > self._membership.looked_at and any(
            not self._membership.assignment.owns(Shard(self.source.id, parent))
            and self._membership.owner_left(self.source.id, parent)
            for parent in shard.parents - set(finished)
        )

    def elsewhere(self) -> list[Shard]:
        """Shards of other members that are not finished, as far as is known here."""
        finished = self._checkpointer.finished(self.source.id)
        return [shard for shard in self._listed.values() if shard.id not in finished and not self._owns(shard)]

    def _held_elsewhere(self) -> bool:
        """Whether all other members are there, follow the same tables, and have a row for each of their shards."""
        rows = self._checkpointer.saved(self.source.id).keys()
        return self._membership.all_follow(self._stream.tables) and all(shard.id in rows for shard in self.elsewhere())

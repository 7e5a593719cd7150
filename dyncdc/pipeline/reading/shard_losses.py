"""ShardLosses: which positions of a stream are lost. Each is durable, as a gap, before anything is read past it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dyncdc.errors import PositionLostError
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, Shard, ShardId
from dyncdc.pipeline.reading.shard.retention.edge import Hole
from dyncdc.pipeline.recovery.gaps import lost_with_source
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.session.services import Services

from .lineage import LostPosition, lost_positions
from .reader_pool import ReaderPool
from .shard_listing import ShardListing


class ShardLosses:
    """The losses of one stream. ``held`` is cleared when a position is given up."""

    def __init__(
        self,
        listing: ShardListing,
        held: asyncio.Event,
        readers: ReaderPool,
        services: Services,
        list_interval_seconds: float,
    ) -> None:
        self._source = listing.source
        self._listing = listing
        self._held = held
        self._readers = readers
        self._progress = services.checkpointer.progress
        self._ownership = services.checkpointer.ownership
        self._recovery = services.recovery
        self._list_interval_seconds = list_interval_seconds
        self.suspects: dict[ShardId, PositionLostError] = {}
        """Shards whose reading failed because their position is lost, until a list has shown what became of them."""
        self._restarted_at: dict[ShardId, float] = {}

    def suspect(self, shard: ShardId, error: PositionLostError) -> None:
        """Have the list looked at: the shard or the whole stream may be gone. At once, but not over and over."""
        self.suspects[shard] = error
        since = asyncio.get_running_loop().time() - self._restarted_at.get(shard, float("-inf"))
        if since > self._list_interval_seconds:
            self._listing.relist()

    def failed_twice(self) -> set[ShardId]:
        """Shards whose reading failed again after they were given up once."""
        return self.suspects.keys() & self._restarted_at.keys()

    def find(self, present: Collection[ShardId], known: Collection[ShardId]) -> list[LostPosition]:
        """Return what is lost, given all shards that are ``present``.

        ``known``: every shard that ever had a row; empty where the stream was never held before.
        """
        saved, listing = self._progress.saved(self._source.id), self._listing
        marks = dict(saved)
        for (source, shard), ledger in self._progress.ledgers.items():
            if source == self._source.id:
                marks[shard] = ledger.frontier
        for shard in (*self._progress.finished(self._source.id), *listing.read, *listing.read_elsewhere()):
            marks.pop(shard, None)
        judged = {shard: self._read_so_far(shard, mark) for shard, mark in marks.items()}
        # What is with the writer has not expired, but may be lost with this process: the gap begins at what is durable.
        lost = {loss.shard: replace(loss, mark=marks[loss.shard]) for loss in self.expired(judged, present)}
        for shard, error in self.suspects.items():
            if shard in marks and shard not in lost:
                lost[shard] = LostPosition(shard, marks[shard], str(error))
        if known:  # else the source was never held before, and nothing of it is missed
            latest = max((mark.read_until for mark in saved.values()), default=0.0)
            for shard, child in listing.unread_parents(known).items():
                reason = f"it came and went unread; its child {child} names it"
                lost[shard] = LostPosition(shard, Mark(HORIZON, latest), reason)
        return list(lost.values())

    def _read_so_far(self, shard: ShardId, frontier: Mark) -> Mark:
        """What has been read and waits for ClickHouse cannot expire any more; its reader notices what does."""
        shard_reader = self._readers.shard_readers.get((self._source.id, shard))
        if shard_reader is None:
            return frontier
        reading = shard_reader.progress.is_reading(asyncio.get_running_loop().time())
        until = self._source.server_time if reading else shard_reader.progress.put_until
        return replace(frontier, read_until=max(frontier.read_until, until))

    def expired(self, marks: Mapping[ShardId, Mark], present: Collection[ShardId]) -> list[LostPosition]:
        """Return which of ``marks`` can not be read from any more."""
        retention_seconds = self._source.retention_seconds
        if retention_seconds is None:
            return []
        now = self._source.server_time
        return list(lost_positions(marks, present, retention_seconds=retention_seconds, now=now))

    async def give_up(self, lost: Sequence[LostPosition]) -> None:
        """Go on elsewhere where a position is lost, after its gap is durable. Only once a list is complete.

        A shard that is still there is read from its horizon. One that is gone counts as finished, so that its children
        need not wait for it.
        """
        if not lost:
            return
        # One that was frozen and replaced finds everything lost.
        await self._ownership.check({(self._source.id, loss.shard) for loss in lost})
        await self._recovery.notice(self._source, lost)
        self._held.clear()
        for loss in lost:
            await self._readers.stop(self._source.id, loss.shard)
            self.suspects.pop(loss.shard, None)
            there = loss.shard in self._listing.shards
            shard = self._listing.shards.get(loss.shard, Shard(self._source.id, loss.shard))
            mark = Mark(HORIZON, self._source.server_time) if there else replace(loss.mark, finished=True)
            self._progress.restart(shard, mark)
            self._restarted_at[loss.shard] = asyncio.get_running_loop().time()

    async def give_up_source(self, error: PositionLostError) -> None:
        """The source is gone: write down what that costs. What has taken its place is for another session to read."""
        marks = self._progress.positions(self._source.id)
        mine = {shard: mark for shard, mark in marks.items() if self._listing.owns(Shard(self._source.id, shard))}
        await self._ownership.check({(self._source.id, shard) for shard in mine})
        await self._recovery.notice(self._source, lost_with_source(mine, str(error)))
        raise SourceLostError(str(error), hint=error.hint) from error

    async def fell_off(self, shard: Shard, mark: Mark, hole: Hole) -> None:
        """A shard was read so slowly that records of it expired: write that down before it is read on."""
        await self._ownership.check({(self._source.id, shard.id)})
        reason = "it was read more slowly than it was written, or its retention was decreased, until records expired"
        await self._recovery.notice(self._source, [LostPosition(shard.id, mark, reason)], hole.end)

"""ShardRelease: has each shard of a stream read when its turn comes. Parents before children, nothing skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, RawChunk, Shard, ShardId
from dyncdc.pipeline.session.services import Services, StreamTask

from .completeness import Completeness
from .lineage import ready
from .reader_pool import ReaderPool
from .shard.shard_reader import ReadOptions
from .shard_listing import ShardListing
from .shard_losses import ShardLosses


class ShardRelease:
    """Gives the shards of one stream their rows in the checkpoints, and starts their readers."""

    def __init__(
        self,
        stream: StreamTask,
        listing: ShardListing,
        losses: ShardLosses,
        completeness: Completeness,
        readers: ReaderPool,
        services: Services,
    ) -> None:
        self._source = stream.source
        self._decoder = stream.decoder
        self._options = ReadOptions(on_hole=losses.fell_off, unusable=stream.unusable)
        self._listing = listing
        self._losses = losses
        self._completeness = completeness
        self._readers = readers
        self._progress = services.checkpointer.progress
        # After a loss all that is still there is read, whatever start is configured.
        self.fresh = self._begins_here(services) and not services.recovery.recovering(stream.source.id)

    def _begins_here(self, services: Services) -> bool:
        """Whether the source was never read: by this member, where others have begun before it."""
        saved = self._progress.saved(self._source.id)
        if not services.membership.assignment.shared or services.recovery.was_checkpointed(self._source.id):
            return not saved
        return not any(self._listing.owns(Shard(self._source.id, shard)) for shard in saved)

    def follow(self, but: Collection[ShardId] = ()) -> None:
        """Give every listed shard its row. A fresh source starts as configured, all else at the horizon.

        ``but``: shards that name a loss get theirs only after the loss is written down, or it would be forgotten.
        """
        saved = self._progress.saved(self._source.id)
        finished = self._progress.finished(self._source.id)
        for shard in self._listing.shards.values():
            if shard.id in finished or shard.id in but or not self._listing.owns(shard):
                continue
            mark = saved.get(shard.id)
            if mark is None:
                mark = self._first_mark(shard)
            self._readers.follow(shard, mark)

    def _first_mark(self, shard: Shard) -> Mark:
        """Where a new shard begins. One whose parents ended long ago may have lost its first records unread.

        A child of what another member has begun is read from its beginning, like every child.
        """
        if self.fresh and not shard.parents & self._progress.saved(self._source.id).keys():
            return Mark(self._source.start_position(shard), self._source.server_time)
        ends = [self._progress.read_until(self._source.id, parent) for parent in shard.parents]
        return Mark(HORIZON, min((end for end in ends if end), default=self._source.server_time))

    def release(self) -> None:
        """Start every shard whose turn has come. Starts beyond the horizon are saved before the first read."""
        listing, completeness = self._listing, self._completeness
        if listing.complete and self._progress.checkpointed(self._source.id):
            self.fresh = False
            if completeness.held_elsewhere():
                completeness.held.set()
        finished = self._progress.finished(self._source.id)
        busy = self._readers.running(self._source.id) | listing.read | self._losses.suspects.keys()
        for shard in ready(listing.shards, finished, busy, complete=listing.complete):
            ledger = self._progress.ledgers.get((shard.source, shard.id))
            if ledger is None or (ledger.persisted is None and ledger.frontier.position != HORIZON):
                continue
            # Before the first read: Kinesis would go on at the horizon without a word, and the loss would not show.
            if self._losses.expired({shard.id: ledger.frontier}, {shard.id}):
                continue
            self._readers.start(self._source, shard, self._decoder, self._options, self._ended, self._losses.suspect)

    def _ended(self, last: RawChunk | None) -> None:
        """Take up the children that the last answer named; they start when their parents are persisted as finished."""
        if last is not None:
            self._listing.read.add(last.shard.id)
            if not last.children:
                self._listing.unnamed_at = asyncio.get_running_loop().time()
            for child in last.children:
                self._name_child(child, last.read_until)
        self._listing.wake.set()

    def _name_child(self, child: Shard, read_until: float) -> None:
        listing, finished = self._listing, self._progress.finished(self._source.id)
        if child.id not in listing.shards:
            listing.named.add(child.id)
            listing.shards[child.id] = child
        # A child may be finished while its parent is read again: nothing would ever read it, and all would wait for it.
        if listing.owns(child) and child.id not in finished:
            self._readers.follow(child, Mark(HORIZON, read_until))
        if child.parents - listing.shards.keys() - set(finished):
            # The other parent of a merge may be younger than our last list, and not expired at all.
            listing.complete, listing.list_now = False, True

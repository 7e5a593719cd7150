"""ShardListing: which shards a stream has, as far as its lists and the last answers of parents have shown."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from dyncdc.model.shards import HORIZON, Shard, ShardId, SourceId
from dyncdc.pipeline.checkpoint.shard_progress import ShardProgress
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.ports.source import Source

from .lineage import unread_parents


class ShardListing:
    """The known shards of one stream. ``wake`` is set when its reader has something to do."""

    def __init__(self, source: Source, progress: ShardProgress, assignment: Assignment) -> None:
        self.source = source
        self._progress = progress
        self._assignment = assignment
        self.wake = asyncio.Event()
        self.shards: dict[ShardId, Shard] = {}
        self.named: set[ShardId] = set()
        """Children named by a parent's last answer that no list has shown yet."""
        self.read: set[ShardId] = set()
        """Shards read to their end; they are not read again while that waits to be persisted."""
        self.complete = False
        """Whether a list that is younger than every known shard was read to its last page."""
        self.list_now = True
        self.listed_at = float("-inf")
        """Loop time at which the last complete list was begun."""
        self.unnamed_at = float("-inf")
        """Loop time at which a shard last ended without a word of its children: only a list tells them."""

    def relist(self) -> None:
        """List the shards now."""
        self.list_now = True
        self.wake.set()

    def ended_elsewhere(self, sources: Collection[SourceId]) -> None:
        """Only the list tells which children other members' shards have left to us."""
        if self.source.id in sources:
            self.relist()

    def owns(self, shard: Shard) -> bool:
        """Whether a shard is this member's."""
        return self._assignment.owns(shard)

    def begin(self) -> None:
        """A list is asked for: until it was read to its end, shards may be missing."""
        self.complete = self.list_now = False

    def add(self, page: Sequence[Shard]) -> set[ShardId]:
        """Take one page of a list; return its shards."""
        self.shards.update((shard.id, shard) for shard in page)
        return {shard.id for shard in page}

    def settle(
        self, seen: Collection[ShardId], running: Collection[ShardId], doubted: Collection[ShardId]
    ) -> set[ShardId]:
        """Forget the shards that are gone, now that a list has shown all that it has; return those that are there.

        ``doubted``: a child that no list has shown is believed to be there until its reading fails for the second time.
        """
        self.named -= {*seen, *doubted}
        self.read -= set(self._progress.finished(self.source.id))
        elsewhere = self.read_elsewhere()
        for other in elsewhere:  # listed no more, but its reader is not done: its children wait
            self.shards.setdefault(other, Shard(self.source.id, other))
        present = {*seen, *self.named, *self.read, *running, *elsewhere}
        for gone in self.shards.keys() - present:
            del self.shards[gone]
        return present

    def end(self, begun: float) -> None:
        """The list that was ``begun`` then (loop time) is whole, unless something has asked for another meanwhile."""
        self.complete = not self.list_now
        if self.complete:
            self.listed_at = begun

    def starts_at_horizon(self) -> bool:
        """Whether shards may be followed before the list is complete: nothing depends on which were there first."""
        return all(self.source.start_position(shard) == HORIZON for shard in self.shards.values())

    def unread_parents(self, known: Collection[ShardId]) -> dict[ShardId, ShardId]:
        """Shards that came and went unread, with the child that names each. The owner of the child notices."""
        others = {shard.id for shard in self.shards.values() if not self.owns(shard)}
        return unread_parents(self.shards, {*known, *others})

    def read_elsewhere(self) -> set[ShardId]:
        """Shards that other members have begun and not finished. Only they can say that one is lost."""
        finished = self._progress.finished(self.source.id)
        return {
            shard
            for shard in self._progress.saved(self.source.id)
            if shard not in finished and not self.owns(Shard(self.source.id, shard))
        }

    def elsewhere(self) -> list[Shard]:
        """Shards of other members that are not finished, as far as is known here."""
        finished = self._progress.finished(self.source.id)
        return [shard for shard in self.shards.values() if shard.id not in finished and not self.owns(shard)]

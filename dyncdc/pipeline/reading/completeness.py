"""Completeness: how far the destination has what a stream held, and whether anything of it is still to be read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from dyncdc.model.shards import Shard, ShardId
from dyncdc.pipeline.session.services import Services

from .reader_pool import ReaderPool
from .shard_listing import ShardListing


class Completeness:
    """What one stream's shards add up to. ``tables``: DynamoDB's names of those whose changes it carries."""

    def __init__(self, tables: Collection[str], listing: ShardListing, readers: ReaderPool, services: Services) -> None:
        self._source = listing.source
        self._tables = tables
        self._listing = listing
        self._readers = readers
        self._progress = services.checkpointer.progress
        self._peers = services.checkpointer.peers
        self._membership = services.membership
        self._claimed: dict[ShardId, float] = {}
        """What the first row that was seen of another member's shard said: perhaps no more than where it starts."""
        self.held = asyncio.Event()
        """Set while every listed shard has a row in the checkpoints: from then on nothing can be missed."""

    def held_elsewhere(self) -> bool:
        """Whether all other members are there, follow the same tables, and have a row for each of their shards."""
        rows = self._progress.saved(self._source.id).keys()
        return self._membership.peers.all_follow(self._tables) and all(
            shard.id in rows for shard in self._listing.elsewhere()
        )

    def read_past(self, instant: float) -> bool:
        """Whether all that the source held before ``instant`` (seconds, server clock) is durable in the destination."""
        mine = [ledger for (source, _), ledger in self._progress.ledgers.items() if source == self._source.id]
        if not self.held.is_set() or self.pending() or not all(ledger.read_until > instant for ledger in mine):
            return False
        saved = self._progress.saved(self._source.id)
        others = self._listing.read_elsewhere()
        return self.held_elsewhere() and all(saved[shard].read_until > instant for shard in others)

    def complete_until(self) -> float | None:
        """Up to when (arrival, server clock) all is durable that this member answers for; None while that is unknown.

        That is every unfinished shard, those of other members included: their owners may not know them yet.
        """
        listing = self._listing
        if not self.held.is_set() or listing.listed_at < listing.unnamed_at:
            return None
        # An unread child says nothing, and its parent nothing about it: the tip of a shard that was closed long ago
        # looks like that of an open one.
        bounds = [self._durable_until(shard) for shard in listing.shards.values() if not self._done(shard.id)]
        known = [bound for bound in bounds if bound]
        return min(known) if known and len(known) == len(bounds) else None

    def _done(self, shard: ShardId) -> bool:
        ledger = self._progress.ledgers.get((self._source.id, shard))
        finished = self._progress.finished(self._source.id)
        return shard in finished or (ledger is not None and ledger.frontier.finished)

    def _durable_until(self, shard: Shard) -> float | None:
        """Up to when a shard has been read and saved. None before that: a start may claim more."""
        if self._listing.owns(shard):
            ledger = self._progress.ledgers.get((shard.source, shard.id))
            return None if ledger is None else ledger.read_until or None
        saved = self._progress.saved(shard.source).get(shard.id)
        if saved is None:
            return None
        first = self._claimed.setdefault(shard.id, saved.read_until)
        return saved.read_until if saved.read_until > first else None

    def pending(self) -> bool:
        """Whether a listed shard of this member is neither finished nor being read, or others wait for its end."""
        finished = set(self._progress.finished(self._source.id))
        running = self._readers.running(self._source.id)
        awaited = {parent for shard in self._listing.elsewhere() for parent in shard.parents}
        waiting = [
            shard
            for shard in self._listing.shards.values()
            if shard.id not in finished
            and self._listing.owns(shard)
            and (shard.id not in running or shard.id in awaited)
        ]
        return any(not self._never_ready(shard) for shard in waiting)

    def _never_ready(self, shard: Shard) -> bool:
        """Whether a parent's owner has ended in order (``--once``) before the parent had: it is beyond the tip.

        What it had saved before it said so is known only to a look that was begun after that.
        """
        finished = self._progress.finished(self._source.id)
        return self._peers.looked_at > self._membership.looked_at and any(
            not self._listing.owns(Shard(self._source.id, parent))
            and self._membership.peers.owner_left(self._source.id, parent)
            for parent in shard.parents - set(finished)
        )

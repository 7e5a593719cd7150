"""StreamReader: discovers the shards of one stream and has each read when its turn comes."""

from __future__ import annotations

import asyncio

from dyncdc.errors import PositionLostError, RetryableError
from dyncdc.model.shards import ShardId
from dyncdc.pipeline.runtime import Backoff, Retrier
from dyncdc.pipeline.session.services import Services, StreamTask

from .completeness import Completeness
from .reader_pool import ReaderPool
from .shard.shard_reader import ShardReader
from .shard_listing import ShardListing
from .shard_losses import ShardLosses
from .shard_release import ShardRelease

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
        self.source = stream.source
        self._readers = readers
        self._services = services
        self._list_interval_seconds = list_interval_seconds
        checkpointer, membership = services.checkpointer, services.membership
        self.listing = ShardListing(stream.source, checkpointer.progress, membership.assignment)
        self.completeness = Completeness(stream.tables, self.listing, readers, services)
        self._losses = ShardLosses(self.listing, self.completeness.held, readers, services, list_interval_seconds)
        self._release = ShardRelease(stream, self.listing, self._losses, self.completeness, readers, services)
        checkpointer.peers.watched.add(stream.source.id)
        checkpointer.progress.on_saved(self.listing.wake.set)
        checkpointer.peers.on_ended(self.listing.ended_elsewhere)
        membership.on_seen(self.listing.wake.set)

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return f"discovery:{self.source.label}"

    async def run(self) -> None:
        """Discover and release until cancelled.

        Raises SourceLostError when the source itself is gone, FatalError for a loss that may not be made good.
        """
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=0.2)
        next_list = loop.time()  # the first list is due
        pause_seconds = 0.0
        wake, retry = self.listing.wake, Retrier(self._services.instruments, "discovery", self.name)
        with self._services.instruments.health.task(self.name) as task:
            while True:
                wake.clear()
                if self.listing.list_now or loop.time() >= next_list:
                    task.waiting_for("the list of shards")
                    try:
                        await self._discover()
                        backoff.reset()
                        pause_seconds = self._list_interval_seconds
                    except RetryableError as error:
                        pause_seconds = backoff.next_seconds()
                        retry.failed(error, pause_seconds)
                    next_list = loop.time() + pause_seconds
                self._release.release()
                if self.completeness.held.is_set():
                    await self._services.recovery.checkpointed(self.source.id)
                if not backoff.failures:  # a list without shards is no progress, however often it is asked for
                    task.moved()
                task.waiting_for("the next list of shards", for_seconds=pause_seconds)
                try:
                    async with asyncio.timeout_at(next_list):
                        await wake.wait()
                except TimeoutError:
                    continue

    async def _discover(self) -> None:
        begun = asyncio.get_running_loop().time()
        listing, release, losses = self.listing, self._release, self._losses
        seen: set[ShardId] = set()
        held_before = self._services.recovery.was_checkpointed(self.source.id)
        known = self._services.checkpointer.progress.known_shards(self.source.id) if held_before else set()
        listing.begin()
        try:
            async for page in self.source.list_shards():
                seen |= listing.add(page)
                if not release.fresh or listing.starts_at_horizon():
                    release.follow(but=listing.unread_parents(known).values() if known else ())
                    release.release()
        except PositionLostError as error:
            await losses.give_up_source(error)
        present = listing.settle(seen, self._readers.running(self.source.id), losses.failed_twice())
        await losses.give_up(losses.find(present, known))
        listing.end(begun)
        release.follow()

    def shard_readers(self) -> list[ShardReader]:
        """Readers of this stream's shards that run now."""
        return [
            shard_reader
            for (source, _), shard_reader in self._readers.shard_readers.items()
            if source == self.source.id
        ]

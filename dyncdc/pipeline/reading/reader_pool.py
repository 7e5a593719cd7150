"""The running shard readers: starts one per shard and calls back when it ends or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from dyncdc.errors import CorruptSnapshotError, FatalError, PositionLostError
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.checkpoint.shard_progress import ShardProgress
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.ports.source import Source

from .resources import ReadResources
from .shard.shard_reader import ReadOptions, ShardReader


class ReaderPool:
    """All running shard readers, stream and snapshot alike. They run in the task group of the coordinator."""

    def __init__(self, resources: ReadResources, progress: ShardProgress, tasks: asyncio.TaskGroup) -> None:
        self._resources = resources
        self._instruments = resources.instruments
        self._progress = progress
        self._tasks = tasks
        self._running: dict[tuple[SourceId, ShardId], asyncio.Task[None]] = {}
        self.shard_readers: dict[tuple[SourceId, ShardId], ShardReader] = {}
        self.failed: dict[tuple[SourceId, ShardId], CorruptSnapshotError] = {}

    def running(self, source: SourceId) -> set[ShardId]:
        """Shards of ``source`` that are being read, or were given up after a failure."""
        return {shard for owner, shard in (*self.shard_readers, *self.failed) if owner == source}

    def follow(self, shard: Shard, start: Mark) -> None:
        """Give the shard a row in the checkpoints; reading may begin later, once its parents are finished."""
        if (shard.source, shard.id) not in self._progress.ledgers:
            self._progress.open(shard, start)

    def start(
        self,
        source: Source,
        shard: Shard,
        decoder: Decoder,
        options: ReadOptions,
        on_end: Callable[[RawChunk | None], None],
        on_lost: Callable[[ShardId, PositionLostError], None] | None = None,
    ) -> None:
        """Read a followed shard. ``on_end`` gets its last chunk, or None when the shard was given up.

        ``on_lost`` is called instead when its position is lost; without it that ends everything."""
        key = shard.source, shard.id
        ledger = self._progress.ledgers[key]
        shard_reader = ShardReader(self._resources, source, decoder, ledger, options)
        self.shard_readers[key] = shard_reader
        task = self._tasks.create_task(self._run(shard_reader, shard, on_end, on_lost), name=shard_reader.name)
        self._running[key] = task
        self._instruments.health.log_info("shard started", source=source.label, shard=shard.id)
        task.add_done_callback(partial(self._left, key))

    def _left(self, key: tuple[SourceId, ShardId], task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]

    def cancel(self) -> None:
        """Stop all shard readers; each gives back what it holds."""
        for task in self._running.values():
            task.cancel()

    async def stop(self, source: SourceId, shard: ShardId) -> None:
        """Stop the shard reader of one shard, if it has one; return when it has left. What it had read stays valid."""
        task = self._running.get((source, shard))
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def failed_of(self, source: SourceId) -> list[CorruptSnapshotError]:
        """Why shards of a source were given up."""
        return [error for (owner, _), error in self.failed.items() if owner == source]

    def abandon(self, source: SourceId) -> None:
        """Forget a source that has failed and will not be read again; none of its shard readers may be running."""
        for key in [key for key in self.failed if key[0] == source]:
            del self.failed[key]
        self._progress.abandon(source)

    async def _run(
        self,
        shard_reader: ShardReader,
        shard: Shard,
        on_end: Callable[[RawChunk | None], None],
        on_lost: Callable[[ShardId, PositionLostError], None] | None,
    ) -> None:
        last: RawChunk | None = None
        try:
            last = await shard_reader.run()
            self._instruments.health.log_info("shard finished", source=shard_reader.label, shard=shard.id)
        except CorruptSnapshotError as error:
            self.failed[shard.source, shard.id] = error
            self._instruments.metrics.error("fetch", error)
            self._instruments.health.log_retry(shard_reader.name, error, None)
        except PositionLostError as error:
            if on_lost is None:
                raise FatalError(str(error), hint=error.hint) from error
            self._instruments.metrics.error("fetch", error)
            on_lost(shard.id, error)
            return
        finally:
            del self.shard_readers[shard.source, shard.id]
            self._instruments.metrics.shard_ended(shard_reader.label, shard.id)
        on_end(last)

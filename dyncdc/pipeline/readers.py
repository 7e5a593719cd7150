"""Readers: the pumps that run now. Starts one per shard and tells whoever asked when it ends or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import CorruptSnapshotError, FatalError, PositionLostError
from ..model import Mark, RawChunk, Shard, ShardId, SourceId
from .checkpointer import Checkpointer
from .ports import Decoder, Source
from .pump import Engine, Pump


class Readers:
    """All running pumps, stream and snapshot alike. Lives inside the task group of the coordinator."""

    def __init__(self, engine: Engine, checkpointer: Checkpointer, tasks: asyncio.TaskGroup) -> None:
        self._engine = engine
        self._checkpointer = checkpointer
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self.pumps: dict[tuple[SourceId, ShardId], Pump] = {}
        self.failed: dict[tuple[SourceId, ShardId], CorruptSnapshotError] = {}

    def running(self, source: SourceId) -> set[ShardId]:
        """Shards of ``source`` that are being read, or were given up after a failure."""
        return {shard for owner, shard in (*self.pumps, *self.failed) if owner == source}

    def follow(self, shard: Shard, start: Mark) -> None:
        """Give the shard a row in the checkpoints; reading may begin later, once its parents are finished."""
        if (shard.source, shard.id) not in self._checkpointer.ledgers:
            self._checkpointer.open(shard, start)

    def start(self, source: Source, shard: Shard, decoder: Decoder, on_end: Callable[[RawChunk | None], None]) -> None:
        """Read a followed shard. ``on_end`` gets its last chunk, or None when the shard was given up."""
        ledger = self._checkpointer.ledgers[shard.source, shard.id]
        pump = Pump(self._engine, source, decoder, ledger)
        self.pumps[shard.source, shard.id] = pump
        task = self._tasks.create_task(self._run(pump, shard, on_end), name=pump.name)
        self._running.add(task)
        self._engine.progress.tell("shard started", source=source.label, shard=shard.id)
        task.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        """Stop all pumps; each gives back what it holds."""
        for task in self._running:
            task.cancel()

    async def _run(self, pump: Pump, shard: Shard, on_end: Callable[[RawChunk | None], None]) -> None:
        last: RawChunk | None = None
        try:
            last = await pump.run()
            self._engine.progress.tell("shard finished", source=pump.label, shard=shard.id)
        except CorruptSnapshotError as error:
            self.failed[shard.source, shard.id] = error
            self._engine.metrics.error("fetch", error)
            self._engine.progress.report(pump.name, error, None)
        except PositionLostError as error:
            raise FatalError(str(error), hint=error.hint) from error
        finally:
            del self.pumps[shard.source, shard.id]
            self._engine.metrics.shard_ended(pump.label, shard.id)
        on_end(last)

"""Checkpoints of the pipeline's other members, looked at often enough that no shard waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.runtime import Instruments, Retrier

from .shard_progress import ShardProgress

LOOK_SECONDS = 0.3
"""A child of another member's shard is not read before its parent's end has been seen here."""

LOOK_SHARE = 0.05
"""At most this share of the time goes into looking: with very many rows the pauses grow."""


class PeerCheckpoints:
    """Takes what other members have saved into the progress of this one."""

    def __init__(self, store: CheckpointStore, progress: ShardProgress, instruments: Instruments) -> None:
        self._store = store
        self._progress = progress
        self._instruments = instruments
        self.looked_at = float("-inf")
        """Loop time at which the last look at other members' rows was begun."""
        self.watched: set[SourceId] = set()
        """Sources for which saves of other members matter."""
        self._on_ended: list[Callable[[Collection[SourceId]], None]] = []

    def on_ended(self, callback: Callable[[Collection[SourceId]], None]) -> None:
        """Call ``callback`` with the sources whose shards other members have finished."""
        self._on_ended.append(callback)

    async def refresh(self, sources: Collection[SourceId]) -> None:
        """Take up what other members have saved of these sources. Raises RetryableError, FatalError."""
        begun = asyncio.get_running_loop().time()
        self._take(await self._store.refresh(sources))
        self.looked_at = begun

    async def load_again(self) -> None:
        """Take up what others have saved of any source, read consistently. Raises RetryableError, FatalError."""
        self._take(await self._store.load())

    def _take(self, rows: Sequence[Checkpoint]) -> None:
        moved, ended = self._progress.take(rows)
        if ended:
            for callback in self._on_ended:
                callback(ended)
        if moved:
            self._progress.notify_saved()

    async def run(self) -> None:
        """Look at the rows of all watched sources until cancelled."""
        loop, retry = asyncio.get_running_loop(), Retrier(self._instruments, "others", "others")
        with self._instruments.health.task("others") as task:
            while True:
                begun = loop.time()
                task.waiting_for("ClickHouse to show the other members' checkpoints")
                with retry.tolerate(LOOK_SECONDS):
                    await self.refresh(tuple(self.watched))
                    task.moved()
                pause_seconds = max(LOOK_SECONDS, (loop.time() - begun) / LOOK_SHARE)
                task.waiting_for("the next look at the other members", for_seconds=pause_seconds)
                await asyncio.sleep(pause_seconds)

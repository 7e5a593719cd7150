"""ChunkFetcher: asks the source for the next chunk of a shard, and knows what follows a failure."""

from __future__ import annotations

import asyncio

from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.model.shards import Position, RawChunk
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.runtime import Backoff, Instruments, Retrier, is_recoverable
from dyncdc.telemetry.task_health import TaskProgress

from .polling import FetchSize
from .read_progress import ReadProgress


class ChunkFetcher:
    """The fetches of one shard. ``wait_for_fix``: what AWS refuses is asked for again until it is fixed."""

    def __init__(
        self,
        source: Source,
        ledger: ShardLedger,
        progress: ReadProgress,
        size: FetchSize,
        instruments: Instruments,
        *,
        wait_for_fix: bool = False,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._progress = progress
        self._size = size
        self._instruments = instruments
        self._wait_for_fix = wait_for_fix
        self._backoff = Backoff(first_seconds=0.2)

    async def fetch(self, after: Position, task: TaskProgress) -> RawChunk:
        """Return what follows ``after``. Raises RetryableError, PositionLostError, ConfigError, FatalError."""
        asked_at = asyncio.get_running_loop().time()
        shard, instruments = self._ledger.shard, self._instruments
        with instruments.metrics.stage("fetch"):
            try:
                chunk = await self._source.fetch(shard, after, self._size.want_bytes)
            except (ConfigError, FatalError) as error:
                if not self._wait_for_fix or not is_recoverable(error):
                    raise
                task.failed(str(error))
                raise RetryableError(str(error), hint=error.hint) from error
        task.failed("")
        self._progress.answered(asked_at, asyncio.get_running_loop().time(), instruments.clock())
        self._backoff.reset()
        self._size.learn(chunk.nbytes, len(chunk.records))
        instruments.metrics.fetched(
            self._source.label,
            shard.id,
            instruments.clock(),
            chunk.behind_seconds,
            self.headroom_seconds(chunk),
        )
        return chunk

    def headroom_seconds(self, chunk: RawChunk) -> float | None:
        """Time until the oldest record not yet read expires, or what was left out and has to be read again."""
        retention_seconds, kept_back = self._source.retention_seconds, self._ledger.frontier.read_until
        if retention_seconds is None:
            return None
        behind_seconds = chunk.behind_seconds
        if self._ledger.incomplete and kept_back:
            behind_seconds = max(behind_seconds, self._source.server_time - kept_back)
        return retention_seconds - behind_seconds

    async def rest(self, error: RetryableError, task_name: str) -> None:
        """Pause after a failure, longer after each until a fetch is answered."""
        pause_seconds = self._backoff.next_seconds()
        Retrier(self._instruments, "fetch", task_name).failed(error, pause_seconds)
        await asyncio.sleep(pause_seconds)

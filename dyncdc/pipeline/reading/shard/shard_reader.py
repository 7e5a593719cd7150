"""ShardReader: the one loop that every shard runs, whatever it is: reserve, fetch, decode, track, put."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from dyncdc.errors import RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk
from dyncdc.pipeline.budget import Reservation
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.ports.source import Rereading, Source
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.telemetry.task_health import TaskProgress

from .chunk_decoder import ChunkDecoder
from .chunk_fetcher import ChunkFetcher
from .chunk_handover import ChunkHandover
from .fetch_memory import DECODE_COST, FetchMemory
from .polling import PollInterval
from .read_progress import ReadProgress
from .retention.expiry import ExpiryWatch, OnHole


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a shard is read.

    ``wait_for_fix``: what AWS refuses is asked for again until it is fixed. ``on_hole`` makes durable, as a gap,
    what expires while the shard is read. ``unusable``: DynamoDB tables whose records are left out; the position stays
    before the first record of theirs.
    """

    wait_for_fix: bool = False
    on_hole: OnHole | None = None
    unusable: Collection[str] = ()


class ShardReader:
    """Reads one shard to its end. Cancel it to stop it: it gives back what it holds and tracks nothing half-read."""

    def __init__(
        self,
        resources: ReadResources,
        source: Source,
        decoder: Decoder,
        ledger: ShardLedger,
        options: ReadOptions = ReadOptions(),
    ) -> None:
        self.progress = progress = ReadProgress(ledger.frontier.read_until)
        self._instruments = instruments = resources.instruments
        self._resources = resources
        self._source = source
        self._ledger = ledger
        self._memory = FetchMemory(resources, source, decoder)
        self._fetcher = ChunkFetcher(
            source, ledger, progress, self._memory.size, instruments, wait_for_fix=options.wait_for_fix
        )
        self._expiry = ExpiryWatch(source, ledger.shard, ledger.frontier.read_until, options.on_hole)
        self._decoder = ChunkDecoder(
            decoder, ledger.shard, options.unusable, instruments, resources.dead_letter_limiter
        )
        self._handover = ChunkHandover(resources, ledger, progress, decoder)
        self._pace = PollInterval(source.pause_seconds)
        if isinstance(source, Rereading):
            resources.writer.sources[source.id] = source

    @property
    def label(self) -> str:
        """The source's name, for metrics."""
        return self._source.label

    @property
    def name(self) -> str:
        """The task's name in health, logs and metrics."""
        return f"shard:{self._source.label}:{self._ledger.shard.id}"

    async def run(self) -> RawChunk:
        """Read until the shard closes; return its last chunk, without the records.

        Its ``read_until`` is that of the answer before: the shard's children may hold records as old as that.

        Raises PositionLostError, CorruptSnapshotError, FatalError. Everything that was put stays valid.
        """
        after = self._ledger.frontier.position
        idle_poll_limiter = self._resources.idle_poll_limiter
        idle_poll_limiter.shards += 1
        with self._instruments.health.task(self.name) as task:
            try:
                while True:
                    chunk = await self._turn(after, task)
                    if chunk is None:
                        continue
                    after = chunk.end
                    if chunk.closed:
                        return replace(chunk, read_until=self.progress.until_last(chunk))
                    pause_seconds = self._pace.after(chunk, least_idle_seconds=idle_poll_limiter.least_idle_seconds)
                    if pause_seconds > 0.0:
                        task.waiting_for("new records", for_seconds=pause_seconds)
                        with self._instruments.metrics.stage("idle"):
                            await asyncio.sleep(pause_seconds)
            finally:
                idle_poll_limiter.shards -= 1
                self._source.forget(self._ledger.shard)

    async def _turn(self, after: Position, task: TaskProgress) -> RawChunk | None:
        """Read one chunk and hand it to the writer; None after a failure that is worth another try.

        The answer has lost its records: no one may hold them while the shard rests.
        """
        task.waiting_for("budget")
        async with AsyncExitStack() as alone:
            with self._instruments.metrics.stage("budget_wait"):
                reservation = await self._memory.reserve(alone)
            try:
                chunk, blocks, whole = await self._read(after, reservation, alone, task)
            except RetryableError as error:
                reservation.release()
                await alone.aclose()
                await self._fetcher.rest(error, self.name)
                return None
            except BaseException:
                reservation.release()
                raise
        self._handover.hand_over(chunk, blocks, reservation, whole=whole)
        # Only now: ``--once`` ends the shard reader when it has seen the tip, and what came with it must be with the
        # writer.
        self.progress.put(chunk)
        task.moved()
        return replace(chunk, records=(), positions=())

    async def _read(
        self, after: Position, reservation: Reservation, alone: AsyncExitStack, task: TaskProgress
    ) -> tuple[RawChunk, list[Block], bool]:
        """Fetch and decode, counted as under way: the writer does not flush early for bytes about to come free."""
        self._resources.writer.fetching += 1
        try:
            task.waiting_for("the source")
            chunk = await self._fetcher.fetch(after, task)
            reservation.resize(chunk.nbytes * DECODE_COST)
            await alone.aclose()
            chunk = await self._expiry.check(chunk, after, task)
            self.progress.read(chunk)
            task.moved()
            return chunk, *await self._decoder.decode(chunk, reservation)
        finally:
            self._resources.writer.fetching -= 1

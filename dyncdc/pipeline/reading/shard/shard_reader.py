"""ShardReader: the one loop that every shard runs, whatever it is: reserve, fetch, decode, track, put."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import Position, RawChunk
from dyncdc.pipeline.budget import Reservation
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.ports.source import LargeAnswers, Rereading, Source
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.runtime import Backoff, Retrier, is_recoverable
from dyncdc.telemetry.task_health import TaskProgress

from .polling import FetchSize, PollInterval
from .retention.expiry import ExpiryWatch, OnHole

FETCH_COST = 4
"""Bytes of memory that a fetch takes for each byte of records while it is under way: the response as it arrives, the
response joined (both base64), and the records. Measured for GetRecords."""

ALONE_SHARE = 0.25
"""A fetch that may need more of the budget is under way alone, and reserves so much: all that it needs might never be
free beside what tables hold that take nothing. So the bound is exceeded by one answer, however many shards have one."""

DECODE_COST = 2
"""The same while the records are decoded: the records, and their columns growing beside them."""

READING_SECONDS = 30.0
"""A shard that gave no answer for so long is not being read, whatever keeps its reader."""


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
        self._options = options
        self._unusable = frozenset(options.unusable)
        self._instruments = resources.instruments
        self._resources = resources
        self._source = source
        self._decoder = decoder
        self._ledger = ledger
        self._shard = ledger.shard
        self._large = source if isinstance(source, LargeAnswers) else None
        self._expiry = ExpiryWatch(source, ledger.shard, ledger.frontier.read_until, options.on_hole)
        if isinstance(source, Rereading):
            resources.writer.sources[source.id] = source
        self._backoff = Backoff(first_seconds=0.2)
        self._pace = PollInterval(source.pause_seconds)
        self._size = FetchSize(ceiling_bytes=resources.fetch_ceiling_bytes)
        self.tip_seen_at = float("-inf")
        """Loop time at which the last fetch that reached the tip was begun. All of it is with the writer."""
        self.put_until = 0.0
        """As ``read_until``, but for what is with the writer."""
        self._read_at = self._answered_at = float("-inf")
        """Loop time at which the last fetch that was answered was begun, and was answered."""
        self._answered_by_clock = 0.0
        """When the last answer was there: loop time, and by the clock."""
        self._read_before = ledger.frontier.read_until
        """As ``read_until``, without the last answer: what follows a shard's end may have begun as early as that."""
        self.read_until = 0.0
        """How far the shard has been read (not: made durable), by the server's clock."""

    @property
    def label(self) -> str:
        """The source's name, for metrics."""
        return self._source.label

    @property
    def name(self) -> str:
        """The task's name in health, logs and metrics."""
        return f"shard:{self._source.label}:{self._shard.id}"

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
                        return replace(chunk, read_until=self._read_before or chunk.read_until)
                    pause_seconds = self._pace.after(chunk, least_idle_seconds=idle_poll_limiter.least_idle_seconds)
                    if pause_seconds > 0.0:
                        task.waiting_for("new records", for_seconds=pause_seconds)
                        with self._instruments.metrics.stage("idle"):
                            await asyncio.sleep(pause_seconds)
            finally:
                idle_poll_limiter.shards -= 1
                self._source.forget(self._shard)

    async def _turn(self, after: Position, task: TaskProgress) -> RawChunk | None:
        """Read one chunk and hand it to the writer; None after a failure that is worth another try.

        The answer has lost its records: no one may hold them while the shard rests.
        """
        task.waiting_for("budget")
        async with AsyncExitStack() as alone:
            with self._instruments.metrics.stage("budget_wait"):
                reservation = await self._reserve(alone)
            try:
                chunk, blocks, whole = await self._read(after, reservation, alone, task)
            except RetryableError as error:
                reservation.release()
                await alone.aclose()
                await self._rest(error)
                return None
            except BaseException:
                reservation.release()
                raise
        self._hand_over(chunk, blocks, reservation, whole=whole)
        # Only now: ``--once`` ends the shard reader when it has seen the tip, and what came with it must be with the
        # writer.
        self.put_until = max(self.put_until, chunk.read_until)
        if chunk.at_tip:
            self.tip_seen_at = self._read_at
        task.moved()
        return replace(chunk, records=(), positions=())

    async def _reserve(self, alone: AsyncExitStack) -> Reservation:
        """Wait for memory, and until no table of the source holds too much of it: one may have begun to meanwhile.

        ``alone`` is closed once the answer is there, or the fetch has failed.
        """
        resources, tables = self._resources, self._decoder.tables
        share_bytes = int(resources.budget.capacity_bytes * ALONE_SHARE)
        while True:
            await resources.writer.wait_for_capacity(tables)
            largest_bytes = self._large.largest_answer_bytes if self._large is not None else 0
            nbytes = max(self._size.expected_bytes, largest_bytes) * FETCH_COST
            if largest_bytes and nbytes > share_bytes:
                await alone.enter_async_context(resources.alone)
                nbytes = share_bytes
            reservation = await resources.budget.reserve(nbytes)
            if resources.writer.has_capacity(tables):
                return reservation
            reservation.release()
            await alone.aclose()

    async def _read(
        self, after: Position, reservation: Reservation, alone: AsyncExitStack, task: TaskProgress
    ) -> tuple[RawChunk, list[Block], bool]:
        """Fetch and decode, counted as under way: the writer does not flush early for bytes about to come free."""
        self._resources.writer.fetching += 1
        try:
            task.waiting_for("the source")
            chunk = await self._fetch(after, task)
            reservation.resize(chunk.nbytes * DECODE_COST)
            await alone.aclose()
            chunk = await self._expiry.check(chunk, after, task)
            self._read_before = self.read_until or self._read_before
            self.read_until = max(self.read_until, chunk.read_until)
            task.moved()
            return chunk, *await self._decode(chunk, reservation)
        finally:
            self._resources.writer.fetching -= 1

    async def _fetch(self, after: Position, task: TaskProgress) -> RawChunk:
        begun = asyncio.get_running_loop().time()
        with self._instruments.metrics.stage("fetch"):
            try:
                chunk = await self._source.fetch(self._shard, after, self._size.want_bytes)
            except (ConfigError, FatalError) as error:
                if not self._options.wait_for_fix or not is_recoverable(error):
                    raise
                task.failed(str(error))
                raise RetryableError(str(error), hint=error.hint) from error
        task.failed("")
        self._read_at = begun
        self._answered_at, self._answered_by_clock = asyncio.get_running_loop().time(), self._instruments.clock()
        self._backoff.reset()
        self._size.learn(chunk.nbytes, len(chunk.records))
        self._instruments.metrics.fetched(
            self._source.label,
            self._shard.id,
            self._instruments.clock(),
            chunk.behind_seconds,
            self._headroom_seconds(chunk),
        )
        return chunk

    def is_reading(self, now: float) -> bool:
        """Whether an answer came a short while before ``now`` (loop time): then what expires is noticed here."""
        return now - self._answered_at < READING_SECONDS

    def _headroom_seconds(self, chunk: RawChunk) -> float | None:
        """Time until the oldest record not yet read expires, or what was left out and has to be read again."""
        retention_seconds, kept_back = self._source.retention_seconds, self._ledger.frontier.read_until
        if retention_seconds is None:
            return None
        behind_seconds = chunk.behind_seconds
        if self._ledger.incomplete and kept_back:
            behind_seconds = max(behind_seconds, self._source.server_time - kept_back)
        return retention_seconds - behind_seconds

    async def _decode(self, chunk: RawChunk, reservation: Reservation) -> tuple[list[Block], bool]:
        """Decode in sub-batches, giving the loop a turn after each. Raises LimitReached for too many dead letters.

        Returns also whether the blocks are the whole chunk: nothing in it is of a table that can not be used.
        """
        blocks: list[Block] = []
        whole = True
        judged, rejected = 0, list[DeadLetter]()
        held = chunk.nbytes
        with self._instruments.metrics.stage("decode"):
            for decoded in self._decoder.decode(chunk):
                blocks += decoded.blocks
                held += sum(block.nbytes for block in decoded.blocks)
                if held > reservation.nbytes:  # a history holds each image once more
                    reservation.resize(held)
                rejected += (
                    replace(dead_letter, ordinal=judged + dead_letter.ordinal) for dead_letter in decoded.dead_letters
                )
                judged += decoded.judged
                whole = whole and self._unusable.isdisjoint(decoded.records)
                self._instruments.metrics.decoded(decoded)
                await asyncio.sleep(0)
        self._instruments.health.diverted(rejected)
        self._resources.dead_letter_limiter.count_decoded(self._shard, judged, rejected, chunk.positions)
        return blocks, whole

    def _hand_over(self, chunk: RawChunk, blocks: list[Block], reservation: Reservation, *, whole: bool) -> None:
        """Track and put, without an await in between: a cancellation sees all of it or nothing."""
        reservation.resize(sum(block.nbytes for block in blocks))
        self._measure(chunk, blocks)
        receipt = self._ledger.track(
            Mark(chunk.end, chunk.read_until),
            len(blocks),
            reservation.release,
            reservation.give_back,
            incomplete=not whole,
        )
        for block in blocks:
            self._resources.writer.put(block, receipt, self._answered_at)
        if chunk.closed:
            # Behind the data: it cannot overtake what was read before it.
            self._ledger.track(Mark(chunk.end, self._read_before or chunk.read_until, finished=True), 0, lambda: None)
            self._resources.writer.flush_soon(self._decoder.tables)

    def _measure(self, chunk: RawChunk, blocks: Sequence[Block]) -> None:
        """How long the newest change of the chunk took to get into the stream, and from there to us."""
        created = max((block.created for block in blocks), default=0.0)
        if not chunk.arrived:
            return
        self._instruments.metrics.passed("stream_to_read", self._answered_by_clock - chunk.arrived)
        if created:
            delay_seconds = chunk.arrived - created
            self._instruments.metrics.passed("source_to_stream", delay_seconds)
            self._resources.delays.saw(chunk.shard.source, delay_seconds, self._answered_at)

    async def _rest(self, error: RetryableError) -> None:
        pause_seconds = self._backoff.next_seconds()
        Retrier(self._instruments, "fetch", self.name).failed(error, pause_seconds)
        await asyncio.sleep(pause_seconds)

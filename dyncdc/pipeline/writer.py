"""Writer: one open batch and at most one insert in flight per table.

It decides when to flush; it never decides what is safe to checkpoint.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson

from ..errors import FatalError, RejectedRowsError, RetryableError
from ..model import Block, Position, SourceId
from ..telemetry.metrics import Metrics
from ..telemetry.progress import Progress, TaskProgress
from .batch import collapse, join, split, statement
from .budget import ByteBudget
from .burial import Bury, RefusedRow, letters_of
from .cadence import Cadences
from .diversion import Diversion
from .ledger import Receipt
from .ports import Rereading, Sink
from .retry import Backoff, retry_for_ever

PRESSURE_SHARE = 0.25
"""Somebody waits for the budget and open batches hold this share of it: flush the largest."""

PRESSURE_WAIT_SECONDS = 0.2
"""Somebody has waited this long with no fetch under way: flush the largest, however small."""

REFUSED_SHARE = 0.5
"""A table whose inserts fail may hold this share of the budget, so that the other tables go on."""

Part = tuple[Block, Receipt]
"""A block and the receipt of the chunk it came from."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full, and how large one statement may be."""

    max_rows: int
    max_bytes: int
    max_age_seconds: float
    statement_bytes: int = 4 * 2**20
    inserts_in_flight: int = 2


@dataclass(slots=True)
class _Batch:
    """The blocks of one table that wait for their insert, in delivery order, each with its receipt."""

    table: str
    opened: float
    ripe_at: float = float("inf")
    """Loop time at which it is flushed although it is neither full nor old; infinite until its flush is granted."""
    parts: deque[Part] = field(default_factory=deque)
    rows: int = 0
    nbytes: int = 0
    read_at: float = 0.0
    """Loop time at which the last change in it was read; 0 while it holds none, but a snapshot's items."""
    hurried: bool = False

    def add(self, block: Block, receipt: Receipt, read_at: float) -> None:
        if block.created:
            self.read_at = read_at
        self.parts.append((block, receipt))
        self.rows += block.rows
        self.nbytes += block.nbytes

    @property
    def granted(self) -> bool:
        """Whether it may be flushed before it is old."""
        return self.ripe_at < float("inf")

    def settle(self, parts: Sequence[Part]) -> None:
        """Acknowledge what is durable."""
        for block, receipt in parts:
            self.nbytes -= block.nbytes
            receipt.ack()


class Writer:
    """Batches blocks per table and flushes on rows, bytes, age, memory pressure or drain.

    Invariant: a receipt is acknowledged only after the statement that holds its block has returned.
    """

    def __init__(
        self,
        sink: Sink,
        budget: ByteBudget,
        limits: BatchLimits,
        *,
        token_prefix: str,
        bury: Bury,
        metrics: Metrics,
        progress: Progress,
        clock: Callable[[], float],
        diversion: Diversion | None = None,
    ) -> None:
        self._sink = sink
        self._budget = budget
        self._limits = limits
        self._token_prefix = token_prefix
        self._bury = bury
        self._diversion = diversion or Diversion()
        self._metrics = metrics
        self._progress = progress
        self._clock = clock
        self._ordinal = 0
        self._open: dict[str, _Batch] = {}
        self._cadences = Cadences(limits.max_age_seconds)
        self._flushing: dict[str, _Batch] = {}
        self._refused: set[str] = set()
        self._rejected: dict[str, list[RefusedRow]] = {}
        """Rows of the statement under way that ClickHouse refuses, by table."""
        self._slots = asyncio.Semaphore(limits.inserts_in_flight)
        self._wake = asyncio.Event()
        self._eased = asyncio.Event()
        self._draining = False
        self.fetching = 0
        """Fetches and decodes under way; readers count themselves in and out."""
        self.sources: dict[SourceId, Rereading] = {}
        """Where records can be read again; readers name theirs."""
        budget.on_wait(self._wake.set)

    def put(self, block: Block, receipt: Receipt, read_at: float | None = None) -> None:
        """Append; never waits, the budget already did. ``read_at``: loop time of the answer it came with."""
        now = asyncio.get_running_loop().time()
        batch = self._open.get(block.table)
        if batch is None:
            batch = self._open[block.table] = _Batch(block.table, now)
        if not batch.granted:
            granted_at = self._cadences.grant(block.table, now, len(self._open))
            batch.ripe_at = batch.ripe_at if granted_at is None else granted_at
        batch.add(block, receipt, now if read_at is None else read_at)
        self._wake.set()

    def hurry(self, tables: Collection[str]) -> None:
        """Flush these tables now: a shard has been read to its end and its children wait for what it held."""
        for table in tables:
            if table in self._open:
                self._open[table].hurried = True
        self._wake.set()

    def drain(self) -> None:
        """Flush everything, then let ``run`` return. Nothing may be put afterwards."""
        self._draining = True
        self._wake.set()

    async def room(self, tables: Collection[str]) -> None:
        """Wait while a table among ``tables`` is being refused and already holds its share of the budget."""
        while any(self._overdrawn(table) for table in tables if table in self._refused):
            self._eased.clear()
            await self._eased.wait()

    def _held(self, table: str) -> int:
        held = self._open.get(table), self._flushing.get(table)
        return sum(batch.nbytes for batch in held if batch is not None)

    def _overdrawn(self, table: str) -> bool:
        return self._held(table) >= REFUSED_SHARE * self._budget.capacity_bytes

    async def run(self) -> None:
        """Start flushes until drained. The only task that does."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as flushes:
            while True:
                self._wake.clear()
                batches = len(self._open)  # before any of the many is taken away
                for table in self._due(loop.time()):
                    batch = self._flushing[table] = self._open.pop(table)
                    self._cadences.spend(table, loop.time(), batches, granted=batch.granted)
                    flushes.create_task(self._flush(batch), name=f"insert:{table}")
                if self._draining and not self._open and not self._flushing:
                    return
                try:
                    async with asyncio.timeout(self._pause_seconds(loop.time())):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def _due(self, now: float) -> list[str]:
        """Tables to flush now: full or old ones, and under pressure the largest."""
        limits = self._limits
        free = [batch for batch in self._open.values() if batch.table not in self._flushing]
        due = [
            batch.table
            for batch in free
            if self._draining
            or batch.rows >= limits.max_rows
            or batch.nbytes >= limits.max_bytes
            or now >= self._ripe_at(batch)
        ]
        if not due and free and self._pressed(now):
            due.append(max(free, key=lambda batch: batch.nbytes).table)
        return due

    def _ripe_at(self, batch: _Batch) -> float:
        """When a batch is old enough: one age after it was opened, or as soon as its table's cadence allows."""
        if batch.hurried:
            return float("-inf")
        return min(batch.ripe_at, batch.opened + self._cadences.age_seconds(len(self._open)))

    def _pressed(self, now: float) -> bool:
        since = self._budget.waiting_since()
        if since is None:
            return False
        held = sum(batch.nbytes for batch in self._open.values())
        if held >= PRESSURE_SHARE * self._budget.capacity_bytes:
            return True
        return self.fetching == 0 and now - since >= PRESSURE_WAIT_SECONDS

    def _pause_seconds(self, now: float) -> float | None:
        """How long nothing can become due by itself; None when only an event can change that."""
        ages = [self._ripe_at(batch) - now for batch in self._open.values() if batch.table not in self._flushing]
        if ages and self._budget.waiting:
            ages.append(PRESSURE_WAIT_SECONDS)
        return max(0.0, min(ages)) if ages else None

    async def _flush(self, batch: _Batch) -> None:
        table = batch.table
        with self._progress.task(f"insert:{table}") as task:
            while batch.parts:
                parts = statement(batch.parts, self._limits.statement_bytes)
                self._ordinal += 1
                token = f"{self._token_prefix}/{self._ordinal}"
                await self._write(parts, token, task)
                await self._bury_refused(table, token, task)
                self._metrics.arrived(table, max(block.created for block, _ in parts), self._clock())
                batch.settle(parts)
        if batch.read_at:
            self._metrics.passed("read_to_insert", asyncio.get_running_loop().time() - batch.read_at)
        del self._flushing[table]
        self._eased.set()
        self._wake.set()

    async def _write(self, parts: Sequence[Part], token: str, task: TaskProgress) -> None:
        """Make the rows durable, those aside that are refused: they are kept for ``_bury_refused``.

        Splits what was not collapsed: a good row must not vanish because the one that replaces it is refused.
        """
        try:
            await self._attempts(join(collapse([block for block, _ in parts])), token, task)
        except RejectedRowsError as error:
            self._metrics.error("insert", error)
            block, receipt = parts[0]
            if len(parts) == 1 and block.rows == 1:
                self._reject(block, receipt, error)
                return
            for number, half in enumerate(split(parts)):
                await self._write(half, f"{token}/{number}", task)
        else:
            table = parts[0][0].table
            self._diversion.accept(table, ((receipt.shard, block.positions) for block, receipt in parts))

    def _reject(self, block: Block, receipt: Receipt, error: RejectedRowsError) -> None:
        """Keep a refused row for its burial. Raises LimitReached when there are too many."""
        position = Position(orjson.loads(block.positions)) if block.positions else receipt.mark.position
        row = RefusedRow(block, receipt.shard, position, error)
        rejected = self._rejected.setdefault(block.table, [])
        rejected.append(row)
        letter = self._bury.name(row)
        self._progress.diverted([letter])
        self._diversion.refuse(block.table, row.shard, letter, (rejected[0].shard, rejected[0].position))

    async def _bury_refused(self, table: str, token: str, task: TaskProgress) -> None:
        """Make the letters of the statement's refused rows durable."""
        rejected = self._rejected.pop(table, [])
        if not rejected:
            return
        task.waiting_for("the records of refused rows")
        number = 0
        async with aclosing(letters_of(rejected, self.sources, self._bury)) as slices:
            async for letters in slices:
                pending = deque((letter, None) for letter in letters)
                while pending:
                    block = join([letter for letter, _ in statement(pending, self._limits.statement_bytes)])
                    number += 1
                    await self._insert_letters(block, f"{token}/dead/{number}", task)

    async def _insert_letters(self, letters: Block, token: str, task: TaskProgress) -> None:
        try:
            await self._attempts(letters, token, task)
        except RejectedRowsError as error:
            raise FatalError(str(error), hint=f"{letters.table} is not as dyncdc made it: move it away") from error

    async def _attempts(self, block: Block, token: str, task: TaskProgress) -> None:
        """Insert until ClickHouse takes it: the same block and token each time."""
        loop = asyncio.get_running_loop()

        async def attempt() -> None:
            task.waiting_for("a free insert slot")
            async with self._slots:  # not held during the pause after a failure: other tables go on
                task.waiting_for("ClickHouse")
                started = loop.time()
                await self._sink.insert(block, token)
                self._metrics.inserted(block.table, block.rows, loop.time() - started, self._clock())
                task.moved()

        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            self._refused.add(block.table)
            self._metrics.retry("insert", error)
            self._progress.report(f"insert:{block.table}", error, pause_seconds)

        await retry_for_ever(attempt, backoff=Backoff(), on_retry=on_retry)
        self._refused.discard(block.table)
        self._eased.set()

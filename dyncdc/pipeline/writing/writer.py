"""Writer: one open batch and at most one insert in flight per table.

It decides when to flush; it never decides what is safe to checkpoint.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import inf

import orjson

from dyncdc.errors import FatalError, RefusedError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import Receipt
from dyncdc.pipeline.ports.sink import Sink
from dyncdc.pipeline.ports.source import Rereading
from dyncdc.pipeline.runtime import Backoff, Instruments, retry_forever
from dyncdc.telemetry.task_health import TaskProgress

from .batch import collapse, join, statement, take
from .dead_letter_limits import DeadLetterLimiter
from .flush_rate import FlushRates
from .insert_slots import InsertSlots
from .isolation import Isolation, Refusal, Row
from .open_batch import BatchLimits, OpenBatch, Part
from .rejected_rows import DeadLetterSource, RejectedRow, dead_letters_of

PRESSURE_SHARE = 0.25
"""Someone waits for the budget and open batches hold this share of it: flush the largest."""

PRESSURE_WAIT_SECONDS = 0.2
"""Someone has waited this long with no fetch under way: flush the largest, however small."""

REFUSED_SHARE = 0.5
"""Tables whose inserts fail may hold this share of the budget, all together, so that the other tables go on."""

SLOW_SHARE = 0.25
"""The same for tables whose inserts are slow."""

DIVIDE_AFTER_SECONDS = 5.0
"""A statement that has been refused for so long, by codes that may be of its rows, is divided."""

DIVIDE_AGAIN_SECONDS = 60.0
"""The longest until it is divided again, after assignments in which nothing was taken."""


@dataclass(frozen=True, slots=True)
class DeadLetterHandling:
    """What becomes of rejected rows. ``source`` makes their dead letters; ``limiter`` ends a session with too many."""

    source: DeadLetterSource
    limiter: DeadLetterLimiter


class Writer:
    """Batches blocks per table and flushes on rows, bytes, age, memory pressure or drain.

    Invariant: a receipt is acknowledged only after the statement that holds its block has returned.
    """

    def __init__(
        self,
        sink: Sink,
        budget: ByteBudget,
        limits: BatchLimits,
        instruments: Instruments,
        *,
        token_prefix: str,
        dead_letters: DeadLetterHandling,
    ) -> None:
        self._sink = sink
        self._budget = budget
        self._limits = limits
        self._token_prefix = token_prefix
        self._dead_letters = dead_letters
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._clock = instruments.clock
        self._ordinal = 0
        self._open: dict[str, OpenBatch] = {}
        self._cadences = FlushRates(limits.max_age_seconds)
        self._flushing: dict[str, OpenBatch] = {}
        self._refused: dict[str, str] = {}
        """Tables that take nothing at present, and what was said of the last try."""
        self._rejected: dict[str, list[RejectedRow]] = {}
        """Rows of the statement under way that ClickHouse refuses, by table."""
        self._slots = InsertSlots(limits.inserts_in_flight)
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
            batch = self._open[block.table] = OpenBatch(block.table, now)
        if not batch.granted:
            granted_at = self._cadences.grant(block.table, now, len(self._open))
            batch.due_at = batch.due_at if granted_at is None else granted_at
        batch.add(block, receipt, now if read_at is None else read_at)
        self._wake.set()

    def flush_soon(self, tables: Collection[str]) -> None:
        """Flush these tables now: a shard has been read to its end and its children wait for what it held."""
        for table in tables:
            if table in self._open:
                self._open[table].flush_requested = True
        self._wake.set()

    def drain(self) -> None:
        """Flush everything, then let ``run`` return. Nothing may be put afterwards."""
        self._draining = True
        self._wake.set()

    async def wait_for_capacity(self, tables: Collection[str]) -> None:
        """Wait until ``has_capacity``."""
        while not self.has_capacity(tables):
            self._eased.clear()
            await self._eased.wait()

    def has_capacity(self, tables: Collection[str]) -> bool:
        """Whether no table among ``tables`` is being refused, or slow, while those that are hold their share."""
        return not any(self._overdrawn(table) for table in tables)

    def _held(self, table: str) -> int:
        held = self._open.get(table), self._flushing.get(table)
        return sum(batch.nbytes for batch in held if batch is not None)

    def _overdrawn(self, table: str) -> bool:
        if table in self._refused:
            alike, share = set(self._refused), REFUSED_SHARE
        elif table in self._slots.slow:
            alike, share = self._slots.slow - self._refused.keys(), SLOW_SHARE
        else:
            return False
        return sum(map(self._held, alike)) >= share * self._budget.capacity_bytes

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

    def _ripe_at(self, batch: OpenBatch) -> float:
        """When a batch is old enough: one age after it was opened, or as soon as its table's flush rate allows."""
        if batch.flush_requested:
            return -inf
        return min(batch.due_at, batch.opened + self._cadences.age_seconds(len(self._open)))

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

    async def _flush(self, batch: OpenBatch) -> None:
        table = batch.table
        with self._health.task(f"insert:{table}") as task:
            while batch.parts:
                parts = statement(batch.parts, self._limits.statement_bytes)
                token = self._token()
                await self._write(batch, parts, token, task)
                await self._bury_refused(table, token, task)
                self._metrics.arrived(table, max(block.created for block, _ in parts), self._clock())
                batch.settle(parts)
                self._eased.set()
        if batch.read_at:
            self._metrics.passed("read_to_insert", asyncio.get_running_loop().time() - batch.read_at)
        del self._flushing[table]
        self._eased.set()
        self._wake.set()

    def _token(self) -> str:
        self._ordinal += 1
        return f"{self._token_prefix}/{self._ordinal}"

    async def _write(self, batch: OpenBatch, parts: list[Part], token: str, task: TaskProgress) -> None:
        """Make the rows durable, those aside that are refused: they are kept for ``_bury_refused``.

        ``parts`` grows when there is nothing to compare refused rows with, by what has come since.
        """
        left, patience_seconds = list(parts), DIVIDE_AFTER_SECONDS
        tokens = _below(token)
        while left:
            try:
                block = join(collapse([block for block, _ in left]))
                await self._attempts(block, token, task, patience_seconds=patience_seconds)
            except (RejectedRowsError, RefusedError) as error:
                self._metrics.error("insert", error)
                self._note(batch.table, task, error)
                found, left = await self._isolate(left, (token, tokens), task, error)
                if left and not found:
                    await self._rest(batch.table, error, patience_seconds)
                    patience_seconds = min(2 * patience_seconds, DIVIDE_AGAIN_SECONDS)
                    found = self._widen(batch, parts, left)
                if found:  # other rows than before
                    token = self._token()
                    tokens = _below(token)
            else:
                self._accept(batch.table, left)
                return
        self._refused.pop(batch.table, None)

    async def _isolate(
        self, parts: list[Part], tokens: tuple[str, Iterator[str]], task: TaskProgress, error: Refusal
    ) -> tuple[bool, list[Part]]:
        """Divide what is refused. Return whether that told anything, and what is still to be made durable.

        ``tokens``: that of the whole, and those for parts of it.
        """

        async def insert(block: Block, token: str, *, past_views: bool) -> None:
            await self._attempts(block, token, task, past_views=past_views, patience_seconds=0.0)

        def on_refused(row: Row, error: RejectedRowsError) -> None:
            block, receipt = parts[row[0]]
            self._reject(take(block, [row[1]]), receipt, error)

        table = parts[0][0].table
        isolation = Isolation(
            [block for block, _ in parts],
            tokens[1],
            insert,
            on_taken=lambda taken: self._accept(table, [(block, parts[number][1]) for number, block in taken]),
            on_refused=on_refused,
        )
        found = await isolation.run(tokens[0], error)
        return found, [(block, parts[number][1]) for number, block in isolation.left()]

    def _accept(self, table: str, parts: Sequence[Part]) -> None:
        self._dead_letters.limiter.count_accepted(table, ((receipt.shard, block.positions) for block, receipt in parts))

    async def _rest(self, table: str, error: Refusal, patience_seconds: float) -> None:
        """Pause, since the table takes nothing: for long where no other pause was."""
        backoff = Backoff(patience_seconds, patience_seconds) if isinstance(error, RejectedRowsError) else Backoff()
        pause_seconds = backoff.next_seconds()
        self._health.log_retry(f"insert:{table}", error, pause_seconds)
        await asyncio.sleep(pause_seconds)

    def _note(self, table: str, task: TaskProgress, error: Exception) -> None:
        """Let others see that the table takes nothing, and what ClickHouse says of it."""
        self._refused[table] = f"ClickHouse ({error})"
        if self._overdrawn(table):
            self._refused[table] += "; what it is read from is not read on, as it holds its share of the memory"
        task.waiting_for(self._refused[table])

    def _widen(self, batch: OpenBatch, parts: list[Part], left: list[Part]) -> bool:
        """Let rows that came since join those that wait; return whether any did."""
        since = self._open.pop(batch.table, None)
        if since is not None:
            batch.absorb(since)
        held = sum(len(cell) for block, _ in left for cell in block.cells)
        more: list[Part] = []
        while batch.parts and batch.parts[0][0].columns == left[0][0].columns:
            held += sum(map(len, batch.parts[0][0].cells))
            if held > self._limits.statement_bytes:
                break
            more.append(batch.parts.popleft())
        parts += more
        left += more
        return bool(more)

    def _reject(self, block: Block, receipt: Receipt, error: RejectedRowsError) -> None:
        """Keep a refused row for its rejection. Raises LimitReached when there are too many."""
        position = Position(orjson.loads(block.positions)) if block.positions else receipt.mark.position
        row = RejectedRow(block, receipt.shard, position, error)
        rejected = self._rejected.setdefault(block.table, [])
        rejected.append(row)
        dead_letter = self._dead_letters.source.name(row)
        self._health.diverted([dead_letter])
        self._dead_letters.limiter.count_rejected(
            block.table, row.shard, dead_letter, (rejected[0].shard, rejected[0].position)
        )

    async def _bury_refused(self, table: str, token: str, task: TaskProgress) -> None:
        """Make the dead letters of the statement's refused rows durable."""
        rejected = self._rejected.pop(table, [])
        if not rejected:
            return
        task.waiting_for("the records of refused rows")
        number = 0
        async with aclosing(dead_letters_of(rejected, self.sources, self._dead_letters.source)) as slices:
            async for dead_letters in slices:
                pending = deque((dead_letter, None) for dead_letter in dead_letters)
                while pending:
                    block = join([dead_letter for dead_letter, _ in statement(pending, self._limits.statement_bytes)])
                    number += 1
                    await self._insert_letters(block, f"{token}/dead/{number}", task)

    async def _insert_letters(self, dead_letters: Block, token: str, task: TaskProgress) -> None:
        try:
            await self._attempts(dead_letters, token, task)
        except RejectedRowsError as error:
            raise FatalError(str(error), hint=f"{dead_letters.table} is not as dyncdc made it: move it away") from error

    async def _attempts(
        self, block: Block, token: str, task: TaskProgress, *, past_views: bool = False, patience_seconds: float = inf
    ) -> None:
        """Insert until ClickHouse takes it: the same block and token each time.

        Raises RefusedError once it has been refused for ``patience_seconds``, and RejectedRowsError.
        """
        loop = asyncio.get_running_loop()
        refused_since = inf

        async def attempt() -> None:
            task.waiting_for("a free insert slot")
            async with self._slots.hold(block.table):  # not during the pause after a failure: other tables go on
                task.waiting_for(self._refused.get(block.table, "ClickHouse"))
                started = loop.time()
                await self._sink.insert(block, token, past_views=past_views)
                self._metrics.inserted(block.table, block.rows, loop.time() - started, self._clock())
                if not past_views:  # which tells nothing of those that follow
                    task.moved()

        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            nonlocal refused_since
            refused_since = min(refused_since, loop.time()) if isinstance(error, RefusedError) else inf
            if loop.time() - refused_since >= patience_seconds:
                raise error
            self._metrics.retry("insert", error)
            self._health.log_retry(f"insert:{block.table}", error, pause_seconds)
            self._note(block.table, task, error)

        await retry_forever(attempt, backoff=Backoff(), on_retry=on_retry)
        if not past_views:
            self._refused.pop(block.table, None)
            self._eased.set()


def _below(token: str) -> Iterator[str]:
    """Tokens for parts of a statement: each for other rows."""
    return (f"{token}/{number}" for number in itertools.count(1))

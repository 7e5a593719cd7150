"""Open batches: the blocks of each table that wait for their insert, and when a batch is due.

They are due by rows, bytes and age, under memory pressure, and when a shard has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from dyncdc.model.blocks import Block
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import Receipt

from .flush_rate import FlushRates

PRESSURE_SHARE = 0.25
"""Someone waits for the budget and open batches hold this share of it: flush the largest."""

PRESSURE_WAIT_SECONDS = 0.2
"""Someone has waited this long with no fetch under way: flush the largest, however small."""

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
class OpenBatch:
    """The blocks of one table that wait for their insert, in delivery order, each with its receipt."""

    table: str
    opened: float
    due_at: float = inf
    """Loop time at which it is flushed although it is neither full nor old; infinite until its flush is granted."""
    parts: deque[Part] = field(default_factory=deque)
    rows: int = 0
    nbytes: int = 0
    read_at: float = 0.0
    """Loop time at which the last change in it was read; 0 while it holds none, but a snapshot's items."""
    flush_requested: bool = False

    def add(self, block: Block, receipt: Receipt, read_at: float) -> None:
        if block.created:
            self.read_at = read_at
        self.parts.append((block, receipt))
        self.rows += block.rows
        self.nbytes += block.nbytes

    @property
    def granted(self) -> bool:
        """Whether it may be flushed before it is old."""
        return self.due_at < inf

    def settle(self, parts: Sequence[Part]) -> None:
        """Acknowledge what is durable."""
        for block, receipt in parts:
            self.nbytes -= block.nbytes
            receipt.ack(block.nbytes)

    def absorb(self, other: OpenBatch) -> None:
        """Add what came after."""
        self.read_at = max(self.read_at, other.read_at)
        self.parts += other.parts
        self.rows += other.rows
        self.nbytes += other.nbytes


class OpenBatches:
    """The batches of all tables: one is open and at most one is being flushed per table. All times are loop times."""

    def __init__(self, limits: BatchLimits, budget: ByteBudget) -> None:
        self._limits = limits
        self._budget = budget
        self._flush_rates = FlushRates(limits.max_age_seconds)
        self._open: dict[str, OpenBatch] = {}
        self._flushing: dict[str, OpenBatch] = {}

    def __bool__(self) -> bool:
        return bool(self._open or self._flushing)

    def put(self, block: Block, receipt: Receipt, now: float, read_at: float) -> None:
        """Append to the batch of the block's table."""
        batch = self._open.get(block.table)
        if batch is None:
            batch = self._open[block.table] = OpenBatch(block.table, now)
        if not batch.granted:
            granted_at = self._flush_rates.grant(block.table, now, len(self._open))
            batch.due_at = batch.due_at if granted_at is None else granted_at
        batch.add(block, receipt, read_at)

    def flush_soon(self, tables: Collection[str]) -> None:
        """Make the batches of these tables due."""
        for table in tables:
            if table in self._open:
                self._open[table].flush_requested = True

    def held(self, table: str) -> int:
        """How many bytes wait for their insert, or are being inserted."""
        held = self._open.get(table), self._flushing.get(table)
        return sum(batch.nbytes for batch in held if batch is not None)

    def take_due(self, now: float, *, draining: bool, fetching: int) -> list[OpenBatch]:
        """Begin to flush what is due; each ends by ``flushed``. ``fetching``: fetches and decodes under way."""
        batches = len(self._open)  # before any of the many is taken away
        taken = []
        for table in self._due(now, draining=draining, fetching=fetching):
            batch = self._flushing[table] = self._open.pop(table)
            self._flush_rates.spend(table, now, batches, granted=batch.granted)
            taken.append(batch)
        return taken

    def flushed(self, table: str) -> None:
        """End the flush of a table's batch."""
        del self._flushing[table]

    def absorb_newer(self, batch: OpenBatch) -> None:
        """Add to a batch that is being flushed what has come since."""
        since = self._open.pop(batch.table, None)
        if since is not None:
            batch.absorb(since)

    def _due(self, now: float, *, draining: bool, fetching: int) -> list[str]:
        """Tables to flush now: full or old ones, and under pressure the largest."""
        limits = self._limits
        free = [batch for batch in self._open.values() if batch.table not in self._flushing]
        due = [
            batch.table
            for batch in free
            if draining
            or batch.rows >= limits.max_rows
            or batch.nbytes >= limits.max_bytes
            or now >= self._due_at(batch)
        ]
        if not due and free and self._pressed(now, fetching):
            due.append(max(free, key=lambda batch: batch.nbytes).table)
        return due

    def _due_at(self, batch: OpenBatch) -> float:
        """When a batch is old enough: one age after it was opened, or as soon as its table's flush rate allows."""
        if batch.flush_requested:
            return -inf
        return min(batch.due_at, batch.opened + self._flush_rates.age_seconds(len(self._open)))

    def _pressed(self, now: float, fetching: int) -> bool:
        since = self._budget.waiting_since()
        if since is None:
            return False
        held = sum(batch.nbytes for batch in self._open.values())
        if held >= PRESSURE_SHARE * self._budget.capacity_bytes:
            return True
        return fetching == 0 and now - since >= PRESSURE_WAIT_SECONDS

    def pause_seconds(self, now: float) -> float | None:
        """How long nothing can become due by itself; None when only an event can change that."""
        ages = [self._due_at(batch) - now for batch in self._open.values() if batch.table not in self._flushing]
        if ages and self._budget.waiting:
            ages.append(PRESSURE_WAIT_SECONDS)
        return max(0.0, min(ages)) if ages else None

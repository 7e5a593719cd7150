"""Open batches: the blocks of one table that wait for their insert, and when a batch is full. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from dyncdc.model.blocks import Block
from dyncdc.pipeline.checkpoint.ledger import Receipt

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

"""Writer: one open batch and at most one insert in flight per table.

It decides when to flush; it never decides what is safe to checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from dyncdc.model.blocks import Block
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import Receipt
from dyncdc.pipeline.ports.sink import Sink
from dyncdc.pipeline.runtime import Instruments

from .capacity import TableCapacity
from .insert_slots import InsertSlots
from .inserts import Inserts
from .open_batch import BatchLimits, OpenBatch, OpenBatches
from .rejections import DeadLetterHandling, Rejections
from .statements import StatementWriter


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
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._batches = OpenBatches(limits, budget)
        slots = InsertSlots(limits.inserts_in_flight)
        self._capacity = TableCapacity(budget, slots, self._batches.held)
        inserts = Inserts(sink, slots, self._capacity, instruments)
        rejections = Rejections(dead_letters, inserts, instruments.health, statement_bytes=limits.statement_bytes)
        self._statements = StatementWriter(
            self._batches,
            inserts,
            rejections,
            instruments,
            token_prefix=token_prefix,
            statement_bytes=limits.statement_bytes,
        )
        self._wake = asyncio.Event()
        self._draining = False
        self.fetching = 0
        """Fetches and decodes under way; readers count themselves in and out."""
        self.sources = rejections.sources
        """Where records can be read again; readers name theirs."""
        budget.on_wait(self._wake.set)

    def put(self, block: Block, receipt: Receipt, read_at: float | None = None) -> None:
        """Append; never waits, the budget already did. ``read_at``: loop time of the answer it came with."""
        now = asyncio.get_running_loop().time()
        self._batches.put(block, receipt, now, now if read_at is None else read_at)
        self._wake.set()

    def flush_soon(self, tables: Collection[str]) -> None:
        """Flush these tables now: a shard has been read to its end and its children wait for what it held."""
        self._batches.flush_soon(tables)
        self._wake.set()

    def drain(self) -> None:
        """Flush everything, then let ``run`` return. Nothing may be put afterwards."""
        self._draining = True
        self._wake.set()

    async def wait_for_capacity(self, tables: Collection[str]) -> None:
        """Wait until ``has_capacity``."""
        await self._capacity.wait(tables)

    def has_capacity(self, tables: Collection[str]) -> bool:
        """Whether no table among ``tables`` is being refused, or slow, while those that are hold their share."""
        return self._capacity.is_free(tables)

    async def run(self) -> None:
        """Start flushes until drained. The only task that does."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as flushes:
            while True:
                self._wake.clear()
                for batch in self._batches.take_due(loop.time(), draining=self._draining, fetching=self.fetching):
                    flushes.create_task(self._flush(batch), name=f"insert:{batch.table}")
                if self._draining and not self._batches:
                    return
                try:
                    async with asyncio.timeout(self._batches.pause_seconds(loop.time())):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _flush(self, batch: OpenBatch) -> None:
        with self._health.task(f"insert:{batch.table}") as task:
            await self._statements.write(batch, task)
        if batch.read_at:
            self._metrics.passed("read_to_insert", asyncio.get_running_loop().time() - batch.read_at)
        self._batches.flushed(batch.table)
        self._capacity.freed()
        self._wake.set()

"""Inserts: one block at a time, until ClickHouse takes it or has refused it for long enough."""

from __future__ import annotations

import asyncio
from math import inf

from dyncdc.errors import RefusedError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.ports.sink import Sink
from dyncdc.pipeline.runtime import Backoff, Instruments, retry_forever
from dyncdc.telemetry.task_health import TaskProgress

from .capacity import TableCapacity
from .insert_slots import InsertSlots


class Inserts:
    """Sends blocks. Tables that take nothing show in health, and count as refused in ``capacity``."""

    def __init__(self, sink: Sink, slots: InsertSlots, capacity: TableCapacity, instruments: Instruments) -> None:
        self._sink = sink
        self._slots = slots
        self.capacity = capacity
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._clock = instruments.clock

    async def insert(
        self, block: Block, token: str, task: TaskProgress, *, past_views: bool = False, give_up_seconds: float = inf
    ) -> None:
        """Insert until ClickHouse takes it: the same block and token each time.

        Raises RefusedError once it has been refused for ``give_up_seconds``, and RejectedRowsError.
        """
        loop = asyncio.get_running_loop()
        refused_since = inf

        async def attempt() -> None:
            task.waiting_for("a free insert slot")
            async with self._slots.hold(block.table):  # not during the pause after a failure: other tables go on
                task.waiting_for(self.capacity.refused.get(block.table, "ClickHouse"))
                started = loop.time()
                await self._sink.insert(block, token, past_views=past_views)
                self._metrics.inserted(block.table, block.rows, loop.time() - started, self._clock())
                if not past_views:  # which tells nothing of those that follow
                    task.moved()

        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            nonlocal refused_since
            refused_since = min(refused_since, loop.time()) if isinstance(error, RefusedError) else inf
            if loop.time() - refused_since >= give_up_seconds:
                raise error
            self._metrics.retry("insert", error)
            self._health.log_retry(f"insert:{block.table}", error, pause_seconds)
            self.note_refusal(block.table, task, error)

        await retry_forever(attempt, backoff=Backoff(), on_retry=on_retry)
        if not past_views:
            self.capacity.refused.pop(block.table, None)
            self.capacity.freed()

    def note_refusal(self, table: str, task: TaskProgress, error: Exception) -> None:
        """Show that the table takes nothing, and what ClickHouse says of it."""
        refused = self.capacity.refused
        refused[table] = f"ClickHouse ({error})"
        if self.capacity.is_overdrawn(table):
            refused[table] += "; what it is read from is not read on, as it holds its share of the memory"
        task.waiting_for(refused[table])

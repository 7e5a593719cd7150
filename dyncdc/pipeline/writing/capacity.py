"""Capacity: how much of the budget the tables that take nothing, or are slow, may hold, so that the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from dyncdc.pipeline.budget import ByteBudget

from .insert_slots import InsertSlots

REFUSED_SHARE = 0.5
"""Tables whose inserts fail may hold this share of the budget, all together, so that the other tables go on."""

SLOW_SHARE = 0.25
"""The same for tables whose inserts are slow."""


class TableCapacity:
    """Which tables may be read for. ``held``: the bytes of a table that are not durable yet."""

    def __init__(self, budget: ByteBudget, slots: InsertSlots, held: Callable[[str], int]) -> None:
        self._budget = budget
        self._slots = slots
        self._held = held
        self._freed = asyncio.Event()
        self.refused: dict[str, str] = {}
        """Tables that take nothing at present, and what was said of the last try."""

    def is_free(self, tables: Collection[str]) -> bool:
        """Whether no table among ``tables`` is being refused, or slow, while those that are hold their share."""
        return not any(self.is_overdrawn(table) for table in tables)

    async def wait(self, tables: Collection[str]) -> None:
        """Wait until it is free for ``tables``."""
        while not self.is_free(tables):
            self._freed.clear()
            await self._freed.wait()

    def freed(self) -> None:
        """Let those who wait look again: something became durable, or a table takes rows again."""
        self._freed.set()

    def is_overdrawn(self, table: str) -> bool:
        """Whether tables like this one, refused or slow, hold their share."""
        if table in self.refused:
            alike, share = set(self.refused), REFUSED_SHARE
        elif table in self._slots.slow:
            alike, share = self._slots.slow - self.refused.keys(), SLOW_SHARE
        else:
            return False
        return sum(map(self._held, alike)) >= share * self._budget.capacity_bytes

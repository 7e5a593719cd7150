"""Insert slots: how many inserts run at a time. Slow tables have slots of their own: no one waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SLOW_SECONDS: Final = 5.0
"""An insert that takes longer is slow, and so is its table until an insert of it has been quicker."""

SLOW_SLOTS: Final = 4


class _Lane(asyncio.Semaphore):
    def take(self) -> bool:
        """Acquire at once or not at all."""
        free = not self.locked()
        self._value -= free
        return free


class InsertSlots:
    """``quick`` inserts of tables that are not slow, and ``SLOW_SLOTS`` of those that are.

    An insert that turns out to be slow moves to the slow ones. So it holds a slot of the others for ``SLOW_SECONDS`` at
    most, and longer only where more than ``SLOW_SLOTS`` tables are slow: then once, when its table turns slow.
    """

    def __init__(self, quick: int) -> None:
        self._quick = _Lane(quick)
        self._slow = _Lane(SLOW_SLOTS)
        self.slow: set[str] = set()
        """Tables whose last insert was slow, or whose present one is."""

    @asynccontextmanager
    async def hold(self, table: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        loop = asyncio.get_running_loop()
        lane = self._slow if table in self.slow else self._quick
        await lane.acquire()
        held, begun = [lane], loop.time()
        turning = loop.call_later(SLOW_SECONDS, self._turn_slow, table, held)
        try:
            yield
        finally:
            turning.cancel()
            held.pop().release()
            if loop.time() - begun < SLOW_SECONDS:
                self.slow.discard(table)

    def _turn_slow(self, table: str, held: list[_Lane]) -> None:
        self.slow.add(table)
        if held == [self._quick] and self._slow.take():
            held.pop().release()
            held.append(self._slow)

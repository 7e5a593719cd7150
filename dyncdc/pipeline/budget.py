"""ByteBudget: the one place that says no.

Bounds the bytes fetched and not yet durable; knows nothing of what they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Reservation:
    """A share of the budget, held from before the fetch until the sink's acknowledgement."""

    __slots__ = ("_budget", "nbytes")

    def __init__(self, budget: ByteBudget, nbytes: int) -> None:
        self._budget = budget
        self.nbytes = nbytes

    def resize(self, nbytes: int) -> None:
        """Replace the estimate by what is really held. Growth is taken at once, even past the capacity, and counted."""
        change = nbytes - self.nbytes
        self.nbytes = nbytes
        if change > 0:
            self._budget.grow(change)
        elif change < 0:
            self._budget.give_back(-change)

    def give_back(self, nbytes: int) -> None:
        """Give a part back."""
        self.resize(self.nbytes - nbytes)

    def release(self) -> None:
        """Give everything back. Idempotent."""
        held, self.nbytes = self.nbytes, 0
        if held:
            self._budget.give_back(held)


class ByteBudget:
    """A byte semaphore, first come first served.

    Invariant: ``held`` is the sum of all living reservations. ``held <= capacity`` but for overshoot, which is what a
    response brought beyond its estimate; nothing more is granted until it is paid back.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self.peak_bytes = 0
        self.overshoot_bytes_total = 0
        self._waiters: deque[tuple[int, float, asyncio.Future[None]]] = deque()
        self._on_wait: Callable[[], None] = lambda: None

    def on_wait(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever someone has to wait; the writer uses it to flush early."""
        self._on_wait = callback

    @property
    def waiting(self) -> int:
        """How many readers wait for a grant."""
        return len(self._waiters)

    def waiting_since(self) -> float | None:
        """Loop time at which the first in the queue began to wait."""
        return self._waiters[0][1] if self._waiters else None

    async def reserve(self, nbytes: int) -> Reservation:
        """Wait until ``nbytes`` fit, in the order of asking. Cancellation leaks nothing.

        More than the capacity is cut to the capacity, so that one oversized request cannot wait forever.
        """
        nbytes = min(nbytes, self.capacity_bytes)
        if not self._waiters and self._fits(nbytes):
            self._take(nbytes)
            return Reservation(self, nbytes)
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        entry = (nbytes, loop.time(), granted)
        self._waiters.append(entry)
        self._on_wait()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back(nbytes)  # granted, then cancelled before we woke: hand it on
            elif entry in self._waiters:
                self._waiters.remove(entry)
                self._wake()  # the one behind may fit where we did not
            raise
        return Reservation(self, nbytes)

    def grow(self, nbytes: int) -> None:
        """Take ``nbytes`` without asking: they are in memory already. Only for Reservation."""
        before = max(0, self.held_bytes - self.capacity_bytes)
        self._take(nbytes)
        self.overshoot_bytes_total += max(0, self.held_bytes - self.capacity_bytes) - before

    def give_back(self, nbytes: int) -> None:
        """Return ``nbytes`` and grant waiting reservations. Only for Reservation."""
        self.held_bytes -= nbytes
        self._wake()

    def _fits(self, nbytes: int) -> bool:
        return self.held_bytes + nbytes <= self.capacity_bytes

    def _take(self, nbytes: int) -> None:
        self.held_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def _wake(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            nbytes, _, granted = self._waiters.popleft()
            if not granted.cancelled():
                self._take(nbytes)
                granted.set_result(None)

"""How much of a table's read capacity a scan takes: a bucket of read units that all segments share, and page sizes.

Source: AWS, read capacity of Scan: half a unit per 4 KB for an eventually consistent read, each page rounded up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

UNIT_BYTES = 8192
"""What one read unit buys, eventually consistent."""

PAGE_LEAST_UNITS = 0.5
ITEM_MOST_UNITS = 50.0
"""An item of 400 KB, the largest there can be: what is assumed as long as none has been seen."""

BURST_SECONDS = 1.0
"""Unused capacity is kept for so long."""

PAGE_SECONDS = 0.25
PAGE_SMALL_UNITS = 4.0
"""A page costs what the budget gives in that time, but not less than so much: each page rounds up."""

WAIT_MOST_SECONDS = 10.0
"""A segment that has not had its turn by then says so, that a slow budget is not taken for a stuck task."""

LOOK_AGAIN_SECONDS = 0.1
"""Waiting segments look this often: what others give back counts at once."""

HALVED_AT_MOST_EVERY_SECONDS = 1.0
SLOWEST_SHARE = 1 / 64
RECOVERY_PER_SECOND = 0.02
"""Share of the full rate that comes back with each second without throttling."""

PAGE_MOST_ITEMS = 10_000
UNSEEN_ITEM_BYTES = 1024
REMEMBER = 0.7


class ReadCapacity:
    """A budget in read units per second. Throttling halves it; it recovers slowly. ``clock``: monotonic seconds."""

    def __init__(self, units_per_second: float, clock: Callable[[], float]) -> None:
        self._full = units_per_second
        self._clock = clock
        self._rate = units_per_second
        self._balance = units_per_second * BURST_SECONDS
        self._as_of = clock()
        self._halved_at = float("-inf")
        self._turn = asyncio.Lock()

    @property
    def units_per_second(self) -> float:
        """The rate of now: the full one, or less after throttling."""
        self._refill()
        return self._rate

    @property
    def page_units(self) -> float:
        """What one page may cost."""
        return max(self.units_per_second * PAGE_SECONDS, PAGE_SMALL_UNITS)

    async def admit(self, units: float) -> bool:
        """Wait until the budget has ``units``, first come first served, and charge them; ``settle`` puts them right.

        False, and nothing charged, when that takes too long. More than the budget ever holds is admitted when it is
        full, and paid for afterwards: everybody waits while it is overdrawn.
        """
        try:
            async with asyncio.timeout(WAIT_MOST_SECONDS), self._turn:
                while (missing := self._missing(units)) > 0:  # noqa: ASYNC110  # time itself fills the budget
                    await asyncio.sleep(min(missing / self._rate, LOOK_AGAIN_SECONDS))
                self._balance -= units
        except TimeoutError:
            return False
        return True

    def settle(self, admitted: float, consumed: float) -> None:
        """Replace what was charged beforehand by what DynamoDB says it took."""
        self._balance += admitted - consumed

    def throttled(self) -> None:
        """Halve the rate, once for all segments that are told so at the same time, and use up what is left."""
        self._refill()
        now = self._clock()
        self._balance = min(self._balance, 0.0)
        if now - self._halved_at >= HALVED_AT_MOST_EVERY_SECONDS:
            self._halved_at = now
            self._rate = max(self._rate / 2, self._full * SLOWEST_SHARE)

    def _missing(self, units: float) -> float:
        self._refill()
        return min(units, self._rate * BURST_SECONDS) - self._balance

    def _refill(self) -> None:
        now = self._clock()
        elapsed, self._as_of = now - self._as_of, now
        self._balance = min(self._balance + elapsed * self._rate, self._rate * BURST_SECONDS)
        self._rate = min(self._rate + elapsed * self._full * RECOVERY_PER_SECOND, self._full)


@dataclass(slots=True)
class PageSize:
    """How many items one Scan asks for, learned from a segment's pages: the call has no limit in bytes or units."""

    item_bytes: float = 0.0
    item_units: float = ITEM_MOST_UNITS

    def limit(self, want_bytes: int, units: float) -> int:
        """Items to ask for, so that they come to about ``want_bytes`` in memory and cost ``units`` at most."""
        by_bytes = want_bytes / (self.item_bytes or UNSEEN_ITEM_BYTES)
        return max(1, min(int(by_bytes), int(units / self.item_units), PAGE_MOST_ITEMS))

    def units(self, limit: int) -> float:
        """What a page of so many items is expected to cost."""
        return max(PAGE_LEAST_UNITS, limit * self.item_units)

    def answered(self, items: int, nbytes: int, units: float) -> None:
        """Learn from a page. Larger items count at once, smaller ones slowly: too much costs memory and capacity."""
        if items:
            seen_bytes, seen_units = nbytes / items, units / items
            if not self.item_bytes:
                self.item_bytes, self.item_units = seen_bytes, seen_units
            self.item_bytes = max(seen_bytes, REMEMBER * self.item_bytes + (1 - REMEMBER) * seen_bytes)
            self.item_units = max(seen_units, REMEMBER * self.item_units + (1 - REMEMBER) * seen_units)


def units_of(nbytes: int) -> float:
    """What a page of so many bytes costs, where DynamoDB does not say."""
    return max(PAGE_LEAST_UNITS, -(-2 * nbytes // UNIT_BYTES) / 2)

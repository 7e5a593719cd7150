"""Throughput: rows per second of the last minutes, for the configured tables. Bounded; sampled, never per record."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .model import Plot

STEP_SECONDS = 5.0
STEPS = 72
"""Six minutes."""

Totals = Mapping[str, tuple[float, float]]
"""By table: rows read and rows written since the start."""


@dataclass(slots=True)
class _Ring:
    read: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS))
    written: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS))
    before: tuple[float, float] = (0.0, 0.0)


class Throughput:
    """The rings. Steps end at multiples of their length, so that those of several processes can be added up."""

    def __init__(
        self, tables: Iterable[str], totals: Callable[[], Totals], clock: Callable[[], float] = time.time
    ) -> None:
        self._rings = {table: _Ring() for table in tables}
        self._totals = totals
        self._clock = clock
        self._step = int(clock() // STEP_SECONDS)

    def follow(self, tables: Iterable[str]) -> None:
        """Sample these tables from here on; those that stay keep what is known of them."""
        self._rings = {table: self._rings.get(table) or _Ring() for table in tables}

    def sample(self) -> None:
        """Take up what happened since the last call, spread evenly over the steps that ended meanwhile."""
        step = int(self._clock() // STEP_SECONDS)
        ended, self._step = step - self._step, step
        if ended <= 0:  # within one step, or a clock that was set back
            return
        totals = self._totals()
        for table, ring in self._rings.items():
            now = totals.get(table, (0.0, 0.0))
            for steps, total, before in zip((ring.read, ring.written), now, ring.before, strict=True):
                rate = round(max(0.0, total - before) / (ended * STEP_SECONDS), 2)
                steps.extend([rate] * min(ended, STEPS))
            ring.before = now

    def plot(self, table: str) -> Plot:
        """What a table did lately."""
        ring = self._rings[table]
        return Plot(STEP_SECONDS, self._step * STEP_SECONDS, list(ring.read), list(ring.written))

    async def run(self) -> None:
        """Sample forever."""
        while True:
            await asyncio.sleep(STEP_SECONDS - self._clock() % STEP_SECONDS)
            self.sample()


def sum_plots(plots: Iterable[Plot]) -> Plot:
    """Add up plots of the same table; what one of them does not reach counts as 0."""
    found = list(plots)
    newest = max(plot.end for plot in found)
    return Plot(
        STEP_SECONDS,
        newest,
        _sum([(plot.read, newest - plot.end) for plot in found]),
        _sum([(plot.written, newest - plot.end) for plot in found]),
    )


def _sum(late: list[tuple[list[float], float]]) -> list[float]:
    shifted = [(values, round(seconds / STEP_SECONDS)) for values, seconds in late]
    length = min(STEPS, max(len(values) + shift for values, shift in shifted))
    total = [0.0] * length
    for values, shift in shifted:
        for place, value in enumerate(values, length - len(values) - shift):
            if 0 <= place < length:
                total[place] += value
    return total

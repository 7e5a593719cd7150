"""An event loop whose clock jumps to the next timer whenever nothing is ready: hours pass in milliseconds.

No files, sockets, threads or signals: whoever waits for one of these hangs, and that is reported at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

STEPS_LIMIT = 300_000
"""Turns of the loop after which a test is taken to spin without end."""

STEP_SECONDS = 1e-7
"""What one turn of the loop takes. Time that stood still would let a timer fire before its time, again and again."""


class Deadlock(AssertionError):
    """Every task waits for another one, and no timer is left."""


class _Idle:
    """Stands where a loop has its selector: waiting is moving the clock."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self.steps = 0

    def select(self, timeout: float | None) -> list[object]:
        self.steps += 1
        if self.steps > STEPS_LIMIT:
            raise Deadlock(f"the loop spins: {STEPS_LIMIT:,} turns")
        if timeout is None:
            raise Deadlock("every task waits for another one")
        self._loop.now += timeout + STEP_SECONDS
        return []


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """Time begins at 0 and moves, but for a trifle, only while everybody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Idle(self)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def _process_events(self, event_list: list[object]) -> None:
        """Nothing ever comes from outside."""

    def _write_to_self(self) -> None:
        """No one sleeps in a system call that would have to be woken."""


def run(work: Coroutine[object, object, T]) -> T:
    """Run ``work`` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)

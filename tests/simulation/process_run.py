"""One session of the process under test: when its power is cut, and what the fakes may do to it until then."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from dyncdc.errors import RetryableError

from .world import EPOCH


class Violation(AssertionError):
    """The pipeline did what it must never do."""


@dataclass(slots=True)
class Faults:
    """How often what goes wrong, as probabilities per call."""

    throttled: float = 0.05
    empty: float = 0.05
    list_failed: float = 0.08
    insert_refused: float = 0.06
    insert_unanswered: float = 0.15
    save_failed: float = 0.06
    save_unanswered: float = 0.06
    export_failed: float = 0.05
    children_unnamed: float = 0.15
    corrupt_file: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    """Spans of virtual time in which ClickHouse answers nothing."""
    refusals: tuple[tuple[float, float], ...] = ()
    """Spans in which it refuses every insert by a code that no one knows."""


@dataclass(slots=True)
class PowerCut:
    """Cut the power when a named point is reached for the nth time."""

    point: str
    countdown: int


@dataclass(slots=True)
class Life:
    """What is shared by the fakes of one session. Dead fakes answer no one."""

    seed: str
    faults: Faults
    violations: list[str]
    cut: PowerCut | None = None
    longest_pause_seconds: float = float("inf")
    """From the last answer of a shard's parents to its first fetch, at most."""
    dead: bool = False
    task: asyncio.Task[None] | None = None
    rng: random.Random = field(init=False)
    reached: dict[str, int] = field(default_factory=dict)
    doubted: dict[int, int] = field(default_factory=dict)
    """How often rows were refused by a code that does not say what is wrong."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def violated(self, what: str) -> Violation:
        """Note what went wrong, so that no error handling can hide it."""
        self.violations.append(what)
        return Violation(what)

    def coin(self, what: str) -> bool:
        """Toss a coin of its own: tasks are cancelled in no particular order, and a seed must replay."""
        return random.Random(f"{self.seed} {what}").random() < 0.5

    def happens(self, probability: float) -> bool:
        """Roll the dice."""
        return self.rng.random() < probability

    async def takes(self, least_seconds: float, most_seconds: float) -> None:
        """Let a call take its time. Without power nothing is ever answered."""
        if self.dead:
            await asyncio.Event().wait()
        await asyncio.sleep(self.rng.uniform(least_seconds, most_seconds))

    async def ask(self, what: str) -> None:
        """Let a call to ClickHouse take its time, and fail now and then. Raises RetryableError."""
        await self.takes(0.001, 0.05)
        if self.happens(self.faults.save_failed):
            raise RetryableError(f"{what}: no answer")

    async def reach(self, point: str) -> None:
        """Pass a named point; the process may end exactly here."""
        self.reached[point] = self.reached.get(point, 0) + 1
        if self._due(point):
            self.power_cut()
        if self.dead:
            await asyncio.Event().wait()

    def reach_soon(self, point: str) -> None:
        """Pass a named point at which the caller cannot wait: the process ends before any other task has a turn."""
        if self._due(point):
            asyncio.get_running_loop().call_soon(self.power_cut)

    def _due(self, point: str) -> bool:
        if self.cut is None or self.cut.point != point:
            return False
        self.cut.countdown -= 1
        return self.cut.countdown == 0

    def power_cut(self) -> None:
        """End the process: nothing that it does from here on has an effect."""
        self.dead = True
        if self.task is not None:
            self.task.cancel()


def server_time() -> float:
    """Return the date that every server agrees on."""
    return EPOCH + asyncio.get_running_loop().time()

"""Task health: when every live task last moved, and what it waits for. Computed from ages, never from a flag."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dyncdc.errors import AccessDeniedError
from dyncdc.model.blocks import DeadLetter

from .hints import hint_for
from .repeat_limiter import RepeatLimiter

BUDGET = "budget"
"""What a task waits for when others hold the memory: their fault, not its own."""

STACK_FRAMES = 50

LETTERS_INTERVAL_SECONDS = 60.0
"""How often dead letters of one kind are warned of: thousands of records may be wrong in the same way."""

STUCK, MOVED_AGAIN = "task stuck", "task moved again"

_log = structlog.get_logger("dyncdc")


@dataclass(slots=True)
class TaskProgress:
    """One live task. It says when it moved; it cannot say that it is well."""

    name: str
    _clock: Callable[[], float]
    moved_at: float
    waits_for: str = ""
    allowance_seconds: float = 0.0
    failure: str = ""
    runner: asyncio.Task[object] | None = None
    """What runs it: its stack shows where it hangs."""
    logged: bool = False
    last_error: Exception | None = None
    """Why it tries again, while it does."""
    error_since: float = 0.0
    """Since when it has been of this class."""
    plan: str = ""
    """What it waits for on purpose; "" while it does not."""
    plan_ends_at: float | None = None
    """When that will be over, by the clock of ``TaskHealth``; None where no one knows."""
    _rests: bool = False
    """Whether it is in a planned pause that began right after it had moved."""

    def moved(self) -> None:
        """Record progress: something was read, written or saved, or there was verifiably nothing to do."""
        self.moved_at = self._clock()
        self.waits_for = ""
        self.allowance_seconds = 0.0
        self.last_error = None
        self._rests = False

    def waiting_for(self, what: str, *, for_seconds: float = 0.0) -> None:
        """Name what comes next. ``for_seconds``: a pause of this length is planned and does not count as stuck.

        What follows a pause has all its time again: a long pause must not make the next call look stuck at once. A
        pause between failed attempts gives nothing: who only fails and rests does not move.
        """
        if self._rests:
            self.moved_at += min(self._clock() - self.moved_at, self.allowance_seconds)
        self._rests = for_seconds > 0.0 and not self.waits_for
        self.waits_for = what
        self.allowance_seconds = for_seconds

    def planned(self, why: str, *, for_seconds: float | None = None) -> None:
        """Say that it waits on purpose, and for how long if that is known; "" when that is over.

        It excuses nothing: a task that waits so must move all the while, by looking whether it still has to.
        """
        self.plan = why
        self.plan_ends_at = None if for_seconds is None else self._clock() + for_seconds

    def failed(self, why: str) -> None:
        """Record that the task has given up: it counts as stuck from now on. With "" that it has not."""
        self.failure = why
        if not why:
            self.last_error = None

    def attempt_failed(self, error: Exception) -> None:
        """Record why an attempt has failed."""
        if type(error) is not type(self.last_error):
            self.error_since = self._clock()
        self.last_error = error

    @property
    def reason(self) -> str:
        """Why it does not move, as far as is known."""
        last_error = str(self.last_error or "")
        why = f" ({last_error})" if last_error not in self.waits_for else ""
        return self.failure or f"waiting for {self.waits_for or 'its turn'}{why}"


def stack_of(task: asyncio.Task[object] | None) -> list[str]:
    """Where a task hangs: file, line and function of each of its frames, the innermost last. No values."""
    awaited: object = task.get_coro() if task is not None else None
    frames: list[str] = []
    while awaited is not None and len(frames) < STACK_FRAMES:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is None:
            break
        frames.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return frames


@dataclass(frozen=True, slots=True)
class StuckTask:
    """A task that has not moved within its time, as health shows it."""

    name: str
    seconds: float
    reason: str

    def __str__(self) -> str:
        return f"{self.name} has not moved for {self.seconds:.0f} s: {self.reason}"


@dataclass(frozen=True, slots=True)
class PlannedWait:
    """A task that waits on purpose, as health shows it. ``seconds``: for how long still, None where no one knows."""

    name: str
    reason: str
    seconds: float | None

    def __str__(self) -> str:
        left = "" if self.seconds is None else f", {self.seconds:.0f} s still"
        return f"{self.name} waits as planned: {self.reason}{left}"


@dataclass(slots=True)
class TaskHealth:
    """All live tasks. ``clock`` is monotonic seconds."""

    stuck_after_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _tasks: dict[int, TaskProgress] = field(default_factory=dict)
    _named: dict[str, TaskProgress] = field(default_factory=dict)
    """The newest of each name: thousands of shards may report errors at the same time."""
    _repeats: RepeatLimiter = field(init=False)
    _dead_letters: RepeatLimiter = field(init=False)
    _untold: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._repeats = RepeatLimiter(clock=self.clock)
        self._dead_letters = RepeatLimiter(LETTERS_INTERVAL_SECONDS, self.clock)

    @contextmanager
    def task(self, name: str) -> Iterator[TaskProgress]:
        """Register a task for as long as the block runs; logs written inside carry its name."""
        task = TaskProgress(name, self.clock, self.clock())
        with suppress(RuntimeError):  # outside of a loop there is nothing that could hang
            task.runner = asyncio.current_task()
        self._tasks[id(task)] = self._named[name] = task
        try:
            with structlog.contextvars.bound_contextvars(task=name):
                yield task
            if task.logged:
                _log.info(MOVED_AGAIN, task=name)  # by ending
        finally:
            del self._tasks[id(task)]
            if self._named.get(name) is task:
                del self._named[name]

    def is_live(self, name: str) -> bool:
        """Whether a task of this name is."""
        return name in self._named

    def tasks(self) -> list[TaskProgress]:
        """Every live task."""
        return list(self._tasks.values())

    def stuck(self) -> list[StuckTask]:
        """Return the tasks that have not moved within their time, the longest first.

        Those that wait for the budget are left out while another task is stuck, since that one is the cause. When there
        is none they are named: budget that no one gives back must not look healthy.
        """
        now = self.clock()
        late = [
            task
            for task in self._tasks.values()
            if task.failure or now - task.moved_at > self.stuck_after_seconds + task.allowance_seconds
        ]
        causes = [task for task in late if task.failure or task.waits_for != BUDGET]
        found = [StuckTask(task.name, now - task.moved_at, task.reason) for task in causes or late]
        return sorted(found, key=lambda stuck: -stuck.seconds)

    def planned(self) -> list[PlannedWait]:
        """Return the tasks that wait on purpose."""
        now = self.clock()
        return [
            PlannedWait(task.name, task.plan, None if task.plan_ends_at is None else max(0.0, task.plan_ends_at - now))
            for task in self._tasks.values()
            if task.plan
        ]

    def denied(self) -> tuple[float, AccessDeniedError] | None:
        """For how many seconds a task has been denied access by now, and how; of several the longest."""
        now = self.clock()
        found = [
            (now - task.error_since, task.last_error)
            for task in self._tasks.values()
            if isinstance(task.last_error, AccessDeniedError)
        ]
        return max(found, key=lambda one: one[0], default=None)

    async def watch(self) -> None:
        """Log each task that gets stuck, with where it hangs, once; and when it moves again. Until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self.stuck_after_seconds / 4))
            self.look()

    def look(self) -> None:
        """Log what got stuck, or free, since the last look."""
        stuck = {found.name: found for found in self.stuck()}
        for task in self._tasks.values():
            found = stuck.get(task.name)
            if found is not None and not task.logged:
                _log.error(
                    STUCK,
                    task=task.name,
                    seconds=round(found.seconds),
                    reason=found.reason,
                    hint=hint_for(task.name),
                    hangs_in=stack_of(task.runner),  # not "stack": what writes for a terminal takes that for text
                )
            elif found is None and task.logged:
                _log.info(MOVED_AGAIN, task=task.name)
            task.logged = found is not None

    def log_info(self, event: str, **keys: object) -> None:
        """Log what an operator should know of: the start or the end of something, never anything per record."""
        _log.info(event, **keys)

    def log_error(self, event: str, **keys: object) -> None:
        """Log what needs a person, or is at risk, though no task has failed."""
        _log.error(event, **keys)

    def diverted(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Warn of dead letters: of each table, reason and column once per interval, with how many there were since.

        Never what they hold.
        """
        for (table, reason, column), count in Counter(
            (one.table, one.reason, one.column) for one in dead_letters
        ).items():
            key = table, reason, column
            self._untold[key] += count
            if self._dead_letters.admit(key) is not None:
                _log.warning(
                    "dead letters",
                    table=table,
                    reason=reason,
                    column=column,
                    dead_letters=self._untold.pop(key),
                    hint="`dyncdc dead-letters list` and `show ID` say why; once it is fixed, `... replay` them",
                    repeats=0,
                )

    def log_retry(self, task: str, error: Exception, pause_seconds: float | None) -> None:
        """Log a task's error, at most once per interval. ``pause_seconds``: None when there is no next try."""
        live = self._named.get(task)
        if live is not None:
            live.attempt_failed(error)
        repeats = self._repeats.admit((task, type(error)), always=pause_seconds is None)
        if repeats is None:
            return
        keys = {
            "task": task,
            "error_class": type(error).__name__,
            "error": str(error),
            "hint": getattr(error, "hint", ""),
            "repeats": repeats,
        }
        if pause_seconds is None:
            _log.error("task failed", **keys)
        elif isinstance(error, AccessDeniedError):  # that takes someone's hand
            _log.error("task retried", pause_seconds=round(pause_seconds, 3), **keys)
        else:
            _log.warning("task retried", pause_seconds=round(pause_seconds, 3), **keys)

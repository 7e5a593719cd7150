"""What every part of a session runs with: its instruments, and retrying forever with full jitter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dyncdc.errors import DyncdcError, RetryableError
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Instruments:
    """How a part of a session shows what it does. ``clock``: seconds since the epoch, by this machine."""

    metrics: Metrics
    health: TaskHealth
    clock: Callable[[], float]


@dataclass(slots=True)
class Backoff:
    """Full jitter: a uniform pause between 0 and a ceiling that doubles with each failure in a row.

    Source: AWS Architecture Blog, "Exponential Backoff and Jitter".
    """

    first_seconds: float = 0.1
    ceiling_seconds: float = 10.0
    uniform: Callable[[float, float], float] = random.uniform
    failures: int = 0

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self.failures = 0

    def next_seconds(self) -> float:
        """Count one more failure and return how long to pause."""
        ceiling = min(self.ceiling_seconds, self.first_seconds * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return self.uniform(0.0, ceiling)


def is_recoverable(error: DyncdcError) -> bool:
    """Whether this is what a service has answered, so that it may answer otherwise once a person has acted.

    What we found wrong ourselves, without a cause, stays wrong.
    """
    return error.__cause__ is not None


async def retry_forever(
    operation: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    on_retry: Callable[[RetryableError, float], None],
) -> T:
    """Repeat ``operation`` until it stops raising RetryableError; ``on_retry`` gets the error and the next pause.

    Every other error passes through. The same operation is repeated, so it must be the same block with the same token.
    """
    while True:
        try:
            return await operation()
        except RetryableError as error:
            pause_seconds = backoff.next_seconds()
            on_retry(error, pause_seconds)
            await asyncio.sleep(pause_seconds)


@dataclass(frozen=True, slots=True)
class Retrier:
    """Repeats what may succeed later. Failures count under ``stage``, and show in health and log under ``task``.

    From its first failure on a call is a task of its own where none of that name is live, as while a session begins:
    what is repeated without end must be able to get stuck.
    """

    instruments: Instruments
    stage: str
    task: str
    first_seconds: float = 0.1

    async def __call__(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``operation`` until it stops raising RetryableError."""
        health = self.instruments.health
        with ExitStack() as shown:

            def failed(error: RetryableError, pause_seconds: float) -> None:
                if not health.is_live(self.task):
                    shown.enter_context(health.task(self.task)).waiting_for("the next try")
                self.failed(error, pause_seconds)

            return await retry_forever(operation, backoff=Backoff(self.first_seconds), on_retry=failed)

    def failed(self, error: RetryableError, pause_seconds: float) -> None:
        """Report an attempt that is repeated after ``pause_seconds``."""
        self.instruments.metrics.retry(self.stage, error)
        self.instruments.health.log_retry(self.task, error, pause_seconds)

    @contextmanager
    def tolerate(self, pause_seconds: float) -> Iterator[None]:
        """Report a RetryableError that ends the block, which is entered again after ``pause_seconds``."""
        try:
            yield
        except RetryableError as error:
            self.failed(error, pause_seconds)


class ShownRetrier:
    """Repeats what may succeed later, and shows in health that it waits, whatever else its caller does."""

    def __init__(self, instruments: Instruments, name: str, waits_for: str) -> None:
        self.retrier = Retrier(instruments, name, name, first_seconds=0.5)
        self._health = instruments.health
        self._waits_for = waits_for

    async def __call__(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``operation`` until it stops raising RetryableError."""
        with self._health.task(self.retrier.task) as task:
            task.waiting_for(self._waits_for)
            return await self.retrier(operation)


def root_cause(error: BaseException) -> BaseException:
    """Return the error inside nested exception groups that says most: ours before anybody else's."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [root_cause(inner) for inner in error.exceptions]
    return next((inner for inner in found if isinstance(inner, DyncdcError)), found[0])


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise what the task groups of the block raise as the one error that says most, never as a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise root_cause(group) from group


@asynccontextmanager
async def in_background(work: Coroutine[object, object, None], name: str) -> AsyncIterator[None]:
    """Run ``work`` while the block runs. What it raises ends the block; never a group."""
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work, name=name)
            yield
            task.cancel()

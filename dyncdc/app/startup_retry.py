"""How long an endpoint that does not answer is tried: forever by the daemon, for a while by everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from dyncdc.config import Config
from dyncdc.errors import AccessDeniedError, FatalError, RetryableError, UnusableTableError
from dyncdc.pipeline.runtime import Backoff, retry_forever
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

T = TypeVar("T")

ANSWER = "ClickHouse or AWS to answer"
"""What a call waits for until an error says more."""


@dataclass(slots=True)
class StartupRetry:
    """``seconds`` None: forever. What is retried shows in the log and, through the start-up task, in /healthz."""

    seconds: float | None
    health: TaskHealth
    task: TaskProgress
    of_table: Callable[[RetryableError], bool] = field(default=lambda _: False)
    """Whether an error is about one table, which nothing else waits for."""

    def __post_init__(self) -> None:
        self.task.waiting_for(ANSWER)

    async def __call__(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``operation`` while it raises RetryableError. Raises UnusableTableError for one ``of_table``.

        Raises FatalError when the time is up, and at once when access is denied: a command has a user
        waiting who can act on it now.
        """
        last: list[RetryableError] = []
        self.task.waiting_for(ANSWER)

        async def attempt() -> T:
            try:
                return await operation()
            except RetryableError as error:
                if self.of_table(error):
                    raise UnusableTableError(str(error), hint=error.hint) from error
                if isinstance(error, AccessDeniedError) and self.seconds is not None:
                    raise FatalError(str(error), hint=error.hint) from error
                raise

        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            last[:] = [error]
            self.task.waiting_for(str(error))
            if self.task.failure:  # by what stood in the way before
                self.task.failed(str(error))
            self.health.log_retry(self.task.name, error, pause_seconds)

        try:
            async with asyncio.timeout(self.seconds):
                answer = await retry_forever(attempt, backoff=Backoff(ceiling_seconds=5.0), on_retry=on_retry)
        except TimeoutError:
            if not last:
                raise FatalError(f"{self.task.name}: no answer within {self.seconds:.0f} s") from None
            raise FatalError(f"{last[0]} (tried for {self.seconds:.0f} s)", hint=last[0].hint) from None
        self.task.moved()
        return answer


@contextmanager
def limited(config: Config, name: str) -> Iterator[StartupRetry]:
    """How every command but ``run`` retries: for ``run.startup_timeout_seconds``, each call."""
    health = TaskHealth()
    with health.task(name) as task:
        yield StartupRetry(config.run.startup_timeout_seconds, health, task)

"""Retrying: forever for RetryableError with full jitter, never for anything else."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.pipeline.pipeline_parts import instruments_of
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.pipeline.runtime import Backoff, Retrier, retry_forever


def test_the_pause_is_drawn_below_a_ceiling_that_doubles_up_to_a_limit() -> None:
    ceilings: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0.0
        ceilings.append(high)
        return high

    backoff = Backoff(first_seconds=0.1, ceiling_seconds=1.0, uniform=uniform)
    for _ in range(6):
        backoff.next_seconds()
    assert ceilings == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next_seconds() == pytest.approx(0.1)


def test_a_failure_of_many_days_does_not_overflow() -> None:
    backoff = Backoff(failures=100_000, uniform=random.Random(1).uniform)
    assert 0.0 <= backoff.next_seconds() <= backoff.ceiling_seconds


def test_a_retryable_error_is_tried_again_and_reported_each_time() -> None:
    async def work() -> None:
        seen: list[str] = []

        async def operation() -> int:
            if len(seen) < 50:
                raise RetryableError("throttled")
            return 7

        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            seen.append(str(error))

        assert await retry_forever(operation, backoff=Backoff(), on_retry=on_retry) == 7
        assert len(seen) == 50

    run(work())


def test_every_other_error_passes_through_at_once() -> None:
    async def work() -> None:
        async def operation() -> None:
            raise FatalError("denied")

        with pytest.raises(FatalError):
            await retry_forever(operation, backoff=Backoff(), on_retry=lambda error, pause_seconds: None)

    run(work())


def test_a_pause_can_be_cancelled() -> None:
    async def work() -> None:
        async def operation() -> None:
            raise RetryableError("throttled")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await retry_forever(operation, backoff=Backoff(), on_retry=lambda error, pause_seconds: None)

    run(work())


def test_a_call_that_no_task_runs_gets_stuck_while_it_fails() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        instruments = instruments_of()
        health = instruments.health
        health.clock = loop.time
        refused = True

        async def operation() -> None:
            if refused:
                raise RetryableError("285 TOO_FEW_LIVE_REPLICAS")

        retrier = Retrier(instruments, "members", "members")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(retrier(operation))
            await asyncio.sleep(health.stuck_after_seconds * 2)
            (stuck,) = health.stuck()
            assert stuck.name == "members"
            assert "285" in stuck.reason
            refused = False
        assert not health.tasks()

    run(work())


def test_a_call_of_a_live_task_is_that_task() -> None:
    async def work() -> None:
        instruments = instruments_of()
        failures = [RetryableError("no"), RetryableError("no")]

        async def operation() -> None:
            if failures:
                raise failures.pop()
            assert [task.name for task in instruments.health.tasks()] == ["members"]

        with instruments.health.task("members"):
            await Retrier(instruments, "members", "members")(operation)

    run(work())

"""What health says of a start that no one answers."""

from __future__ import annotations

import asyncio

import pytest

from dyncdc.app.startup_retry import StartupRetry
from dyncdc.errors import AccessDeniedError, FatalError, RetryableError
from dyncdc.telemetry.task_health import TaskHealth


async def test_a_call_that_nothing_answers_is_named_and_an_error_says_more() -> None:
    now = 0.0
    health = TaskHealth(60.0, lambda: now)
    failing = False

    async def call() -> None:
        if failing:
            raise RetryableError("asking ch:9000: connection refused")
        await asyncio.sleep(60)

    with health.task("start") as task:
        startup_retry = StartupRetry(0.05, health, task)
        now = 61.0
        assert health.stuck()[0].reason == "waiting for ClickHouse or AWS to answer"
        with pytest.raises(FatalError):
            await startup_retry(call)
        assert health.stuck()[0].reason == "waiting for ClickHouse or AWS to answer"
        failing = True
        with pytest.raises(FatalError):
            await startup_retry(call)
        assert health.stuck()[0].reason == "waiting for asking ch:9000: connection refused"


async def test_the_daemon_asks_forever_what_it_is_denied_and_a_command_says_so_at_once() -> None:
    health = TaskHealth()
    asked = 0

    async def call() -> str:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise AccessDeniedError("asking ch:9000: ClickHouse answered 516", hint="check the password")
        return "done"

    with health.task("start") as task:
        with pytest.raises(FatalError, match="answered 516") as caught:
            await StartupRetry(60.0, health, task)(call)
        assert (asked, caught.value.hint) == (1, "check the password")
        assert await StartupRetry(None, health, task)(call) == "done"
        assert asked == 4

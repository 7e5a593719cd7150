"""What health says of a start that nobody answers."""

from __future__ import annotations

import asyncio

import pytest

from dyncdc.app.patience import Patience
from dyncdc.errors import FatalError, RetryableError
from dyncdc.telemetry.progress import Progress


async def test_a_call_that_nothing_answers_is_named_and_an_error_says_more() -> None:
    now = 0.0
    progress = Progress(60.0, lambda: now)
    failing = False

    async def call() -> None:
        if failing:
            raise RetryableError("asking ch:9000: connection refused")
        await asyncio.sleep(60)

    with progress.task("start") as task:
        patience = Patience(0.05, progress, task)
        now = 61.0
        assert progress.stuck()[0].reason == "waiting for ClickHouse or AWS to answer"
        with pytest.raises(FatalError):
            await patience(call)
        assert progress.stuck()[0].reason == "waiting for ClickHouse or AWS to answer"
        failing = True
        with pytest.raises(FatalError):
            await patience(call)
        assert progress.stuck()[0].reason == "waiting for asking ch:9000: connection refused"

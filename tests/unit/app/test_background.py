"""What runs beside a session while it begins."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from support.pipeline.virtual_time import run

from dyncdc.app.context import AppContext
from dyncdc.app.daemon import background
from dyncdc.errors import RetryableError
from dyncdc.sinks.state.tables import own_tables


def test_an_own_table_that_is_dropped_while_a_session_begins_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a start that waits for a table which no one will make, however long."""
    there = dict.fromkeys(own_tables()[1:], "MergeTree")
    looks = 0

    async def present(*_: object) -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RetryableError("looking for dyncdc's own tables: the connection failed")
        return there

    made = []

    async def make(_: AppContext) -> None:
        made.append(looks)
        there[own_tables()[0]] = "MergeTree"

    monkeypatch.setattr(background, "present_tables", present)
    monkeypatch.setattr(background, "make_own_tables", make)

    async def scenario() -> None:
        begun = asyncio.Event()
        context = cast(AppContext, type("C", (), {"clickhouse": None})())
        remaking = asyncio.create_task(background._remake_own_tables(context, begun))
        await asyncio.sleep(10 * background.REOPEN_SECONDS)
        assert made == [2], "once, as soon as ClickHouse answers"
        begun.set()
        async with asyncio.timeout(1.0):
            await remaking

    run(scenario())

"""Destinations at a start: what is only missing for now ends no daemon for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dyncdc.app.assembly import prepared_tables
from dyncdc.app.assembly.table_plans import TablePlanned
from dyncdc.app.context import AppContext
from dyncdc.sinks.client.error_codes import TableGoneError


async def _call(operation: Callable[[], Awaitable[Any]]) -> Any:
    return await operation()


def test_a_destination_that_is_gone_as_soon_as_it_was_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(prepared_tables, "read_destination", nothing)
    world = cast(AppContext, SimpleNamespace(clickhouse=None, retry=_call))
    plan = cast(TablePlanned, SimpleNamespace(config=SimpleNamespace(destination="orders")))
    with pytest.raises(TableGoneError, match="creating orders"):  # which the daemon answers by beginning over
        asyncio.run(prepared_tables._prepared(world, plan))

"""What `check` says of grants where the server cannot be asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from dyncdc.app.context import AppContext
from dyncdc.errors import FatalError
from dyncdc.operations.check.checker import Checker


async def _at_once(operation: Any) -> Any:
    return await operation()


async def _unknown_statement(*_: object, **__: object) -> object:
    raise FatalError("looking at grants: Syntax error")


def test_a_server_that_does_not_know_check_grant_is_not_said_to_have_all() -> None:
    clickhouse = SimpleNamespace(fetch=_unknown_statement)
    world = cast(AppContext, SimpleNamespace(clickhouse=clickhouse, retry=_at_once))
    checker = Checker(cast(Any, SimpleNamespace(tables=())), cast(Any, _at_once))
    asyncio.run(checker._grants(world, []))
    assert [(each.level, each.subject) for each in checker.findings[1:]] == [("warning", "grants")]
    assert "cannot be asked" in checker.findings[1].text

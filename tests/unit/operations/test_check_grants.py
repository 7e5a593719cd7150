"""What `check` says of grants where the server cannot be asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from dyncdc.app.context import AppContext
from dyncdc.config import ClickHouseUrl
from dyncdc.errors import FatalError
from dyncdc.operations.check.checker import Checker
from dyncdc.operations.ddl import needed_for


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


def test_settings_that_ddl_would_give_to_tables_are_among_the_grants() -> None:
    async def fetch(sql: str, **_: object) -> object:
        return [("25.8.2.1",)] if "version()" in sql else [("t",)] if "engine_full" in sql else []

    clickhouse = SimpleNamespace(fetch=fetch, url=ClickHouseUrl("native", database="d"))
    for asked, found in ((True, [("`d`.`t`", "ALTER SETTINGS")]), (False, [])):
        config = SimpleNamespace(clickhouse=SimpleNamespace(insert_fsync=asked))
        world = cast(AppContext, SimpleNamespace(clickhouse=clickhouse, retry=_at_once, config=config, cluster=None))
        needed = asyncio.run(needed_for(world, []))
        assert [each for each in needed if "SETTINGS" in each[1]] == found

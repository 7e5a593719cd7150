"""``check`` on the server itself: its version, and what stands under the names of dyncdc's own tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from matrix.engines import ENGINES

from dyncdc.config import ClickHouseUrl
from dyncdc.operations.check.checker import Checker
from dyncdc.operations.check.server_version import OLDEST_TRIED, version_findings

SEVERAL = ClickHouseUrl("native", host="a", user="u", password="s3cret", others=(("b", 9001),))


def test_the_oldest_version_that_was_tried_is_that_of_the_matrix() -> None:
    assert min(tuple(map(int, name.split("."))) for name in ENGINES) == OLDEST_TRIED


@pytest.mark.parametrize("version", ["24.5.1.1", "25.8.2.29", "26.9.1"])
def test_nothing_is_said_of_a_version_that_was_tried_or_is_newer(version: str) -> None:
    assert version_findings(version) == []


@pytest.mark.parametrize("version", ["23.8.1.2992", "24.4.1"])
def test_an_older_version_is_warned_of(version: str) -> None:
    (found,) = version_findings(version)
    assert found.level == "warning" and "24.5" in found.text and version in found.text


def test_a_version_without_a_settled_deleted_column_is_an_error() -> None:
    (found,) = version_findings("23.7.4.5")
    assert found.level == "error" and "deleted column" in found.text


class Server:
    """Answers what the look at a server asks for."""

    def __init__(self, own: Sequence[tuple[str, str]], shards: int = 1) -> None:
        self.url = SEVERAL
        self.own, self.shards = own, shards

    async def fetch(self, sql: str, **_: object) -> Sequence[tuple[Any, ...]]:
        if "version()" in sql:
            return [("25.8.1",)]
        if "system.databases" in sql:
            return [("Atomic",)]
        if "uniqExact(shard_num)" in sql:
            return [(self.shards,)]
        return self.own if "system.tables" in sql else []


def looked_at(server: Server, cluster: str | None = None) -> list[str]:
    async def at_once(operation: Callable[[], Awaitable[Any]]) -> Any:
        return await operation()

    config = SimpleNamespace(tables=(), clickhouse=SimpleNamespace(url=server.url, cluster=cluster))
    checker = Checker(cast(Any, config), cast(Any, at_once))
    asyncio.run(checker._server(cast(Any, server)))
    return [f"{one.level} {one.text}; {one.todo}" for one in checker.findings[1:]]


def test_all_hosts_are_shown_and_no_password() -> None:
    (line,) = looked_at(Server([("dyncdc_gaps", "MergeTree")]))
    assert line == "ok clickhouse://u:***@a:9000,b:9001/default answers, version 25.8.1; "


@pytest.mark.parametrize("engine", ["Distributed", "View", "Memory", "Null"])
def test_own_tables_that_keep_no_rows_themselves_are_refused_by_name(engine: str) -> None:
    _, line = looked_at(Server([("dyncdc_checkpoints", engine), ("dyncdc_gaps", "MergeTree")]))
    assert line.startswith("error ") and f"dyncdc_checkpoints ({engine})" in line and "dyncdc_gaps" not in line


def test_a_cluster_of_several_shards_is_refused_with_the_way_out() -> None:
    _, line = looked_at(Server([], shards=2), "main")
    assert line.startswith("error ") and "it has 2 shards" in line and "clusters-of-several-shards" in line


def test_own_tables_of_one_server_are_refused_in_a_cluster() -> None:
    lines = looked_at(Server([("dyncdc_gaps", "MergeTree")]), "main")
    assert any("dyncdc_gaps are of one server only" in line for line in lines)

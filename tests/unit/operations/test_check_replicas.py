"""``check`` on replicas: what an insert waits for, before one of them is down."""

from __future__ import annotations

from typing import cast

import pytest

from dyncdc.app.context import AppContext
from dyncdc.operations.check.replicas import replica_findings

Counted = list[tuple[str, int, int]]


async def found(counted: Counted, wanted: object, engine: str = "ReplicatedMergeTree") -> list[str]:
    class Server:
        async def fetch(self, sql: str, *, doing: str) -> object:
            assert "'a', 'b'" in sql
            return counted if "system.replicas" in sql else [("a", engine), ("b", engine)]

    config = type("F", (), {"clickhouse": type("S", (), {"insert_quorum": wanted})})
    context = cast(AppContext, type("X", (), {"clickhouse": Server(), "config": config})())
    return [f"{one.level} {one.text}" for one in await replica_findings(context, ["a", "b"])]


@pytest.mark.parametrize("wanted", ["auto", "off", 1])
@pytest.mark.parametrize("counted", [[], [("a", 1, 1)]])
async def test_a_single_replica_waits_for_none_and_is_not_spoken_of(counted: Counted, wanted: object) -> None:
    assert await found(counted, wanted) == []


async def test_tables_in_shared_storage_wait_for_no_server() -> None:
    """Catches: an error on a service of ClickHouse Cloud of which one server is just started or stopped."""
    assert await found([("a", 2, 1), ("b", 2, 2)], "auto", "SharedReplacingMergeTree") == []


async def test_three_replicas_bear_the_loss_of_one() -> None:
    assert await found([("a", 3, 2), ("b", 3, 3)], "auto") == []


async def test_two_replicas_stop_with_either() -> None:
    (line,) = await found([("a", 2, 2), ("b", 2, 2)], "auto")
    assert line == "warning an insert waits for both replicas of 2 tables: nothing is written while one is down"


async def test_a_quorum_that_is_not_there_is_an_error() -> None:
    assert (await found([("a", 2, 1)], "auto"))[0] == "error a has 1 replicas at work, and an insert waits for 2"
    assert await found([("a", 1, 1)], 2) == ["error a has 1 replicas at work, and an insert waits for 2"]


async def test_without_a_quorum_one_replica_alone_may_have_it() -> None:
    (line,) = await found([("a", 2, 1)], "off")
    assert line == 'warning insert_quorum = "off": what is acknowledged may be on one replica of a alone'

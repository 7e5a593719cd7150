"""Which tables of a cluster are taken for one truth, and how statements wait for its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dyncdc.config import ClickHouseUrl
from dyncdc.errors import AccessDeniedError, FatalError, RefusedError
from dyncdc.schema.existing.compatibility import one_server_only
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.sql.quoting import DATABASE_ITSELF
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import (
    SplitTablesError,
    cluster_in_use,
    makes_shared_tables,
    refuse_split,
    split_tables,
)
from dyncdc.sinks.client.query_settings import WAITING_FOR_CLUSTER
from dyncdc.sinks.tables.grants import needed_grants
from dyncdc.sinks.tables.views import make_view

REPLICAS = ("t", "/keeper/t")


class Answering:
    """Answers what it is asked for, by a word of the statement, and keeps the statements."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.url = ClickHouseUrl("native", database="d")
        self.asked: list[str] = []

    async def fetch(self, sql: str, **_: object) -> Any:
        self.asked.append(sql)
        answer = next(found for word, found in self.answers.items() if word in sql)
        if isinstance(answer, Exception):
            raise answer
        return answer

    define = fetch


def split(members: int, servers: int, queue: Any = ((0, 0),)) -> list[str]:
    clickhouse: Any = Answering({"distributed_ddl_queue": queue, "system.replicas": [(*REPLICAS, members, servers)]})
    return [found.table for found in asyncio.run(split_tables(clickhouse, "main", ["t"]))]


@pytest.mark.parametrize(("members", "servers"), [(1, 2), (1, 3), (2, 4), (1, 4)])
def test_a_table_that_half_of_the_servers_or_fewer_share_is_split(members: int, servers: int) -> None:
    assert split(members, servers) == ["t"]


@pytest.mark.parametrize(("members", "servers"), [(1, 1), (2, 2), (2, 3), (3, 4), (3, 2), (1, 0)])
def test_at_most_one_table_of_a_name_is_taken(members: int, servers: int) -> None:
    assert split(members, servers) == []
    assert members > servers - members, "the others cannot be as many"


def test_while_keeper_does_not_answer_nothing_is_said() -> None:
    assert split(0, 2) == []


def test_a_server_that_was_down_when_the_table_was_made_counts_as_one_that_will_share_it() -> None:
    assert split(1, 2, [(1, 1)]) == []


def test_a_server_that_had_another_table_already_does_not_count() -> None:
    assert split(1, 3, [(1, 2)]) == ["t"], "one has run the statement and shares nothing"


def test_without_the_grant_on_the_queue_no_server_counts_as_pending() -> None:
    assert split(1, 2, AccessDeniedError("missing grant")) == ["t"]


def test_own_tables_that_are_split_wait_and_name_the_remedy() -> None:
    clickhouse: Any = Answering({"distributed_ddl_queue": [(0, 0)], "system.replicas": [(*REPLICAS, 1, 2)]})
    with pytest.raises(SplitTablesError, match="t is shared by 1 of the 2 servers") as caught:
        asyncio.run(refuse_split(clickhouse, "main", ["t"]))
    assert "UUID" in caught.value.hint


@pytest.mark.parametrize("cluster", [None, DATABASE_ITSELF])
def test_without_a_cluster_to_compare_with_nothing_is_asked(cluster: str | None) -> None:
    clickhouse: Any = Answering({})
    assert asyncio.run(split_tables(clickhouse, cluster, ["t"])) == []
    assert clickhouse.asked == []


def test_a_replicated_database_is_seen_whatever_is_configured() -> None:
    clickhouse: Any = Answering({"system.databases": [("Replicated",)]})
    assert asyncio.run(cluster_in_use(clickhouse, None)) == DATABASE_ITSELF
    assert asyncio.run(cluster_in_use(clickhouse, "main")) == DATABASE_ITSELF


@pytest.mark.parametrize(("engine", "shared"), [("Shared", True), ("Atomic", False), ("Replicated", False)])
def test_a_database_of_cloud_is_seen_before_any_table_is_made(engine: str, shared: bool) -> None:
    clickhouse: Any = Answering({"system.databases": [(engine,)]})
    assert asyncio.run(makes_shared_tables(clickhouse)) is shared


def test_the_wait_for_replicas_is_granted_where_tables_will_be_shared() -> None:
    for cluster, replicated in ((None, True), (DATABASE_ITSELF, False), ("main", False)):
        found = dict(needed_grants("d", [], cluster=cluster, replicated=replicated, engines=True))
        assert found["`d`.`dyncdc_members`"].endswith(", SYSTEM SYNC REPLICA")
        assert found["system.replicas"] == "SELECT"
        assert ("*.*" in found) == (cluster == "main"), "in a Replicated database nothing is ON CLUSTER"


def test_a_table_of_one_server_is_refused_in_words_that_fit() -> None:
    table = ExistingTable("t", "u", "ReplacingMergeTree", "ReplacingMergeTree(v)", "id", "", ())
    assert "Replicated database" in one_server_only(table, DATABASE_ITSELF).reason
    assert "cluster main" in one_server_only(table, "main").reason


class Refusing(ClickHouse):
    """Refuses settings as servers do."""

    def __init__(self, taken: int, code: int = 36) -> None:
        super().__init__(ClickHouseUrl("native"))
        self.taken, self.code = taken, code
        self.sent: list[Mapping[str, object]] = []

    async def _run(self, sql: str, settings: Any, *_: object, **__: object) -> list[tuple[Any, ...]]:
        self.sent.append(settings)
        if settings != WAITING_FOR_CLUSTER[self.taken]:
            error = RefusedError("no")
            error.code = self.code
            raise error
        return []


@pytest.mark.parametrize("code", [36, 452])
@pytest.mark.parametrize("taken", range(len(WAITING_FOR_CLUSTER)))
def test_statements_wait_in_the_best_way_that_the_server_takes(taken: int, code: int) -> None:
    clickhouse = Refusing(taken, code)
    for _ in range(2):
        asyncio.run(clickhouse.define("CREATE TABLE t"))
    assert clickhouse.sent[: taken + 1] == list(WAITING_FOR_CLUSTER[: taken + 1])
    if taken < len(WAITING_FOR_CLUSTER) - 1:
        assert clickhouse.sent[taken + 1 :] == [WAITING_FOR_CLUSTER[taken]], "it is known then"


def test_what_is_wrong_with_a_statement_itself_is_raised() -> None:
    with pytest.raises(RefusedError):
        asyncio.run(Refusing(1, 60).define("CREATE TABLE t"))


def view_statements(may: Any) -> Sequence[str]:
    denied = AccessDeniedError("missing grant: DROP TABLE ON d._tmp_replace_1")
    clickhouse: Any = Answering({"CREATE OR REPLACE": denied, "CHECK GRANT": may, "VIEW": []})
    statement = "CREATE OR REPLACE VIEW `t_current` AS SELECT 1"
    if may == [(1,)]:
        asyncio.run(make_view(clickhouse, statement, "making"))
    else:
        with pytest.raises(AccessDeniedError):
            asyncio.run(make_view(clickhouse, statement, "making"))
    return [text for text in clickhouse.asked if "CHECK" not in text]


def test_a_view_that_cannot_be_replaced_is_dropped_and_created() -> None:
    assert view_statements([(1,)])[1:] == [
        "DROP VIEW IF EXISTS `t_current`",
        "CREATE VIEW IF NOT EXISTS `t_current` AS SELECT 1",
    ]


@pytest.mark.parametrize("may", [[(0,)], FatalError("syntax")])
def test_a_view_is_not_dropped_unless_it_can_be_created(may: Any) -> None:
    assert len(view_statements(may)) == 1

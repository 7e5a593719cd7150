"""``clickhouse.cluster``: which clusters are taken, and that the server reads every statement for one as we mean it.

The server here has no Keeper, so statements ON CLUSTER are parsed by it and not run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import ConfigError
from dyncdc.schema.existing.table import is_replicated
from dyncdc.schema.sql.ddl import add_column, add_mark_column, create_table, create_view, without_replacing
from dyncdc.schema.sql.history import create_history
from dyncdc.schema.sql.quoting import DATABASE_ITSELF, quote_name, quote_text
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client import client
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import check_cluster, cluster_in_use, present_tables
from dyncdc.sinks.client.query_settings import WAITING_FOR_CLUSTER
from dyncdc.sinks.state.tables import own_statements, own_tables

SPEC = TableSpec(
    "orders", "or`ders", (KeyAttribute("id", "S"),), (ColumnSpec("id", "String", ("id",), ("S",), key=True),)
)
CLUSTER = "ma in"


def statements(cluster: str) -> list[str]:
    """One of each kind."""
    return [
        create_table(SPEC, cluster),
        create_view(SPEC, cluster),
        create_history(replace(SPEC, history="or`ders_history"), cluster),
        add_column("orders", ColumnSpec("n", "Nullable(Int64)", ("n",), ("N",)), cluster),
        add_mark_column("orders", "_deleted", cluster),
        *own_statements(cluster),
    ]


class Clustered(LocalClickHouse):
    """A server that belongs to two clusters: "main" of two replicas, "wide" of two shards."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.directory / "config.xml"
        ours, other = (
            f"<replica><host>127.0.0.1</host><port>{port}</port></replica>" for port in (self.tcp_port, self.http_port)
        )
        clusters = f"<main><shard>{ours}{other}</shard></main><wide><shard>{ours}</shard><shard>{other}</shard></wide>"
        file.write_text(
            file.read_text().replace("</clickhouse>", f"<remote_servers>{clusters}</remote_servers></clickhouse>")
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClickHouse]:
    server = Clustered(tmp_path_factory.mktemp("clustered"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def clickhouse(server: LocalClickHouse) -> AsyncIterator[ClickHouse]:
    found = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database), timeout_seconds=5.0)
    yield found
    await found.close()


async def test_a_cluster_of_one_shard_is_taken(clickhouse: ClickHouse) -> None:
    await check_cluster(clickhouse, "main")


@pytest.mark.parametrize(("cluster", "words"), [("wide", "2 shards"), ("it's not there", "no such cluster")])
async def test_other_clusters_are_refused(clickhouse: ClickHouse, cluster: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        await check_cluster(clickhouse, cluster)
    assert caught.value.hint


@pytest.mark.parametrize("statement", statements(CLUSTER))
async def test_each_statement_is_read_as_one_for_the_cluster(clickhouse: ClickHouse, statement: str) -> None:
    rows = await clickhouse.fetch(f"SELECT formatQuerySingleLine({quote_text(statement)})")
    text = str(rows[0][0])
    assert f" ON CLUSTER `{CLUSTER}` " in text
    engine = re.search(r"ENGINE = (\w+)", text)
    assert engine is None or engine[1] == "ReplicatedReplacingMergeTree"
    assert "non_replicated" not in text


@pytest.mark.parametrize("statement", statements(DATABASE_ITSELF))
async def test_in_a_replicated_database_tables_are_replicated_and_nothing_is_on_cluster(
    clickhouse: ClickHouse, statement: str
) -> None:
    rows = await clickhouse.fetch(f"SELECT formatQuerySingleLine({quote_text(statement)})")
    text = str(rows[0][0])
    assert " ON CLUSTER " not in text
    engine = re.search(r"ENGINE = (\w+)", text)
    assert engine is None or engine[1] == "ReplicatedReplacingMergeTree"
    assert "non_replicated" not in text


async def test_a_database_that_is_not_replicated_leaves_the_configured_cluster(clickhouse: ClickHouse) -> None:
    assert await cluster_in_use(clickhouse, None) is None
    assert await cluster_in_use(clickhouse, "main") == "main"


@pytest.mark.parametrize("cluster", [None, CLUSTER, "a ` AS b"])
async def test_a_view_is_also_made_by_dropping_and_creating_it(clickhouse: ClickHouse, cluster: str | None) -> None:
    spec = replace(SPEC, destination="a ` AS ` b")
    name, drop, create = without_replacing(create_view(spec, cluster))
    assert name == quote_name("a ` AS ` b_current")
    for statement in (drop, create):
        rows = await clickhouse.fetch(f"SELECT formatQuerySingleLine({quote_text(statement)})")
        assert (" ON CLUSTER " in str(rows[0][0])) == (cluster is not None)
    if cluster is None:
        await clickhouse.define(create_table(spec))
        for _ in range(2):
            await clickhouse.define(drop)
            await clickhouse.define(create)
        assert await present_tables(clickhouse, ["a ` AS ` b_current"]) == {"a ` AS ` b_current": "View"}


async def test_statements_run_where_their_way_to_wait_is_not_known(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"distributed_ddl_output_mode": "a mode of a later version"}
    monkeypatch.setattr(client, "WAITING_FOR_CLUSTER", (later, *WAITING_FOR_CLUSTER))
    for name in ("first", "second"):
        await clickhouse.define(f"CREATE TABLE {name} (x Int8) ENGINE = Memory")
    assert len(await present_tables(clickhouse, ["first", "second"])) == 2


async def test_own_tables_are_found_with_their_engines(clickhouse: ClickHouse) -> None:
    for statement in own_statements():
        await clickhouse.execute(statement)
    found = await present_tables(clickhouse, [*own_tables(), "nothing"])
    assert found == dict.fromkeys(own_tables(), "ReplacingMergeTree")
    assert not any(map(is_replicated, found.values()))

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
from dyncdc.schema.sql.ddl import add_column, add_mark_column, create_table, create_view
from dyncdc.schema.sql.history import create_history
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import check_cluster, present_tables
from dyncdc.sinks.state.tables import own_statements, own_tables

SPEC = TableSpec(
    "orders", "or`ders", (KeyAttribute("id", "S"),), (ColumnSpec("id", "String", ("id",), ("S",), key=True),)
)
CLUSTER = "ma in"
STATEMENTS = [
    create_table(SPEC, CLUSTER),
    create_view(SPEC, CLUSTER),
    create_history(replace(SPEC, history="or`ders_history"), CLUSTER),
    add_column("orders", ColumnSpec("n", "Nullable(Int64)", ("n",), ("N",)), CLUSTER),
    add_mark_column("orders", "_deleted", CLUSTER),
    *own_statements(CLUSTER),
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


@pytest.mark.parametrize(
    ("cluster", "words"), [("wide", "2 shards"), ("it's not there", "no such cluster"), ("", "no such cluster")]
)
async def test_other_clusters_are_refused(clickhouse: ClickHouse, cluster: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        await check_cluster(clickhouse, cluster)
    assert caught.value.hint


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_each_statement_is_read_as_one_for_the_cluster(clickhouse: ClickHouse, statement: str) -> None:
    rows = await clickhouse.fetch(f"SELECT formatQuerySingleLine({quote_text(statement)})")
    text = str(rows[0][0])
    assert f" ON CLUSTER `{CLUSTER}` " in text
    engine = re.search(r"ENGINE = (\w+)", text)
    assert engine is None or engine[1] == "ReplicatedReplacingMergeTree"
    assert "non_replicated" not in text


async def test_own_tables_are_found_with_their_engines(clickhouse: ClickHouse) -> None:
    for statement in own_statements():
        await clickhouse.execute(statement)
    found = await present_tables(clickhouse, [*own_tables(), "nothing"])
    assert found == dict.fromkeys(own_tables(), "ReplacingMergeTree")
    assert not any(map(is_replicated, found.values()))

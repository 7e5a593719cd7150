"""A user's materialized view over a table of dyncdc's own that cannot take rows: its table refuses, and is not gone."""

from __future__ import annotations

import pytest

from dyncdc.errors import RefusedError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.tables import CHECKPOINTS, own_statements

ROW = Checkpoint(SourceId("s"), ShardId("shard"), Mark(Position("1"), 1.0), 1, 1)


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    await clickhouse.execute("CREATE TABLE seen (shard String) ENGINE = MergeTree ORDER BY shard")
    return clickhouse


@pytest.mark.parametrize(
    ("select", "drop"),
    [
        (f"SELECT shard FROM {CHECKPOINTS}", "seen"),
        (f"SELECT c.shard AS shard FROM {CHECKPOINTS} AS c JOIN names ON names.shard = c.shard", "names"),
        (f"SELECT toString(toUInt8(shard)) AS shard FROM {CHECKPOINTS}", ""),
    ],
    ids=["target gone", "joined table gone", "value refused"],
)
async def test_what_a_view_over_an_own_table_refuses_is_retried_and_ends_no_session(
    tables: ClickHouse, select: str, drop: str
) -> None:
    await tables.execute("CREATE TABLE names (shard String) ENGINE = MergeTree ORDER BY shard")
    await tables.execute(f"CREATE MATERIALIZED VIEW theirs TO seen AS {select}")
    if drop:
        await tables.execute(f"DROP TABLE {drop} SYNC")
    with pytest.raises(RefusedError, match="saving 1 checkpoints") as caught:
        await ClickHouseCheckpoints(tables, "p").save([ROW])
    assert "materialized views" in caught.value.hint
    await tables.execute("DROP VIEW theirs SYNC")
    await ClickHouseCheckpoints(tables, "p").save([ROW])


async def test_an_own_table_that_is_gone_is_gone(tables: ClickHouse) -> None:
    await tables.execute(f"DROP TABLE {CHECKPOINTS} SYNC")
    with pytest.raises(TableGoneError):
        await ClickHouseCheckpoints(tables, "p").save([ROW])

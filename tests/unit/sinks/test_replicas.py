"""dyncdc's own tables are never read from a replica that lags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from dyncdc.errors import RetryableError
from dyncdc.model.shards import SourceId
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.destinations import ClickHouseDestinations
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.progress.watermarks import ClickHouseWatermarks
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.sessions import ClickHouseSessions
from dyncdc.sinks.tables.orphan_rows import ClickHouseOrphanRows
from dyncdc.sinks.tables.tombstones import ClickHouseTombstones

Load = Callable[[ClickHouse], Awaitable[object]]
LOADS: dict[str, Load] = {
    "dyncdc_checkpoints": lambda clickhouse: ClickHouseCheckpoints(clickhouse, "p").load(),
    "dyncdc_snapshots": lambda clickhouse: ClickHouseSnapshots(clickhouse, "p").load(),
    "dyncdc_gaps": lambda clickhouse: ClickHouseRecovery(clickhouse, "p").open_gaps(),
    "dyncdc_members": lambda clickhouse: ClickHouseMembers(clickhouse, "p").members(),
    "dyncdc_sessions": lambda clickhouse: ClickHouseSessions(clickhouse, "p").newest_sessions(),
    "dyncdc_table_sources": lambda clickhouse: ClickHouseRecovery(clickhouse, "p").table_sources(),
    "dyncdc_watermarks": lambda clickhouse: ClickHouseWatermarks(clickhouse, "p").load(),
    "dyncdc_destinations": lambda clickhouse: ClickHouseDestinations(clickhouse, {}).bindings(),
    "dyncdc_dead_letters": lambda clickhouse: ClickHouseWatermarks(clickhouse, "p").open_dead_letters(),
}
DECISIONS: dict[str, Load] = {
    "sweep": lambda clickhouse: ClickHouseOrphanRows(clickhouse, "p", {}).open_dead_letters(SourceId("s")),
    "clean": lambda clickhouse: ClickHouseTombstones(clickhouse, "p", {}).open_dead_letters("orders"),
}
"""What is deleted hangs on them."""


class Replica:
    """A server that says which engine its tables have, and whether it has caught up."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.behind = False
        self.statements: list[str] = []

    async def fetch(self, sql: str, *, settings: Mapping[str, object] | None = None, doing: str = "") -> list[Any]:
        if "total_rows" in sql:
            return [(None, None)]
        if "system.tables" in sql:
            return [(self.engine,)]
        self.statements.append(sql.partition(" ")[0])
        return [(0,)] if "count()" in sql else []

    async def execute(self, sql: str, *, settings: Mapping[str, object] | None = None, doing: str = "") -> None:
        self.statements.append(sql)
        if self.behind:
            raise RetryableError("waiting for this replica: no answer in 60 s")


@pytest.mark.parametrize("table", LOADS)
@pytest.mark.parametrize("engine", ["ReplicatedReplacingMergeTree", "SharedReplacingMergeTree"])
async def test_c6_what_is_loaded_from_a_replica_is_waited_for(engine: str, table: str) -> None:
    replica = Replica(engine)
    await LOADS[table](cast(ClickHouse, replica))
    assert replica.statements == [f"SYSTEM SYNC REPLICA {table} LIGHTWEIGHT", "SELECT"]


@pytest.mark.parametrize("decision", DECISIONS)
async def test_c6_nothing_is_deleted_before_the_replica_knows_all_dead_letters(decision: str) -> None:
    """Catches: a dead letter that another replica has taken is missed, and its item counts as deleted."""
    replica = Replica("ReplicatedReplacingMergeTree")
    await DECISIONS[decision](cast(ClickHouse, replica))
    assert replica.statements[:2] == ["SYSTEM SYNC REPLICA dyncdc_dead_letters LIGHTWEIGHT", "SELECT"]
    replica.behind = True
    with pytest.raises(RetryableError):
        await DECISIONS[decision](cast(ClickHouse, replica))


@pytest.mark.parametrize("table", LOADS)
async def test_c6_a_replica_that_does_not_catch_up_is_never_believed(table: str) -> None:
    replica = Replica("ReplicatedReplacingMergeTree")
    replica.behind = True
    with pytest.raises(RetryableError):
        await LOADS[table](cast(ClickHouse, replica))
    assert "SELECT" not in replica.statements


@pytest.mark.parametrize("table", LOADS)
async def test_a_table_without_replicas_is_read_at_once(table: str) -> None:
    replica = Replica("ReplacingMergeTree")
    await LOADS[table](cast(ClickHouse, replica))
    assert replica.statements == ["SELECT"]

"""What a real ClickHouse shows of destinations: which operations take rows away, and which only look like it."""

from __future__ import annotations

import pytest

from dyncdc.errors import RetryableError
from dyncdc.pipeline.destinations.binding_changes import blocks_of, is_emptied
from dyncdc.pipeline.destinations.bindings import Binding, DestinationContents, DestinationState, Target
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.destinations import ClickHouseDestinations, count_rows, refuse_detached
from dyncdc.sinks.state.tables import DESTINATIONS, own_statements

TABLE = "CREATE TABLE {} (k String, v Int64, d UInt8) ENGINE = ReplacingMergeTree(v, d) ORDER BY k{}"


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


async def filled(clickhouse: ClickHouse, partitioned: str = "") -> ClickHouseDestinations:
    await clickhouse.execute(TABLE.format("t", partitioned))
    for number in range(4):
        await clickhouse.execute(f"INSERT INTO t VALUES ('a{number}', 1, 0), ('b', {number}, 0), ('gone', 1, 1)")
    return ClickHouseDestinations(clickhouse, {"t": "d"})


async def held(store: ClickHouseDestinations) -> DestinationContents:
    standing = await look(store)
    rows = sum(partition.rows for partition in standing.partitions.values())
    return DestinationContents(blocks_of(standing), rows, await store.any_live("t"))


async def look(store: ClickHouseDestinations) -> DestinationState:
    return (await store.read_state(["t"]))["t"]


@pytest.mark.parametrize(
    "statement",
    [
        "OPTIMIZE TABLE t FINAL",
        "OPTIMIZE TABLE t FINAL CLEANUP",
        "ALTER TABLE t DELETE WHERE k = 'a1' SETTINGS mutations_sync = 2",
        "ALTER TABLE t DELETE WHERE d = 1 SETTINGS mutations_sync = 2",
        "DELETE FROM t WHERE k = 'a1'",
        "ALTER TABLE t UPDATE d = 0 WHERE 0 SETTINGS mutations_sync = 2",
        "ALTER TABLE t ADD COLUMN x String",
        "ALTER TABLE t FREEZE",
    ],
)
async def test_what_keeps_the_rows_is_no_loss(tables: ClickHouse, statement: str) -> None:
    store = await filled(tables)
    before = await held(store)
    if "CLEANUP" in statement:
        await tables.execute("ALTER TABLE t MODIFY SETTING allow_experimental_replacing_merge_with_cleanup = 1")
    await tables.execute(statement)
    assert before.live and not is_emptied(before, await look(store))
    await tables.execute("OPTIMIZE TABLE t FINAL")
    await tables.execute("INSERT INTO t (k, v, d) VALUES ('z', 9, 0)")
    assert not is_emptied(before, await look(store))


@pytest.mark.parametrize(
    ("statement", "written_since"),
    [
        ("TRUNCATE TABLE t", False),
        ("TRUNCATE TABLE t", True),
        ("ALTER TABLE t DROP PARTITION tuple()", False),
        ("ALTER TABLE t DROP PARTITION tuple()", True),
        ("ALTER TABLE t DETACH PARTITION tuple()", True),
        # not with new rows: a part that a mutation has emptied merges with them
        ("ALTER TABLE t DELETE WHERE 1 SETTINGS mutations_sync = 2", False),
    ],
)
async def test_what_takes_all_rows_away_is_a_loss_also_when_there_are_new_ones(
    tables: ClickHouse, statement: str, written_since: bool
) -> None:
    store = await filled(tables)
    before = await held(store)
    await tables.execute(statement)
    for number in range(5 * written_since):
        await tables.execute(f"INSERT INTO t VALUES ('n{number}', 1, 0)")
    assert is_emptied(before, await look(store))


async def test_one_partition_dropped_of_several_is_a_loss(tables: ClickHouse) -> None:
    store = await filled(tables, " PARTITION BY substring(k, 1, 1)")
    before = await held(store)
    assert len(before.blocks) == 3
    await tables.execute("OPTIMIZE TABLE t FINAL")
    assert not is_emptied(before, await look(store))
    await tables.execute("ALTER TABLE t DROP PARTITION 'b'")
    assert is_emptied(before, await look(store))


async def test_a_destination_with_tombstones_alone_holds_nothing_live(tables: ClickHouse) -> None:
    store = await filled(tables)
    assert await store.any_live("t")
    await tables.execute("INSERT INTO t SELECT k, 99, 1 FROM t")
    assert not await store.any_live("t")
    assert not await ClickHouseDestinations(tables, {}).any_live("nosuch")


async def test_an_exchanged_table_shows_by_its_uuid_and_a_detached_one_as_such(tables: ClickHouse) -> None:
    store = await filled(tables)
    first = (await look(store)).uuid
    await tables.execute(TABLE.format("other", ""))
    await tables.execute("EXCHANGE TABLES t AND other")
    second = await look(store)
    assert second.uuid not in ("", first) and second.partitions == {}
    await tables.execute("EXCHANGE TABLES t AND other")
    assert (await look(store)).uuid == first
    await tables.execute("DETACH TABLE t")
    assert (await look(store)).detached
    with pytest.raises(RetryableError, match="ATTACH TABLE"):
        await refuse_detached(tables, "t")
    await tables.execute("ATTACH TABLE t")
    await refuse_detached(tables, "t")
    assert (await look(store)).uuid == first and await count_rows(tables, "t") > 0
    await tables.execute("DROP TABLE t SYNC")
    assert await look(store) == DestinationState("", 0.0)
    await refuse_detached(tables, "t")


async def test_bindings_come_back_as_they_were_saved_and_the_newest_word_of_each_counts(tables: ClickHouse) -> None:
    store = ClickHouseDestinations(tables, {})
    target = Target("it's", "t", "u-1", "arn:aws:dynamodb:::table/it's", "id")
    first = Binding("p", target, 1, 1_700_000_000.25)
    other = Binding("another", Target("b", "t", "u-1"), 2, 1_700_000_001.0)
    await store.save_bindings([first, other])
    later = Binding("p", target, 1, 1_700_000_000.25, DestinationContents({"all": 2**40, "it's": 1}, 7, live=True), 1)
    await store.save_bindings([later])
    await tables.execute(f"OPTIMIZE TABLE {DESTINATIONS} FINAL")
    found = await store.bindings()
    assert [(x.pipeline, x.target, x.number, x.since, x.held, x.revision) for x in found] == [
        ("p", target, 1, 1_700_000_000.25, later.held, 1),
        ("another", other.target, 2, 1_700_000_001.0, DestinationContents(), 0),
    ]
    assert all(row.saved_at > 1_700_000_000 for row in found)

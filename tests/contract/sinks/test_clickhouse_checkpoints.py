"""Checkpoints and snapshots in a real ClickHouse: rank, sticky finish, epochs, the server's clock."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from dyncdc.model import Checkpoint, Mark, Position, ShardId, Snapshot, SourceId
from dyncdc.sinks.checkpoints import ClickHouseCheckpoints, ClickHouseSnapshots
from dyncdc.sinks.connection import ClickHouse
from dyncdc.sinks.own_tables import CHECKPOINTS, GAPS, own_statements

SOURCE = SourceId("arn:aws:kinesis:eu-west-1:1:stream/it's@1700000000")
SHARD = ShardId("shardId-000000000000")


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


def row(position: int, epoch: int = 1, ordinal: int = 1, *, finished: bool = False, shard: str = SHARD) -> Checkpoint:
    mark = Mark(Position(str(position)), 1_700_000_000.123456, finished)
    return Checkpoint(SOURCE, ShardId(shard), mark, epoch, ordinal, member=3)


async def test_what_was_saved_is_loaded(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    assert await store.load() == []
    rows = [row(2**185, epoch=2**62, ordinal=2**63), row(5, shard="other 😀 ' \\"), row(0, shard="new")]
    rows[2] = replace(rows[2], mark=Mark(Position("TRIM_HORIZON")))
    await store.save(rows)
    found = {each.shard: each for each in await store.load()}
    assert found == {each.shard: each for each in rows}


async def test_c7_the_greatest_rank_wins_in_any_order_of_arrival(tables: ClickHouse) -> None:
    rows = [row(10, epoch=1, ordinal=9), row(20, epoch=2, ordinal=1), row(30, epoch=2, ordinal=2)]
    for number, order in enumerate(itertools.permutations(rows)):
        store = ClickHouseCheckpoints(tables, f"p{number}")
        for each in order:
            await store.save([each])
        assert [each.mark.position for each in await store.load()] == ["30"]


async def test_finished_is_sticky_whatever_its_rank_even_after_merges(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(10, epoch=1, ordinal=1, finished=True)])
    await store.save([row(7, epoch=9, ordinal=9)])
    for _ in range(2):
        (found,) = await store.load()
        assert (found.mark.finished, found.mark.position) == (True, "10")
        assert found.epoch == 9
        await tables.execute(f"OPTIMIZE TABLE {CHECKPOINTS} FINAL")


async def test_pipelines_share_nothing(tables: ClickHouse) -> None:
    one, other = ClickHouseCheckpoints(tables, "one"), ClickHouseCheckpoints(tables, "other")
    await one.save([row(1)])
    assert await other.load() == []
    assert await other.newest_epoch({(SOURCE, ShardId(SHARD))}) == 0


async def test_the_newest_epoch_is_that_of_the_shards_asked_for_at_once_after_a_save(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    mine, other = (SOURCE, ShardId(SHARD)), (SOURCE, ShardId("b"))
    assert await store.newest_epoch({mine}) == 0
    await store.save([row(1, epoch=5), row(1, epoch=7, shard="b")])
    assert await store.newest_epoch({mine}) == 5, "another member's later start is no take-over"
    assert await store.newest_epoch({mine, other, (SourceId("x"), ShardId(SHARD))}) == 7
    assert await store.newest_epoch({(SourceId("x"), ShardId("b"))}) == 0
    assert await store.newest_epoch(set()) == 0
    many = {(SOURCE, ShardId(f"file/with/a/long/key-{number:0200}")) for number in range(3000)}
    assert await store.newest_epoch(many | {other}) == 7


async def test_a_look_shows_what_is_saved_of_some_sources(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(1), replace(row(2), source=SourceId("y"))])
    assert [each.source for each in await store.look([SourceId("y"), SourceId("z")])] == ["y"]
    assert await store.look([]) == []


async def test_a_thousand_shards_are_one_insert(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(number, shard=f"shard-{number}") for number in range(1000)])
    assert len(await store.load()) == 1000
    parts = await tables.fetch(
        f"SELECT count() FROM system.parts WHERE table = '{CHECKPOINTS}' AND active AND database = currentDatabase()"
    )
    assert parts == [(1,)]


async def test_the_servers_time_is_seconds_since_the_epoch(tables: ClickHouse) -> None:
    assert abs(await ClickHouseCheckpoints(tables, "p").server_time() - time.time()) < 5.0


async def test_snapshots_come_back_newest_row_each_and_oldest_first(tables: ClickHouse) -> None:
    store = ClickHouseSnapshots(tables, "p")
    assert await store.load() == []
    first = Snapshot("b", "orders", "waiting", "uuid-1")
    second = Snapshot(
        "a", "orders", "exporting", "uuid-1", "arn:it's", 1_700_000_000.5, 2**62, 4, 1_699_999_999.25, True
    )
    await store.save(first)
    await store.save(second)
    first = replace(first, state="complete", version=7)
    await store.save(replace(first, state="loading"))
    await store.save(first)
    assert await ClickHouseSnapshots(tables, "p").load() == [first, second]
    again = ClickHouseSnapshots(tables, "p")
    await again.load()
    await again.save(replace(first, state="failed", epoch=1))
    assert [each.state for each in await store.load()] == ["failed", "exporting"]


async def test_c7_a_frozen_life_that_wakes_cannot_undo_what_its_successor_wrote(tables: ClickHouse) -> None:
    frozen, successor = ClickHouseSnapshots(tables, "p"), ClickHouseSnapshots(tables, "p")
    snapshot = Snapshot("a", "orders", "waiting", "uuid-1")
    for state in ("waiting", "exporting"):
        await frozen.save(replace(snapshot, state=state, epoch=7))
    await successor.save(replace(snapshot, state="complete", epoch=8))
    for state in ("exporting", "loading", "sweeping"):
        await frozen.save(replace(snapshot, state=state, epoch=7))
    assert [each.state for each in await successor.load()] == ["complete"]


async def test_gaps_are_kept(tables: ClickHouse) -> None:
    store = ClickHouseSnapshots(tables, "p")
    await store.record_gap("orders", "arn", 1_700_000_000.25, 1_700_000_060.5)
    rows = await tables.fetch(f"SELECT `table`, source, toString(`from`), toString(`to`), recovered_at FROM {GAPS}")
    assert rows == [("orders", "arn", "2023-11-14 22:13:20.250000", "2023-11-14 22:14:20.500000", None)]


async def test_files_of_snapshots_that_others_have_followed_are_not_loaded_any_more(tables: ClickHouse) -> None:
    """Catches: every start reads the files of every snapshot that there ever was."""
    snapshots, store = ClickHouseSnapshots(tables, "p"), ClickHouseCheckpoints(tables, "p")
    begun = [("a", "orders", "u1"), ("b", "orders", "u1"), ("c", "orders", "u2"), ("d", "users", "u3")]
    for id_, table, uuid in begun:
        for state in ("waiting", "complete"):
            await snapshots.save(Snapshot(id_, table, state, uuid, epoch=5))  # type: ignore[arg-type]
        await store.save([Checkpoint(SourceId(id_), ShardId("file"), Mark(Position("9"), 1.0, finished=True), 5, 1)])
    await snapshots.save(Snapshot("a", "orders", "complete", "u1", epoch=6))  # a later row of an earlier snapshot
    await ClickHouseSnapshots(tables, "q").save(Snapshot("z", "orders", "waiting", "u1", epoch=5))
    await store.save([row(7)])
    assert {each.source for each in await store.load()} == {SOURCE, "b", "c", "d"}
    assert [each.source for each in await store.look([SourceId("a")])] == ["a"]

"""Checkpoints and snapshots in a real ClickHouse: rank, sticky finish, epochs, the server's clock."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest

from dyncdc.model.checkpoints import Checkpoint, Mark, Past, PastMark
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.tables import CHECKPOINTS, GAPS, own_statements

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
    assert (await other.proof({(SOURCE, ShardId(SHARD))}, None)).newest_epoch == 0


async def test_the_newest_epoch_is_that_of_the_shards_asked_for_at_once_after_a_save(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    mine, other = (SOURCE, ShardId(SHARD)), (SOURCE, ShardId("b"))

    async def newest(shards: set[tuple[SourceId, ShardId]]) -> int:
        return (await store.proof(shards, None)).newest_epoch

    assert await newest({mine}) == 0
    await store.save([row(1, epoch=5), row(1, epoch=7, shard="b")])
    assert await newest({mine}) == 5, "another member's later start is no take-over"
    assert await newest({mine, other, (SourceId("x"), ShardId(SHARD))}) == 7
    assert await newest({(SourceId("x"), ShardId("b"))}) == 0
    assert await newest(set()) == 0
    many = {(SOURCE, ShardId(f"file/with/a/long/key-{number:0200}")) for number in range(3000)}
    assert await newest(many | {other}) == 7


async def test_a_save_that_is_gone_is_missed_and_one_that_was_followed_by_another_is_not(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    first, second = row(1, epoch=5, ordinal=1), row(2, epoch=5, ordinal=2)
    await store.save([first])
    assert (await store.proof(set(), first)).held
    assert not (await store.proof(set(), second)).held
    await store.save([second])
    await tables.execute(f"OPTIMIZE TABLE {CHECKPOINTS} FINAL")
    assert (await store.proof({(SOURCE, ShardId("x"))}, first)).held, "a later save of the same process is as good"
    assert not (await store.proof(set(), replace(second, member=4))).held
    assert not (await store.proof(set(), replace(second, epoch=4))).held
    await tables.execute(f"TRUNCATE TABLE {CHECKPOINTS}")
    assert not (await store.proof({(SOURCE, ShardId(SHARD))}, second)).held


async def test_a_server_that_is_alone_is_known_by_its_start_and_its_id(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    server = await store.server()
    assert server.id and time.time() - 3600 < server.started_at < time.time()
    assert abs((await store.proof(set(), None)).started_at - server.started_at) <= 1.0


async def test_a_finished_shard_that_is_read_again_is_finished_only_by_a_later_row(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(9, epoch=1, finished=True)])
    await store.save([replace(row(4, epoch=2), reopened=True)])
    await store.save([row(8, epoch=1, ordinal=7, finished=True)])  # on its way for long
    for position, ordinal in ((4, 1), (5, 2)):
        if ordinal == 2:
            await store.save([row(5, epoch=2, ordinal=2)])
        (found,) = await store.load()
        assert (found.mark.finished, found.mark.position) == (False, str(position))
        await tables.execute(f"OPTIMIZE TABLE {CHECKPOINTS} FINAL")
    await store.save([row(9, epoch=2, ordinal=3, finished=True)])
    await store.save([row(6, epoch=3)])
    (found,) = await store.load()
    assert (found.mark.finished, found.mark.position) == (True, "9")


async def test_rows_say_when_they_were_saved(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(1)])
    (found,) = await store.load()
    assert abs(found.saved_at - time.time()) < 5.0


async def test_past_marks_come_back_in_their_order_the_newest_of_each_shard(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    server = await store.server()
    assert await store.past(server, 2) == Past([], 0.0)
    shards = ShardId(SHARD), ShardId("other 😀 ' \\")
    for ordinal in (9, 10, 11):
        marks = [
            PastMark(SOURCE, shard, Mark(Position(f"{ordinal}"), 1.5), 5, ordinal, ordinal == 9) for shard in shards
        ]
        await store.remember(marks)
    past = await store.past(server, 2)
    assert [(mark.ordinal, mark.begins) for mark in past.marks if mark.shard == shards[0]] == [(10, False), (11, False)]
    assert len(past.marks) == 4 and past.marks[0].mark == Mark(Position("10"), 1.5)
    assert {mark.server for mark in past.marks} == {server.id} and past.last_before == 0.0
    later = replace(server, started_at=time.time() + 60.0)
    assert (await store.past(later, 2)).last_before == pytest.approx(max(mark.saved_at for mark in past.marks))
    other = replace(server, id="another")
    assert (await store.past(other, 2)).last_before == pytest.approx(max(mark.saved_at for mark in past.marks))


async def test_a_look_shows_what_is_saved_of_some_sources(tables: ClickHouse) -> None:
    store = ClickHouseCheckpoints(tables, "p")
    await store.save([row(1), replace(row(2), source=SourceId("y"))])
    assert [each.source for each in await store.refresh([SourceId("y"), SourceId("z")])] == ["y"]
    assert await store.refresh([]) == []


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


async def test_c7_a_frozen_session_that_wakes_cannot_undo_what_its_successor_wrote(tables: ClickHouse) -> None:
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
    assert [each.source for each in await store.refresh([SourceId("a")])] == ["a"]


async def test_that_clickhouse_went_back_is_kept_for_each_member_of_a_pipeline(tables: ClickHouse) -> None:
    one, other = ClickHouseCheckpoints(tables, "one"), ClickHouseCheckpoints(tables, "other")
    assert await one.rollbacks() == []
    begun = await one.server_time()
    await one.note_rollback(0)
    await one.note_rollback(3)
    found = await one.rollbacks()
    assert [rollback.member for rollback in found] == [0, 3] and await other.rollbacks() == []
    assert begun <= found[0].noticed_at <= found[1].noticed_at <= await one.server_time()

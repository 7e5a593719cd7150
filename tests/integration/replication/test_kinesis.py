"""Reading a stream: reshards, expired iterators, empty answers and refusals neither skip nor reorder a record.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.stage.stage import Stage, change, now, until

from dyncdc.pipeline.reading.shard.retention import edge as retention_edge

SCAN = {"method": "scan", "margin_seconds": 1, "settle_seconds": 0}
COLUMNS = {"id": "String", "value": "Nullable(String)"}


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


def positions(stage: Stage) -> dict[str, str]:
    """The position of every shard, as saved."""
    winners = "argMax(position, (finished, rank))"
    rows = stage.clickhouse.rows(f"SELECT shard, {winners} FROM dyncdc_checkpoints GROUP BY shard")
    return {str(shard): str(position) for shard, position in rows}


def test_k1_the_backlog_of_a_split_shard_comes_before_its_children(stage: Stage) -> None:
    """Catches: children read beside their parent. All times are equal, so only the order of delivery decides."""
    table = stage.table(columns=COLUMNS)
    at, keys, rounds = now(), 500, 20
    backlog = [
        change(table, "MODIFY", at, item(f"k{key:03}", f"parent {turn}"))
        for turn in range(rounds)
        for key in range(keys)
    ]
    stage.put_all(backlog)
    stage.place.aws.split_first(stage.place.name)
    stage.put_all([change(table, "MODIFY", at, item(f"k{key:03}", "child")) for key in range(0, keys, 2)], slot=0.1)
    stage.put_all([change(table, "MODIFY", at, item(f"k{key:03}", "child")) for key in range(1, keys, 2)], slot=0.9)
    stage.once(batch={"max_rows": 300})
    assert stage.rows() == [[f"k{key:03}", "child"] for key in range(keys)]


def test_k2_the_child_of_a_merge_waits_for_the_slower_parent_too(stage: Stage) -> None:
    """Catches: a child that starts when one of its two parents is drained."""
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    at = now()
    slow = [change(table, "MODIFY", at, item(f"k{key}", f"parent {turn}")) for turn in range(12) for key in range(250)]
    stage.put_all(slow, slot=0.0)
    stage.put(change(table, "MODIFY", at, item("other", "parent")), slot=0.9)
    stage.place.aws.merge_last(stage.place.name)
    stage.put_all([change(table, "MODIFY", at, item(f"k{key}", "child")) for key in range(250)])
    stage.once(batch={"max_rows": 100})
    assert stage.rows() == sorted([[f"k{key}", "child"] for key in range(250)] + [["other", "parent"]])


def test_k3_a_first_start_reads_the_shards_closed_by_three_reshards(stage: Stage) -> None:
    """Catches: closed shards left out of the list; only leaves read."""
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    name, aws = stage.place.name, stage.place.aws
    written = 0
    for reshard in (aws.split_first, aws.merge_last, aws.split_first, lambda _: None):
        for number in range(40):
            stage.put(change(table, "INSERT", now(), item(f"k{written:03}")), slot=number / 40)
            written += 1
        reshard(name)
    stage.once()
    assert [key for key, _ in stage.rows()] == [f"k{number:03}" for number in range(written)]


def test_k4_latest_has_no_gap_when_the_stream_is_resharded_at_once(stage: Stage) -> None:
    """Catches: children read from LATEST; LATEST resolved again at each start."""
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    stage.put(change(table, "INSERT", now(), item("before")))
    time.sleep(1.1)  # AWS dates its answers in whole seconds
    asyncio.run(reshard_under_latest(stage, table))
    stage.put(change(table, "INSERT", now(), item("while no one reads")))
    stage.once(kinesis={"start": "LATEST"})
    wanted = sorted([f"after {turn} {number}" for turn in range(2) for number in range(20)] + ["while no one reads"])
    assert [key for key, _ in stage.rows()] == wanted


async def reshard_under_latest(stage: Stage, table: str) -> None:
    aws, name = stage.place.aws, stage.place.name
    async with stage.living(kinesis={"start": "LATEST"}):
        await until(lambda: "dyncdc_checkpoints" in stage.clickhouse.tables() and len(positions(stage)) == 2)
        for turn, reshard in enumerate((aws.split_first, aws.merge_last)):
            reshard(name)
            for number in range(20):
                stage.put(change(table, "INSERT", now(), item(f"after {turn} {number}")), slot=number / 20)
        await until(lambda: len(stage.rows()) == 40, 10, "everything after the start is there")


def test_k5_children_are_read_within_a_second_and_without_a_list(stage: Stage) -> None:
    """Catches: children noticed by the timer of the list only, which is half a minute here."""
    table = stage.table(columns=COLUMNS)
    asyncio.run(time_a_reshard(stage, table))


async def time_a_reshard(stage: Stage, table: str) -> None:
    aws = stage.place.aws
    async with stage.living():
        stage.put(change(table, "INSERT", now(), item("before")))
        await until(lambda: stage.count() == 1, 10, "it reads")
        await asyncio.sleep(1.0)  # as seldom as an idle shard is asked
        lists = aws.calls("ListShards")
        begun = time.monotonic()
        aws.split_first(stage.place.name)
        stage.put(change(table, "INSERT", now(), item("left")), slot=0.1)
        stage.put(change(table, "INSERT", now(), item("right")), slot=0.9)
        await until(lambda: len(stage.rows()) == 3, 10, "both children are read")
        taken = time.monotonic() - begun
        assert aws.calls("ListShards") == lists + 1, "one by the test, which looks for a shard to split"
        # the pause of an idle shard, the reading pause of at most 1 s, the age of a batch
        assert taken < 1.0 + 1.0 + 0.2 + 0.5, taken


def test_k6_iterators_that_expire_between_reads_lose_and_repeat_nothing(stage: Stage) -> None:
    """Catches: an iterator as the position; a reader that starts again at its last checkpoint, or at the tip."""
    table = stage.table(columns=COLUMNS)
    stage.place.aws.set(iterator_ttl_seconds=0.1)
    asyncio.run(read_with_expiring_iterators(stage, table))
    assert len(stage.rows()) == 120


async def read_with_expiring_iterators(stage: Stage, table: str) -> None:
    async with stage.living(kinesis={"poll_interval_seconds": 0.3}):
        for turn in range(4):
            stage.put_all([change(table, "INSERT", now(), item(f"k{turn} {number}")) for number in range(30)])
            await asyncio.sleep(0.5)
        await until(lambda: stage.count() == 120, 10, "all is there")
        assert await stage.metric("dyncdc_records_read_total", table=table) == 120, "read more than once"
    assert stage.place.aws.calls("GetShardIterator") > 3


@pytest.mark.parametrize("empty", [500])
def test_k9_empty_answers_before_data_do_not_slow_a_shard_down(stage: Stage, empty: int) -> None:
    """Catches: a back-off on empty answers, though the answers say that more lies ahead; "empty" taken for the tip."""
    table = stage.table(columns=COLUMNS)
    stage.put(change(table, "INSERT", now(), item("far away")))
    stage.place.aws.inject("GetRecords", *[{"empty": True}] * empty)
    begun = time.monotonic()
    stage.once(kinesis={"poll_interval_seconds": 0.001})
    assert stage.rows() == [["far away", ""]]
    assert time.monotonic() - begun < 8.0  # with the pauses of an idle shard: 500 seconds


def test_once_reads_all_of_a_stream_that_does_not_say_how_far_behind_it_is(stage: Stage) -> None:
    """Catches: a full answer taken for the tip, after which ``run --once`` ends with records unread."""
    table = stage.table(columns=COLUMNS)
    stage.place.aws.set(behind_grain_seconds=1e9)
    stage.put_all([change(table, "INSERT", now(), item(f"k{number}")) for number in range(3_000)])
    stage.once()
    assert stage.count() == 3_000


@pytest.mark.parametrize("left", [True, False])
async def test_k8_what_a_retention_decreased_under_a_slow_reader_takes_is_a_gap_and_made_good(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """Catches: a retention that is looked at as a session begins only, or with a list of shards, behind the hole.

    Kinesis goes on behind it without a word, be there records left or not.
    """
    monkeypatch.setattr(retention_edge, "LEAST_RETENTION_SECONDS", 0.5)
    table = stage.table(items=[item(f"k{number}", "first") for number in range(5)], snapshot=SCAN)
    put = stage.place.aws.put
    async with stage.living():
        await until(lambda: stage.count() == 5, what="it is loaded")
        put(table, item("k4", "second"))
        await until(lambda: ["k4", "second"] in stage.rows(columns="id, value"), what="it is followed")
        stage.place.aws.inject("GetRecords", {"sleep": 6.0})
        await asyncio.sleep(0.5)  # the read that takes so long has begun
        begin = time.time()
        stage.place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "k0"}})
        put(table, item("k1", "lost"))
        end = time.time()
        await asyncio.sleep(3.5)
        if left:
            put(table, item("k2", "still there"))
        stage.place.aws.set(retention_seconds=4.0)
        held = f"SELECT count() FROM dyncdc_gaps WHERE `from` <= {begin} AND `to` >= {end}"
        await until(lambda: stage.clickhouse.number(held) > 0, 15, "the gap is written down")
        stage.place.aws.set(retention_seconds=0.0)
        closed = "SELECT count() FROM dyncdc_gaps WHERE recovered_at IS NOT NULL"
        await until(lambda: stage.clickhouse.number(closed) > 0, 15, "it is made good")
    assert stage.clickhouse.number("SELECT uniqExact(`from`) FROM dyncdc_gaps") == 1
    assert [[key, value] for key, value in stage.rows(columns="id, value")] == [
        ["k1", "lost"],
        ["k2", "still there" if left else "first"],
        ["k3", "first"],
        ["k4", "second"],
    ]


def test_k11_hundreds_of_shards_are_all_read_though_one_call_in_twenty_fails(stage: Stage) -> None:
    """Catches: a discovery that starts over when one call fails, or that gives all its calls one deadline."""
    shards = 300
    stage.stream(shards)
    table = stage.table(columns=COLUMNS)
    for number in range(0, shards, 9):
        stage.put(change(table, "INSERT", now(), item(f"k{number:03}")), slot=(number + 0.5) / shards)
    faults: list[Any] = [{"error": "InternalFailure", "status": 500}, {"error": "LimitExceededException"}, "drop"]
    for seed, operation in enumerate(("ListShards", "GetShardIterator", "GetRecords")):
        stage.place.aws.inject(operation, *faults, probability=0.05, seed=seed)
    stage.once()
    assert [key for key, _ in stage.rows()] == [f"k{number:03}" for number in range(0, shards, 9)]
    assert len(positions(stage)) == shards
    assert stage.place.aws.injected() > shards / 20


@pytest.mark.parametrize("code", ["KMSAccessDeniedException", "KMSThrottlingException", "ExpiredTokenException"])
def test_k15_refused_reads_in_the_middle_move_no_checkpoint_and_end_by_themselves(
    stage: Stage, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches: a refusal taken for the end or for an empty answer; a daemon that dies of what passes; a silent one."""
    table = stage.table(columns=COLUMNS)
    asyncio.run(refuse_for_a_while(stage, table, code))
    said = capsys.readouterr().out
    assert f"reading shard shardId-000000000000 of {stage.place.name}" in said
    assert code in said
    assert [key for key, _ in stage.rows()] == ["after", "before"]


async def refuse_for_a_while(stage: Stage, table: str, code: str) -> None:
    async with stage.living():
        stage.put(change(table, "INSERT", now(), item("before")))
        await until(lambda: stage.count() == 1, 10, "it reads")
        await until(lambda: all(position.isdecimal() for position in positions(stage).values()), 5, "it has saved")
        saved = positions(stage)
        stage.place.aws.inject("GetRecords", {"error": code, "message": "the key says no"}, probability=1.0)
        stage.put(change(table, "INSERT", now(), item("after")))
        await stage.await_metric("dyncdc_retries_total", 3, stage="fetch")
        assert positions(stage) == saved
        assert len(stage.rows()) == 1
        stage.place.aws.clear_faults()
        await until(lambda: len(stage.rows()) == 2, 12, "it goes on")

"""Snapshots: an export is fuzzy, slow and interrupted, and yet no change is lost and none is undone.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from support.processes.harness import wait_until
from support.stage.stage import Stage, change, now, until

from dyncdc.errors import ConfigError
from dyncdc.pipeline.destinations import streaming_monitor
from dyncdc.pipeline.recovery import gaps

COLUMNS = {"id": "String", "value": "Nullable(String)"}
SECOND = 1_000_000


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


def export(stage: Stage) -> dict[str, Any]:
    return {"method": "export", "bucket": stage.place.bucket, "settle_seconds": 0.5}


def test_s1_an_item_deleted_just_before_the_export_that_still_shows_it_is_gone(stage: Stage) -> None:
    """Catches: snapshot rows at the export's time, which is exact to a minute only."""
    shown = [item("deleted", "still in the export"), item("kept", "v")]
    table = stage.table(columns=COLUMNS, items=shown, snapshot=export(stage))
    stage.put(change(table, "REMOVE", now() - 30 * SECOND, item("deleted")))
    stage.once()
    assert stage.rows() == [["kept", "v"]]


def test_s2_a_change_after_the_export_that_already_shows_it_ends_as_the_newest(stage: Stage) -> None:
    """Catches: snapshot rows at the export's time; the older of two late changes standing forever."""
    table = stage.table(columns=COLUMNS, items=[item("a", "E+30"), item("b", "E+30")], snapshot=export(stage))
    stage.once()
    assert stage.rows() == [["a", "E+30"], ["b", "E+30"]]
    ((export_time,),) = stage.clickhouse.rows("SELECT toUnixTimestamp64Micro(max(export_time)) FROM dyncdc_snapshots")
    at = int(str(export_time))
    before = change(table, "MODIFY", at - 30 * SECOND, item("a", "E-30"))
    after = change(table, "MODIFY", at + 30 * SECOND, item("a", "E+30"))
    stage.put(before)
    stage.once()
    assert stage.rows()[0] == ["a", "E-30"], "the stream outranks the snapshot"
    stage.put(after, before)
    stage.put(change(table, "MODIFY", at + 30 * SECOND, item("b", "E+30")))
    stage.put(change(table, "MODIFY", at - 30 * SECOND, item("b", "E-30")))
    stage.once()
    assert stage.rows() == [["a", "E+30"], ["b", "E+30"]]


def test_s3_an_export_waits_until_the_destination_is_active(stage: Stage) -> None:
    """Catches: an export asked for while changes do not reach the stream yet: they would be in neither."""
    stage.place.aws.set(enabling_delay_seconds=1.5)
    name = stage.place.make_table("orders", {"id": "S"})
    stage.place.aws.put(name, item("a", "before"))
    enabled_at = time.time()
    stage.place.aws.dynamodb.enable_kinesis_streaming_destination(
        TableName=name,
        StreamArn=stage.stream(),
        EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
    )
    stage.place.aws.put(name, item("a", "while enabling"))  # this change is in no stream
    columns = [{"attribute": attribute, "type": kind} for attribute, kind in COLUMNS.items()]
    stage.entries.append(stage.place.entry(name, columns=columns, snapshot=export(stage)))
    stage.once()
    assert stage.rows() == [["a", "while enabling"]]
    times = "toUnixTimestamp64Micro(max(export_time)), toUnixTimestamp64Micro(max(covered_from))"
    ((exported, covered),) = stage.clickhouse.rows(f"SELECT {times} FROM dyncdc_snapshots")
    assert int(str(covered)) / SECOND >= enabled_at + 0.5  # AWS dates its answers in whole seconds
    assert int(str(exported)) >= int(str(covered)) + SECOND // 2


def test_s3_an_accepted_gap_is_written_down_and_verify_finds_what_was_lost(stage: Stage) -> None:
    """Catches: an old export taken without a word; a gap that no one can find afterwards."""
    name = stage.place.make_table("orders", {"id": "S"})
    stage.place.aws.put_all(name, [item("a", "exported"), item("b", "exported")])
    arn = stage.place.aws.dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
    given = stage.place.aws.export(arn, stage.place.bucket)["ExportArn"]
    stage.place.aws.put(name, item("b", "lost"))
    time.sleep(1.1)  # AWS dates its answers in whole seconds
    stage.place.aws.send_changes(name, stage.stream())
    columns = [{"attribute": attribute, "type": kind} for attribute, kind in COLUMNS.items()]
    taken = {"method": "export", "export_arn": given, "accept_gap": True}
    stage.entries.append(stage.place.entry(name, columns=columns, snapshot=taken))
    stage.once()
    assert stage.rows() == [["a", "exported"], ["b", "exported"]]
    ((table, begin, end),) = stage.clickhouse.rows("SELECT table, `from`, `to` FROM dyncdc_gaps")
    assert table == name
    assert str(begin) < str(end)
    assert stage.verify(name) == "DIFFERENT items=2 differing=1"


@pytest.mark.parametrize("seen_by", ["a session", "a refused start"])
def test_s3_what_a_destination_did_not_send_is_loaded_again_though_it_is_back_at_the_next_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    """Catches: a destination seen off and forgotten by the restart, after which it is ACTIVE and looks as if it had
    always been.
    """
    items = [item("changed", "old"), item("deleted"), item("same")]
    table = stage.table(columns=COLUMNS, items=items, snapshot=export(stage) | {"margin_seconds": 1.0})
    stage.once()
    dynamodb, streaming = stage.place.aws.dynamodb, {"TableName": table, "StreamArn": stage.stream()}

    def destination() -> str:
        (found,) = dynamodb.describe_kinesis_streaming_destination(TableName=table)["KinesisDataStreamDestinations"]
        return str(found["DestinationStatus"])

    dynamodb.disable_kinesis_streaming_destination(**streaming)
    wait_until(lambda: destination() == "DISABLED", 5, "it is off")
    stage.place.aws.put(table, item("changed", "new"))
    dynamodb.delete_item(TableName=table, Key={"id": {"S": "deleted"}})
    if seen_by == "a refused start":
        with pytest.raises(ConfigError, match="its changes do not go to stream"):
            stage.once()
    stage.place.aws.set(enabling_delay_seconds=6.0)  # long enough for a session to begin meanwhile
    dynamodb.enable_kinesis_streaming_destination(**streaming)
    if seen_by == "a session":
        monkeypatch.setattr(streaming_monitor, "LOOK_SECONDS", 0.1)
        asyncio.run(see_it_off(stage))
    wait_until(lambda: destination() == "ACTIVE", 10, "it is on again")
    stage.once()
    assert stage.rows() == [["changed", "new"], ["same", ""]]
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps WHERE recovered_at IS NOT NULL") == 1


async def see_it_off(stage: Stage) -> None:
    async with stage.living():
        await until(lambda: stage.clickhouse.number("SELECT count() FROM dyncdc_gaps"), 10, "the gap is written down")


def test_o13_items_of_a_table_that_was_made_again_meanwhile_are_swept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a table known by its name alone: the items of the one that was deleted would stay forever."""
    items = [item("only in the old one"), item("in both", "old")]
    table = stage.table(columns=COLUMNS, items=items, snapshot=export(stage) | {"margin_seconds": 1.0})
    stage.once()
    monkeypatch.setattr(gaps, "CLOCKS_DIFFER_SECONDS", 0.0)
    time.sleep(1.1)  # AWS dates its answers in whole seconds
    stage.place.aws.dynamodb.delete_table(TableName=table)  # which sends no changes
    stage.place.aws.make_table(table, {"id": "S"})
    stage.place.aws.put(table, item("in both", "new"))
    stage.place.aws.send_changes(table, stage.stream())
    stage.once()
    assert stage.rows() == [["in both", "new"]]


def test_s4_updates_made_while_the_snapshot_loads_win(stage: Stage) -> None:
    """Catches: snapshot rows at the time at which they are loaded; a stream read before or after, not beside."""
    names = [f"k{number}" for number in range(40)]
    table = stage.table(columns=COLUMNS, items=[item(name, "old") for name in names], snapshot=export(stage))
    stage.place.aws.set(export_files=4)
    stage.place.aws.inject("GetObject", {"sleep": 1.5}, contains="/data/", probability=1.0)
    asyncio.run(update_while_loading(stage, table, names))
    stage.place.aws.clear_faults()
    stage.once()
    assert stage.rows() == sorted([[name, "new"] for name in names[:20]] + [[name, "old"] for name in names[30:]])
    at = "toUnixTimestamp64Micro(max(export_time))"
    assert stage.clickhouse.number(f"SELECT {at} - min(_version) FROM orders, dyncdc_snapshots") == 300 * SECOND


async def update_while_loading(stage: Stage, table: str, names: list[str]) -> None:
    async with stage.living():
        await until_state(stage, "loading")
        for name in names[:20]:
            stage.place.aws.put(table, item(name, "new"))
        for name in names[20:30]:
            stage.place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": name}})
        assert state(stage) == "loading"
        await until_state(stage, "complete")


def state(stage: Stage) -> object:
    if "dyncdc_snapshots" not in stage.clickhouse.tables():
        return ""
    return stage.clickhouse.value("SELECT argMax(state, revision) FROM dyncdc_snapshots")


async def until_state(stage: Stage, wanted: str) -> None:
    await until(lambda: state(stage) == wanted, 10, f"the snapshot is {wanted}")


def test_s8_a_crash_in_the_middle_of_a_file_loses_nothing_and_reads_no_finished_file_again(stage: Stage) -> None:
    """Catches: a file counted as finished before its last row is durable; all files read again after a crash."""
    stage.place.aws.set(export_files=3)
    rng = random.Random(8)  # what can be compressed little is cut in the middle of the lines
    items = [item(f"k{number}", rng.randbytes(1500).hex()) for number in range(600)]
    stage.table(columns=COLUMNS, items=items, snapshot=export(stage))
    slow = {"batch": {"max_rows": 20}, "checkpoint": {"interval_seconds": 0.05}}
    asyncio.run(die_in_a_file(stage, slow))
    finished = finished_files(stage)
    assert 0 < len(finished) < 3
    assert 200 <= stage.clickhouse.number("SELECT count() FROM orders FINAL") < 600
    stage.place.aws.clear_faults()
    for file in finished:
        stage.place.aws.inject("GetObject", {"error": "AccessDenied", "status": 403}, contains=file, probability=1.0)
    stage.once()
    assert stage.clickhouse.number("SELECT count() FROM orders_current") == 600
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_snapshots WHERE state = 'exporting'") <= 2, "one export"


def finished_files(stage: Stage) -> list[str]:
    rows = stage.clickhouse.rows(
        "SELECT DISTINCT shard FROM dyncdc_checkpoints WHERE finished AND endsWith(shard, 'gz')"
    )
    return [str(shard) for (shard,) in rows]


async def die_in_a_file(stage: Stage, sections: dict[str, Any]) -> None:
    # one file whole, two of them cut off in the middle, and nothing for a while when they are asked for again
    script = [None, {"cut": 100_000}, {"cut": 100_000}, *[{"sleep": 9.0}] * 9]
    stage.place.aws.inject("GetObject", *script, contains="/data/")
    half = (
        "SELECT uniqExact(shard) FROM dyncdc_checkpoints"
        " WHERE match(position, '^[0-9]+$') AND endsWith(shard, 'gz')"
        " AND shard NOT IN (SELECT shard FROM dyncdc_checkpoints WHERE finished)"
    )
    async with stage.living(**sections):
        await until_state(stage, "loading")
        await until(lambda: finished_files(stage) and stage.clickhouse.number(half) == 2, 20, "two files are half read")


def test_s9_the_stream_is_read_while_the_load_takes_as_long_as_it_likes(stage: Stage) -> None:
    """Catches: a stream parked until the snapshot ends: its oldest records would expire unread.

    The headroom that an alarm needs is a metric of every shard.
    """
    table = stage.table(columns=COLUMNS, items=[item("a", "old")], snapshot=export(stage))
    stage.place.aws.inject("GetObject", {"sleep": 60.0}, contains="/data/", probability=1.0)
    asyncio.run(stream_beside_a_stuck_load(stage, table))


async def stream_beside_a_stuck_load(stage: Stage, table: str) -> None:
    async with stage.living():
        await until_state(stage, "loading")
        stage.place.aws.put(table, item("b", "new"))
        await until(lambda: stage.rows() == [["b", "new"]], 5, "the stream is read")
        assert state(stage) == "loading"
        saved = "SELECT count() FROM dyncdc_checkpoints WHERE match(position, '^[0-9]+$') AND shard LIKE 'shardId%'"
        await until(lambda: stage.clickhouse.number(saved), 5, "its position is saved")
        headroom = await stage.metric("dyncdc_retention_headroom_seconds")
        assert 24 * 3600 - 60 < headroom <= 24 * 3600


def test_k15_a_bucket_that_may_not_be_read_any_more_stops_neither_the_stream_nor_the_daemon(stage: Stage) -> None:
    """Catches: a daemon that ends, for all tables, because of the bucket of one; a load that no one hears of."""
    table = stage.table(columns=COLUMNS, items=[item("a", "exported")], snapshot=export(stage))
    denied = {"error": "AccessDenied", "status": 403}
    stage.place.aws.inject("GetObject", denied, contains="/data/", probability=1.0)
    asyncio.run(stream_beside_a_refused_load(stage, table))


async def stream_beside_a_refused_load(stage: Stage, table: str) -> None:
    async with stage.living(run={"stuck_after_seconds": 1.0}) as session:
        await until_state(stage, "loading")
        await stage.await_metric("dyncdc_retries_total", 2, stage="fetch")
        stage.place.aws.put(table, item("b", "new"))
        await until(lambda: stage.rows() == [["b", "new"]], 5, "the stream is read")
        assert "AccessDenied" in await health(stage, 503)
        assert not session.done()
        stage.place.aws.clear_faults()
        await until_state(stage, "complete")
        assert stage.rows() == [["a", "exported"], ["b", "new"]]
        await health(stage, 200)


async def health(stage: Stage, status: int) -> str:
    """Wait until ``/healthz`` answers with this status, and return what it says."""
    async with asyncio.timeout(15):
        while (found := await stage.page("/healthz"))[0] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found[1]

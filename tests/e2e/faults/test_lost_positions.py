"""Lost positions with the real process: expired records, a shard that is gone, a stream recreated, and the healing."""

from __future__ import annotations

import json
import time

import pytest
from support.data.oracle import assert_equal_within
from support.processes.harness import Daemon, running, wait_until
from support.servers.place import Place

QUICK = {"method": "export", "settle_seconds": 0.5, "margin_seconds": 1.0}
RETENTION_SECONDS = 4.0


def item(number: int, text: str = "x") -> dict[str, dict[str, str]]:
    return {"id": {"S": f"k{number}"}, "text": {"S": text}}


def delete(place: Place, table: str, *numbers: int) -> None:
    for number in numbers:
        place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": f"k{number}"}})


def loaded_table(place: Place, shards: int = 1, **sections: object) -> tuple[str, Daemon, str]:
    """A table of ten items on a stream, and a daemon for it that is not started yet."""
    table = place.make_table("things", {"id": "S"}, place.make_stream(shards))
    place.aws.put_all(table, [item(number) for number in range(10)])
    entry = place.entry(table, snapshot={**QUICK, "bucket": place.bucket})
    config = place.configure([entry], **sections)
    return table, place.daemon(config), str(config)


def complete_snapshots(place: Place) -> int:
    if "dyncdc_snapshots" not in place.clickhouse.tables():
        return 0
    states = place.clickhouse.rows("SELECT argMax(state, revision) FROM dyncdc_snapshots GROUP BY id")
    return sum(state == "complete" for (state,) in states)


def live_until_loaded(place: Place, daemon: Daemon, table: str) -> None:
    with running(daemon):
        wait_until(lambda: complete_snapshots(place) == 1, 20, f"the first snapshot is complete: {daemon.tail()}")
        assert_equal_within(20, place.aws, place.clickhouse, table)


def lose_changes(place: Place, table: str) -> None:
    """Make changes that expire before anybody reads them."""
    place.aws.set(retention_seconds=RETENTION_SECONDS)
    delete(place, table, 0, 1)
    place.aws.put(table, item(2, "changed"))
    place.aws.put(table, item(99, "new"))
    time.sleep(RETENTION_SECONDS + 1)


def gaps(place: Place, what: str = "count()", where: str = "1") -> list[list[object]]:
    return place.clickhouse.rows(f"SELECT {what} FROM dyncdc_gaps WHERE {where}")


def recovered(place: Place) -> bool:
    return gaps(place, where="recovered_at IS NOT NULL") != [["0"]]


def test_k8_changes_that_expired_unread_are_made_good_by_a_snapshot_and_ghosts_go(place: Place) -> None:
    table, daemon, config = loaded_table(place)
    live_until_loaded(place, daemon, table)
    lose_changes(place, table)
    with running(daemon):
        wait_until(lambda: gaps(place) != [["0"]], 10, f"the gap is written down: {daemon.tail()}")
        place.aws.set(retention_seconds=0.0)
        wait_until(lambda: recovered(place), 30, f"the gap is recovered: {daemon.tail()}")
        assert_equal_within(10, place.aws, place.clickhouse, table)
        assert daemon.metric("dyncdc_gaps_total", table=table) == 1
        place.aws.put(table, item(1, "back again"))
        assert_equal_within(10, place.aws, place.clickhouse, table)
        status = json.loads(place.command("status", "-c", config, "--json").out)
        assert status["gaps"] == []
    assert '"event":"position lost"' in daemon.log.read_text()
    (found,) = place.clickhouse.dicts(
        "SELECT `table`, shard, recovered_at > noticed_at AS healed, `from` < `to` AS forward FROM dyncdc_gaps"
        " WHERE recovered_at IS NOT NULL"
    )
    assert found == {"table": table, "shard": "shardId-000000000000", "healed": 1, "forward": 1}


def test_k8_what_expires_while_the_daemon_reads_lies_in_a_gap_and_is_made_good(place: Place) -> None:
    """One read takes longer than the stream keeps what is written meanwhile: Kinesis then goes on without a word."""
    kept_seconds = 8.0
    table, daemon, _ = loaded_table(place)
    place.aws.set(retention_seconds=kept_seconds)
    with running(daemon):
        wait_until(lambda: complete_snapshots(place) == 1, 20, f"the first snapshot is complete: {daemon.tail()}")
        assert_equal_within(20, place.aws, place.clickhouse, table)
        place.aws.inject("GetRecords", {"sleep": kept_seconds * 2}, contains=place.name)
        time.sleep(1.5)  # the read that takes so long has begun
        first = time.time()
        delete(place, table, 0, 1)
        place.aws.put(table, item(2, "changed"))
        last = time.time()
        time.sleep(kept_seconds)
        place.aws.put(table, item(3, "still there"))
        told = f"`from` <= {first} AND `to` >= {last} AND `to` < {last + kept_seconds + 3}"
        wait_until(lambda: gaps(place, where=told) != [["0"]], 20, f"the gap is written down: {daemon.tail()}")
        place.aws.set(retention_seconds=0.0)
        wait_until(lambda: recovered(place), 30, f"the gap is recovered: {daemon.tail()}")
        assert_equal_within(20, place.aws, place.clickhouse, table)


def test_k8_stop_says_what_is_missing_and_a_request_lets_it_go_on(place: Place) -> None:
    table, daemon, config = loaded_table(place, kinesis={"on_lost_position": "stop"})
    live_until_loaded(place, daemon, table)
    lose_changes(place, table)
    for _ in range(2):  # the gap survives the restart
        assert daemon.start().wait() == 1
        last = daemon.log.read_text().strip().splitlines()[-1]
        assert last.startswith(f"dyncdc: changes of {table} between ")
        assert f"dyncdc snapshot {table}" in last
    assert gaps(place, "uniqExact(`from`)") == [["1"]]
    asked = place.command("snapshot", table, "-c", config)
    assert asked.code == 0, asked
    status = place.command("status", "-c", config).out
    assert f"gap: changes of {table} between" in status
    assert "requested: a snapshot" in status
    daemon.start()
    wait_until(lambda: recovered(place), 30, f"the gap is recovered: {daemon.tail()}")
    place.aws.set(retention_seconds=0.0)
    assert_equal_within(10, place.aws, place.clickhouse, table)
    assert place.clickhouse.number("SELECT count() FROM dyncdc_requests WHERE done_at IS NOT NULL") == 1
    assert daemon.terminate() == 0, daemon.tail()


def test_k8_a_table_that_cannot_be_loaded_again_stops_with_that_reason(place: Place) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put(table, item(1))
    daemon = place.daemon(place.configure([place.entry(table, snapshot={"method": "none"})]))
    with running(daemon):
        assert_equal_within(10, place.aws, place.clickhouse, table)
    lose_changes(place, table)
    assert daemon.start().wait() == 1
    assert 'its snapshot.method is "none"' in daemon.log.read_text().splitlines()[-1]


def test_k7_a_shard_that_is_gone_is_given_up_while_the_others_go_on(place: Place) -> None:
    table, daemon, _ = loaded_table(place, shards=2)
    live_until_loaded(place, daemon, table)
    place.aws.set(retention_seconds=RETENTION_SECONDS)
    place.aws.merge_last(place.name)  # both parents are closed, and expire
    delete(place, table, 3)
    time.sleep(RETENTION_SECONDS + 1)
    shards = {shard["ShardId"] for shard in place.aws.kinesis.list_shards(StreamName=place.name)["Shards"]}
    assert shards == {"shardId-000000000002"}
    with running(daemon):
        wait_until(lambda: gaps(place) != [["0"]], 10, f"the gap is written down: {daemon.tail()}")
        place.aws.set(retention_seconds=0.0)
        wait_until(lambda: recovered(place), 30, f"the gap is recovered: {daemon.tail()}")
        assert_equal_within(10, place.aws, place.clickhouse, table)
    lost = {shard for (shard,) in gaps(place, "DISTINCT shard")}
    assert lost == {"shardId-000000000000", "shardId-000000000001"}


@pytest.mark.parametrize("alive", [True, False], ids=["while it is read", "while no one reads"])
def test_k13_a_stream_that_was_deleted_and_made_again_is_made_good_by_a_snapshot(place: Place, alive: bool) -> None:
    table, daemon, _ = loaded_table(place)
    live_until_loaded(place, daemon, table)
    if alive:
        daemon.start()
        daemon.wait_ready()
    place.aws.kinesis.delete_stream(StreamName=place.name)
    delete(place, table, 4, 5)
    place.aws.put(table, item(6, "changed while there was no stream"))
    time.sleep(1.2)  # another creation time, in whole seconds
    arn = place.aws.make_stream(place.name)
    states = place.aws.dynamodb.describe_kinesis_streaming_destination(TableName=table)
    if not any(one["DestinationStatus"] == "ACTIVE" for one in states["KinesisDataStreamDestinations"]):
        place.aws.send_changes(table, arn)
    if not alive:
        daemon.start()
    try:
        wait_until(lambda: recovered(place), 40, f"the gap is recovered: {daemon.tail()}")
        place.aws.put(table, item(7, "after"))
        assert_equal_within(10, place.aws, place.clickhouse, table)
        assert daemon.running
    finally:
        daemon.kill()
    (reason,) = {reason for (reason,) in gaps(place, "DISTINCT reason", "recovered_at IS NOT NULL")}
    assert "created again" in str(reason) or "deleted" in str(reason)


def test_s6_a_snapshot_on_request_heals_stale_rows_and_ghosts_and_leaves_newer_ones(place: Place) -> None:
    table, daemon, config = loaded_table(place)
    with running(daemon):
        wait_until(lambda: complete_snapshots(place) == 1, 20, f"the first snapshot is complete: {daemon.tail()}")
        assert_equal_within(20, place.aws, place.clickhouse, table)
        version = place.clickhouse.number("SELECT max(_version) FROM things")
        place.clickhouse.run(
            "INSERT INTO things (id, text, _spill, _version, _deleted) VALUES"
            f" ('orphan row', 'never there', '', {version + 1}, 0), ('k1', 'stale', '', {version + 1}, 0),"
            f" ('k2', 'x', '', {version + 2}, 1)"
        )
        time.sleep(1.2)  # the margin: the snapshot is to be newer than these
        for number in range(2):
            assert place.command("snapshot", table, "-c", config, "--json").code == 0
            place.aws.put(table, item(3, f"newer {number}"))
            wait_until(lambda n=number: complete_snapshots(place) == n + 2, 20, f"it is complete: {daemon.tail()}")
            assert_equal_within(10, place.aws, place.clickhouse, table)
        wait_until(
            lambda: place.clickhouse.number("SELECT countIf(done_at IS NOT NULL) FROM dyncdc_requests") == 2,
            5,
            "both requests are done",
        )
    verdict = place.command("verify", table, "-c", config)
    assert verdict.code == 0, verdict

"""Faults injected into a real daemon that a real Prometheus scrapes: its alert fires, no other does, and it clears.

Slow: run by `make alerts`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes.harness import Daemon, running, wait_until
from support.repository.watching import WINDOW_SECONDS, Prometheus, prometheus
from support.servers.place import Place

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.environ.get("DYNCDC_ALERTS"), reason="minutes of waiting: `make alerts`"),
]

STUCK_AFTER_SECONDS = 3.0
RETENTION_SECONDS = 40.0
STARTS_SLOWLY = 3
NOTICED_SECONDS = 30.0
CLEARS_SECONDS = WINDOW_SECONDS + 15.0


def item(number: int, text: str = "x") -> dict[str, dict[str, str]]:
    return {"id": {"S": f"k{number}"}, "text": {"S": text}}


def daemon_over(place: Place, **sections: object) -> tuple[Daemon, str]:
    """A daemon over one table of ten items, not started, and the table."""
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, [item(number) for number in range(10)])
    snapshot = {"method": "export", "bucket": place.bucket, "settle_seconds": 0.5, "margin_seconds": 1.0}
    run = {"run": {"stuck_after_seconds": STUCK_AFTER_SECONDS}, "clickhouse": {"insert_timeout_seconds": 3.0}}
    return place.daemon(place.configure([place.entry(table, snapshot=snapshot)], **{**run, **sections})), table


@contextmanager
def writing(place: Place, table: str) -> Iterator[None]:
    """A few changes a second while the block runs."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            place.aws.put(table, item(number % 20, f"{number}"))  # the same again would be no change

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def loaded(place: Place, daemon: Daemon) -> None:
    """Wait until the snapshot is complete."""
    wait_until(lambda: daemon.metric("dyncdc_snapshot_progress_ratio") == 1, 20, f"loaded: {daemon.tail()}")


@pytest.fixture
def watched(place: Place, tmp_path: Path) -> Iterator[tuple[Daemon, str, Prometheus]]:
    """A daemon that runs well, its table under load, and a Prometheus that has found nothing to say."""
    daemon, table = daemon_over(place)
    with running(daemon):
        loaded(place, daemon)
        with writing(place, table), prometheus(tmp_path / "prometheus", daemon.http_port) as watch:
            watch.stays_silent(8)
            yield daemon, table, watch


def test_a_healthy_daemon_under_load_raises_nothing_for_longer_than_every_rule_waits(
    watched: tuple[Daemon, str, Prometheus],
) -> None:
    watched[2].stays_silent(WINDOW_SECONDS)


def test_a_frozen_clickhouse_is_stuck(place: Place, watched: tuple[Daemon, str, Prometheus]) -> None:
    _, _, watch = watched
    with place.freeze_clickhouse():
        watch.await_only("DyncdcStuck", NOTICED_SECONDS)
        time.sleep(10)
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcStuck"}


def test_an_outage_in_the_middle_of_a_snapshot_is_stuck_and_no_failed_snapshot(place: Place, tmp_path: Path) -> None:
    daemon, _ = daemon_over(place)
    place.aws.inject("GetObject", {"sleep": 8.0}, contains=".json.gz", probability=1.0)
    with running(daemon), prometheus(tmp_path / "prometheus", daemon.http_port) as watch:
        wait_until(lambda: place.aws.calls("GetObject") > 0, 20, f"files are read: {daemon.tail()}")
        with place.freeze_clickhouse():
            watch.await_only("DyncdcStuck", NOTICED_SECONDS)
            wait_until(lambda: "snapshot:" in daemon.get("/healthz")[1], 20, "the snapshot waits as well")
            time.sleep(10)
        place.aws.clear_faults()
        assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcStuck"}
        loaded(place, daemon)


def test_a_stream_that_refuses_to_be_read_is_stuck(place: Place, watched: tuple[Daemon, str, Prometheus]) -> None:
    _, _, watch = watched
    place.aws.inject("GetRecords", {"error": "ProvisionedThroughputExceededException"}, probability=1.0)
    watch.await_only("DyncdcStuck", NOTICED_SECONDS)
    place.aws.clear_faults()
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcStuck"}


def test_an_aws_that_answers_nothing_is_stuck(place: Place, watched: tuple[Daemon, str, Prometheus]) -> None:
    _, _, watch = watched
    for operation in ("GetRecords", "ListShards", "GetShardIterator", "DescribeKinesisStreamingDestination"):
        place.aws.inject(operation, {"sleep": 20.0}, probability=1.0)
    watch.await_only("DyncdcStuck", NOTICED_SECONDS)
    time.sleep(10)
    place.aws.clear_faults()
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcStuck"}


def test_a_killed_daemon_is_down(watched: tuple[Daemon, str, Prometheus]) -> None:
    daemon, _, watch = watched
    daemon.kill()
    watch.await_only("DyncdcDown", NOTICED_SECONDS)
    daemon.start().wait_ready()
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcDown"}


def test_a_daemon_that_no_one_scrapes_is_absent(watched: tuple[Daemon, str, Prometheus]) -> None:
    daemon, _, watch = watched
    watch.scrape()
    watch.await_only("DyncdcAbsent", NOTICED_SECONDS)
    watch.scrape(daemon.http_port)
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcAbsent"}


def test_a_daemon_that_starts_again_and_again_is_a_restart_loop(place: Place, tmp_path: Path) -> None:
    daemon, _ = daemon_over(place)
    with running(daemon), prometheus(tmp_path / "prometheus", daemon.http_port, slower=STARTS_SLOWLY) as watch:
        loaded(place, daemon)
        watch.stays_silent(8)  # the first start is seen as well
        for _ in range(4):
            daemon.kill()
            daemon.start().wait_ready()
            time.sleep(1.5)  # seen by one scrape
        watch.await_only("DyncdcRestartLoop", NOTICED_SECONDS)
        assert watch.await_silence(STARTS_SLOWLY * CLEARS_SECONDS) == {"DyncdcRestartLoop"}


def test_a_record_that_is_no_change_is_a_dead_letter(place: Place, watched: tuple[Daemon, str, Prometheus]) -> None:
    _, _, watch = watched
    place.aws.kinesis.put_record(StreamName=place.name, Data=b"no change", PartitionKey="k")
    watch.await_only("DyncdcDeadLetters", NOTICED_SECONDS)
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcDeadLetters"}


def test_a_backlog_that_is_not_read_lags(place: Place, watched: tuple[Daemon, str, Prometheus]) -> None:
    _, _, watch = watched
    place.aws.inject("GetRecords", {"empty": True}, probability=1.0)
    watch.await_only("DyncdcLag", NOTICED_SECONDS + 30)
    place.aws.clear_faults()
    assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcLag"}


def test_changes_about_to_expire_are_low_then_critical_headroom(place: Place, tmp_path: Path) -> None:
    daemon, table = daemon_over(place)
    place.aws.set(retention_seconds=RETENTION_SECONDS)
    with running(daemon):
        loaded(place, daemon)
        with prometheus(tmp_path / "prometheus", daemon.http_port) as watch:
            watch.stays_silent(8)
            place.aws.inject("GetRecords", {"empty": True}, probability=1.0)
            place.aws.put(table, item(3, "changed"))
            watch.await_only("DyncdcHeadroomLow", RETENTION_SECONDS)
            wait_until(lambda: watch.firing() == {"DyncdcHeadroomCritical"}, RETENTION_SECONDS, "headroom is critical")
            place.aws.clear_faults()
            fired = watch.await_silence(CLEARS_SECONDS)
            assert fired == {"DyncdcHeadroomLow", "DyncdcHeadroomCritical"}
            assert daemon.metric("dyncdc_gaps_total") == 0, "it was in time"


def test_changes_that_expired_unread_are_a_gap(place: Place, tmp_path: Path) -> None:
    daemon, table = daemon_over(place)
    with running(daemon):
        loaded(place, daemon)
    place.aws.set(retention_seconds=4.0)
    place.aws.put(table, item(99))
    time.sleep(5)
    with prometheus(tmp_path / "prometheus", daemon.http_port) as watch, running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_gaps_total") > 0, 20, f"the gap is noticed: {daemon.tail()}")
        place.aws.set(retention_seconds=0.0)
        watch.await_only("DyncdcGap", NOTICED_SECONDS)
        assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcGap"}
        assert place.clickhouse.number("SELECT count() FROM dyncdc_gaps WHERE recovered_at IS NOT NULL") > 0


def test_a_spoilt_file_of_an_export_is_a_failed_snapshot(place: Place, tmp_path: Path) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, [item(number) for number in range(40)])
    arn = place.aws.dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
    export = place.aws.export(arn, place.bucket)["ExportArn"]
    found = place.aws.s3.list_objects_v2(Bucket=place.bucket)["Contents"]
    victim = next(one["Key"] for one in found if one["Key"].endswith(".gz") and one["Size"] > 60)
    whole = place.aws.read_object(place.bucket, victim)
    place.aws.write_object(place.bucket, victim, whole[:-12])
    entry = place.entry(table, snapshot={"method": "export", "export_arn": export, "accept_gap": True})
    config = place.configure([entry], run={"stuck_after_seconds": STUCK_AFTER_SECONDS})
    daemon = place.daemon(config)
    with running(daemon), prometheus(tmp_path / "prometheus", daemon.http_port, slower=STARTS_SLOWLY) as watch:
        watch.await_only("DyncdcSnapshotFailed", NOTICED_SECONDS)
        place.aws.write_object(place.bucket, victim, whole)
        assert daemon.terminate() == 0
        daemon.start().wait_ready()  # an export named forever is tried again by the next start
        assert watch.await_silence(CLEARS_SECONDS) == {"DyncdcSnapshotFailed"}
        loaded(place, daemon)

"""Outages: memory stays bounded, reading stops by itself, health names the cause, and all catches up afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.data.load import COLUMNS, Load
from support.data.oracle import assert_equal_within
from support.processes.harness import Daemon, resident_bytes, running, wait_until
from support.servers.place import Place

MEMORY_BYTES = 16 * 2**20
"""The least that the configuration takes: so the backlog that proves anything is soonest written."""

BACKLOG_BYTES = 4 * MEMORY_BYTES
FROZEN_SECONDS = float(os.environ.get("DYNCDC_E2E_OUTAGE_SECONDS", "15"))
"""``DYNCDC_E2E_OUTAGE_SECONDS=60`` for the full minute."""

PUT_RECORDS = 500
PADDING_BYTES = 700


def envelope(table: str, number: int, microseconds: int) -> bytes:
    """One INSERT as DynamoDB sends it, of about 1 KB, without a space between its parts."""
    image = {
        "id": {"S": f"item-{number}"},
        "number": {"N": str(number)},
        "text": {"S": f"{number % 10}" * PADDING_BYTES},
    }
    change = {
        "ApproximateCreationDateTime": microseconds,
        "Keys": {"id": image["id"]},
        "NewImage": image,
        "SizeBytes": 800,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
    }
    record = {
        "awsRegion": "us-east-1",
        "eventID": str(uuid.UUID(int=number)),
        "eventName": "INSERT",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": change,
        "eventSource": "aws:dynamodb",
    }
    return json.dumps(record, separators=(",", ":")).encode()


def fill_stream(place: Place, table: str, nbytes: int) -> int:
    """Put so many bytes of changes into the stream at once; return the number of records."""
    now = time.time_ns() // 1000
    written = number = 0
    while written < nbytes:
        batch = [envelope(table, n, now + n) for n in range(number, number + PUT_RECORDS)]
        records = [{"Data": data, "PartitionKey": f"k{number + n}"} for n, data in enumerate(batch)]
        assert place.aws.kinesis.put_records(StreamName=place.name, Records=records)["FailedRecordCount"] == 0
        written += sum(map(len, batch))
        number += PUT_RECORDS
    return number


@pytest.fixture
def backlogged(place: Place) -> Iterator[tuple[Daemon, str]]:
    """A daemon with little memory over an empty table and stream, ready and idle."""
    table = place.make_table("events", {"id": "S"}, place.make_stream(shards=3))
    columns = [
        {"attribute": "id", "type": "String"},
        {"attribute": "number", "type": "Nullable(Int64)"},
        {"attribute": "text", "type": "Nullable(String)"},
    ]
    config = place.configure(
        [place.entry(table, columns=columns)],
        clickhouse={"insert_timeout_seconds": 5.0},
        limits={"memory_bytes": MEMORY_BYTES},
        run={"stuck_after_seconds": 3.0},
    )
    with running(place.daemon(config)) as daemon:
        yield daemon, table


@pytest.mark.timeout(300)
def test_c14_a_frozen_clickhouse_stops_reading_within_the_memory_limit(
    place: Place, backlogged: tuple[Daemon, str]
) -> None:
    daemon, table = backlogged
    wait_until(lambda: daemon.metric("dyncdc_snapshot_progress_ratio") == 1, 20, "the empty snapshot is complete")
    time.sleep(1.0)
    idle_bytes = resident_bytes(daemon.pid)
    with place.freeze_clickhouse():
        began = time.monotonic()
        count = fill_stream(place, table, BACKLOG_BYTES)
        place.aws.await_quiet("GetRecords", 2.0, 30)
        assert 0 < daemon.metric("dyncdc_records_read_total") < count, "it has read everything into memory"
        time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - began)))
        status, text = daemon.get("/healthz")
        assert status == 503
        assert "insert:events" in text, text
        assert daemon.get("/livez")[0] == 200
        assert daemon.metric("dyncdc_stuck_tasks") >= 1
    wait_until(
        lambda: rows_of(place) == count, 40, f"all {count} rows arrive, {rows_of(place)} so far: {daemon.tail()}"
    )
    wait_until(lambda: daemon.get("/healthz")[0] == 200, 10, "health is green again")
    peak_bytes = resident_bytes(daemon.pid, "VmHWM")
    extra = (peak_bytes - idle_bytes) / MEMORY_BYTES
    assert extra <= 1.25, f"peak {peak_bytes >> 20} MiB, idle {idle_bytes >> 20} MiB: {extra:.2f} x memory_bytes"
    wanted = [str(count), str(count * (count - 1) // 2), "0"]
    wrong = f"number != toInt64(substring(id, 6)) OR text != repeat(toString(number % 10), {PADDING_BYTES})"
    there = place.clickhouse.rows(f"SELECT count(), sum(number), countIf({wrong}) FROM events_current")[0]
    assert [str(value) for value in there] == wanted
    assert daemon.terminate() == 0, daemon.tail()


def rows_of(place: Place) -> int:
    """Rows that a reader of the table sees."""
    return place.clickhouse.number("SELECT count() FROM events_current")


@pytest.fixture
def loaded(place: Place) -> tuple[Daemon, Load, str]:
    """A daemon and a load for it, neither started."""
    stream = place.make_stream(shards=2)
    items = place.make_table("items", {"pk": "S", "n": "N"}, stream)
    accounts = place.make_table("accounts", {"id": "S"}, stream)
    entries = [place.entry(items, columns=COLUMNS), place.entry(accounts)]
    daemon = place.daemon(place.configure(entries, clickhouse={"insert_timeout_seconds": 3.0}))
    return daemon, Load(place.aws, items, accounts, seed=11, keys=800, pause_seconds=0.004), items


def test_c9_clickhouse_killed_and_started_again_under_load_ends_equal(
    place: Place, loaded: tuple[Daemon, Load, str]
) -> None:
    daemon, load, items = loaded
    with running(daemon), load:
        for _ in range(2):
            wait_until(lambda: daemon.metric("dyncdc_rows_written_total") > 100, 20, "rows are written")
            place.server.kill()
            time.sleep(1.0)
            assert daemon.running, daemon.tail()
            asyncio.run(place.server.start())
        load.stop()
        assert_equal_within(20, place.aws, place.clickhouse, items)
        assert daemon.terminate() == 0, daemon.tail()


def test_a_failing_aws_delays_and_loses_nothing(place: Place, loaded: tuple[Daemon, Load, str]) -> None:
    daemon, load, items = loaded
    faults: dict[str, list[Any]] = {
        "GetRecords": [
            {"error": "ProvisionedThroughputExceededException"},
            {"error": "InternalFailure", "status": 500},
            {"error": "ExpiredIteratorException"},
            {"cut": 200},
            {"empty": True},
            "drop",
        ],
        "GetShardIterator": [{"error": "ProvisionedThroughputExceededException"}, "drop"],
        "ListShards": [{"error": "LimitExceededException"}, {"error": "InternalFailure", "status": 500}],
        "GetObject": [{"error": "SlowDown", "status": 503}, {"cut": 100}, "drop"],
        "DescribeExport": [{"error": "InternalServerError", "status": 500}],
    }
    for seed, (operation, choices) in enumerate(faults.items()):
        place.aws.inject(operation, *choices, probability=0.3, seed=seed)
    with running(daemon), load:
        wait_until(lambda: daemon.metric("dyncdc_snapshot_progress_ratio") == 2, 30, "both snapshots are complete")
        place.aws.split_first(place.name)
        time.sleep(3.0)
        load.stop()
        assert_equal_within(30, place.aws, place.clickhouse, items)
        assert place.aws.injected() > 10
        assert daemon.metric("dyncdc_retries_total") > 5
        place.aws.clear_faults()
        assert daemon.terminate() == 0, daemon.tail()

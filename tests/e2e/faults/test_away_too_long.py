"""ClickHouse is away until changes expire: what is lost is one gap, made good."""

from __future__ import annotations

import time

import pytest
from support.data.oracle import assert_equal_within
from support.processes.harness import running, wait_until
from support.servers.place import Place

from .test_lost_positions import QUICK, complete_snapshots, gaps, recovered

MEMORY_BYTES = 16 * 2**20
RETENTION_SECONDS = 8.0


def item(number: int, text: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": f"k{number}"}, "text": {"S": text}}


@pytest.mark.timeout(120)
def test_k8_away_for_longer_than_the_retention_is_one_gap_that_a_snapshot_makes_good(place: Place) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, [item(number, "first") for number in range(20)])
    entry = place.entry(table, snapshot={**QUICK, "bucket": place.bucket})
    config = place.configure([entry], clickhouse={"insert_timeout_seconds": 2.0}, limits={"memory_bytes": MEMORY_BYTES})
    place.aws.set(retention_seconds=RETENTION_SECONDS)
    with running(place.daemon(config)) as daemon:
        wait_until(lambda: complete_snapshots(place) == 1, 30, f"the first snapshot is complete: {daemon.tail()}")
        with place.freeze_clickhouse():
            for first in range(0, 400, 20):
                place.aws.put_all(table, [item(number, "x" * 60_000) for number in range(first, first + 20)])
            place.aws.await_quiet("GetRecords", 1.5, 30)
            place.aws.put(table, item(1_000, "new"))
            place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "k3"}})
            time.sleep(RETENTION_SECONDS + 2.0)
        wait_until(lambda: gaps(place) != [["0"]], 30, f"the gap is written down: {daemon.tail()}")
        place.aws.set(retention_seconds=0.0)
        wait_until(lambda: recovered(place), 40, f"the gap is recovered: {daemon.tail()}")
        assert_equal_within(20, place.aws, place.clickhouse, table)
        assert gaps(place, "uniqExact(`from`)") == [["1"]], "one gap"
        assert daemon.terminate() == 0, daemon.tail()

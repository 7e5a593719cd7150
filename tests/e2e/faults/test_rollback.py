"""ClickHouse comes back older than it was: what was acknowledged and is gone is read again."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.harness import alive, running, wait_until
from support.servers.place import Place

from dyncdc.emulator.clickhouse import LocalClickHouse


@pytest.fixture
def own_place(place: Place, tmp_path: Path) -> Iterator[Place]:
    """A place whose ClickHouse is no one else's."""
    own = dataclasses.replace(place, server=LocalClickHouse(tmp_path / "clickhouse", database=place.name))
    asyncio.run(own.server.start())
    try:
        yield own
    finally:
        for daemon in own.daemons:
            daemon.kill()
        own.server.kill()


def put_items(place: Place, table: str, first: int, count: int) -> None:
    """Write items one by one, as someone who uses the table."""
    for number in range(first, first + count):
        place.aws.dynamodb.put_item(TableName=table, Item={"id": {"S": f"item-{number}"}, "n": {"N": str(number)}})


def end_at_once(place: Place) -> None:
    """End ClickHouse by SIGKILL, and wait until it is gone."""
    pid = place.server.pid
    place.server.kill()
    wait_until(lambda: not alive(pid), 5, "ClickHouse is gone")


def count_items(place: Place, table: str) -> int:
    """Items that a reader sees."""
    return place.clickhouse.number(f"SELECT count() FROM {table}_current")


def saves_settled(place: Place) -> bool:
    """Whether positions move no more."""
    look = (
        "SELECT groupArray((shard, position)) FROM (SELECT shard, position FROM dyncdc_checkpoints FINAL ORDER BY ALL)"
    )
    before = place.clickhouse.rows(look)
    time.sleep(0.5)
    return place.clickhouse.rows(look) == before


@pytest.mark.timeout(300)
def test_a_clickhouse_restored_from_an_older_copy_under_a_daemon_gets_what_it_has_lost(own_place: Place) -> None:
    place = own_place
    table = place.make_table("events", {"id": "S"}, place.make_stream(shards=2))
    daemon = place.daemon(place.configure([place.entry(table)]))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_snapshot_progress_ratio") == 1, 20, "the empty snapshot is complete")
        put_items(place, table, 0, 15)
        wait_until(lambda: count_items(place, "events") == 15, 20, "the first items are there")
        end_at_once(place)
        copy = place.server.directory.with_name("copy")
        shutil.copytree(place.server.directory, copy, symlinks=True)
        asyncio.run(place.server.start())
        put_items(place, table, 15, 60)
        wait_until(lambda: count_items(place, "events") == 75, 30, "all items are there")
        wait_until(lambda: saves_settled(place), 10, "checkpoints are saved")
        end_at_once(place)
        shutil.rmtree(place.server.directory)
        copy.rename(place.server.directory)
        asyncio.run(place.server.start())
        wait_until(lambda: count_items(place, "events") == 75, 20, "what was lost is there again")
        assert daemon.metric("dyncdc_clickhouse_went_back_total") >= 1
        assert daemon.metric("dyncdc_gaps_total") == 0, "the stream still has it all"
        assert daemon.terminate() == 0, daemon.tail()


@pytest.mark.timeout(300)
def test_newest_parts_that_a_restart_of_the_server_has_lost_are_read_again(own_place: Place) -> None:
    place = own_place
    table = place.make_table("events", {"id": "S"}, place.make_stream(shards=2))
    daemon = place.daemon(place.configure([place.entry(table)]))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_snapshot_progress_ratio") == 1, 20, "the empty snapshot is complete")
        place.clickhouse.run("SYSTEM STOP MERGES events")
        put_items(place, table, 0, 15)
        wait_until(lambda: count_items(place, "events") == 15, 30, "the first items are there")
        put_items(place, table, 15, 60)
        wait_until(lambda: count_items(place, "events") == 75, 30, "all items are there")
        assert daemon.terminate() == 0, daemon.tail()
    parts = place.clickhouse.rows(
        "SELECT name FROM system.parts WHERE active AND table = 'events' ORDER BY min_block_number"
    )
    for (name,) in parts[1:]:
        place.clickhouse.run(f"ALTER TABLE events DROP PART '{name}'")
    assert count_items(place, "events") < 75
    end_at_once(place)
    asyncio.run(place.server.start())
    with running(daemon):
        wait_until(lambda: count_items(place, "events") == 75, 20, "what was lost is there again")
        assert daemon.terminate() == 0, daemon.tail()


def test_tables_of_its_own_that_are_dropped_are_made_again_by_the_running_daemon(place: Place) -> None:
    table = place.make_table("events", {"id": "S"}, place.make_stream())
    daemon = place.daemon(place.configure([place.entry(table)]))
    with running(daemon):
        pid = daemon.pid
        put_items(place, table, 0, 5)
        wait_until(lambda: count_items(place, "events") == 5, 20, "the first items are there")
        own = sorted(name for name in place.clickhouse.tables() if name.startswith("dyncdc_"))
        for number, dropped in enumerate((["dyncdc_members"], ["dyncdc_checkpoint_history"], own), start=1):
            for name in dropped:
                place.clickhouse.run(f"DROP TABLE IF EXISTS {name} SYNC")
            put_items(place, table, 5 * number, 5)
            wait_until(lambda n=number: count_items(place, "events") == 5 * n + 5, 30, f"{dropped} is missed")  # type: ignore[misc]
            wait_until(lambda names=dropped: set(names) <= place.clickhouse.tables(), 30, f"{dropped} is there again")  # type: ignore[misc]
        assert daemon.pid == pid
        assert daemon.running, daemon.tail()
        assert daemon.terminate() == 0, daemon.tail()

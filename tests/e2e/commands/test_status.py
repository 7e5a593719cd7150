"""``dyncdc status`` with the daemon dead: it never says that a table is more complete than it is."""

from __future__ import annotations

import json
import time
from typing import Any

from support.processes.harness import Ended
from support.servers.place import Place

STREAM_DELAY_SECONDS = 60.0


def item(key: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": key}}


def once(place: Place) -> tuple[str, str, float]:
    """A table that was read to its tip by a session that has ended: its name, the configuration, and when that was."""
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    config = str(place.configure([place.entry(table, columns=[ID], snapshot={"method": "none"})]))
    place.aws.put(table, item("a"))
    read(place, config)
    return table, config, time.time()


ID = {"attribute": "id", "type": "String"}


def read(place: Place, config: str) -> None:
    ended: Ended = place.command("run", "--once", "-c", config)
    assert ended.code == 0, ended


def status(place: Place, config: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.command("status", "-c", config, "--json").out)
    return found


def complete_until(place: Place, config: str) -> float:
    """Up to when the table's changes have surely been read."""
    (table,) = status(place, config)["tables"]
    return float(table["complete_until"]) + STREAM_DELAY_SECONDS


def test_a_stream_that_is_quiet_counts_as_read_until_a_reshard_moves_its_changes_elsewhere(place: Place) -> None:
    table, config, ended = once(place)
    time.sleep(2.5)
    assert complete_until(place, config) > ended + 1, "nothing has come since"
    place.aws.split_first(place.name)
    place.aws.put(table, item("in a child that no one has read"))
    assert complete_until(place, config) <= ended + 1


def test_a_position_that_has_expired_is_no_tip_though_nothing_is_left_behind_it(place: Place) -> None:
    table, config, ended = once(place)
    place.aws.put(table, item("expires"))
    place.aws.set(retention_seconds=1.0)
    time.sleep(3.0)
    found = status(place, config)
    place.aws.set(retention_seconds=0.0)
    assert found["tables"][0]["complete_until"] + STREAM_DELAY_SECONDS <= ended + 1
    assert found["shards"][0]["headroom_seconds"] < 0


def test_a_record_that_names_no_table_holds_all_tables_of_the_stream_back(place: Place) -> None:
    _, config, _ = once(place)
    before = time.time()
    place.aws.kinesis.put_record(StreamName=place.name, Data=b"no JSON", PartitionKey="p")
    read(place, config)
    assert complete_until(place, config) <= before

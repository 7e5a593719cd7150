"""SIGHUP: what can change safely does, what cannot is named, and a wrong file changes nothing."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from support.processes.harness import Daemon, free_port, running, wait_until
from support.servers.place import Place

UNLOADED = {"method": "none"}


def logged(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    """What the process itself and its workers said under a name."""
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def rows(place: Place, label: str) -> set[object]:
    """Ids of a destination; none while there is no table."""
    if label not in place.clickhouse.tables():
        return set()
    return {row["id"] for row in place.clickhouse.dicts(f"SELECT id FROM {label}_current")}


@pytest.mark.parametrize("workers", [1, 2])
def test_c16_sighup_takes_up_new_tables_and_limits_names_the_rest_and_keeps_all_when_the_file_is_wrong(
    place: Place, workers: int
) -> None:
    stream = place.make_stream(shards=2)
    one, two = place.make_table("one", {"id": "S"}, stream), place.make_table("two", {"id": "S"}, stream)
    limits = {"workers": workers}
    first = place.entry(one, snapshot=UNLOADED)
    config = place.configure([first], limits=limits)
    right = config.read_text()
    with running(place.daemon(config)) as daemon:
        place.aws.put(one, {"id": {"S": "a"}})
        wait_until(lambda: rows(place, "one") == {"a"}, 20, f"the first row arrives: {daemon.tail()}")

        config.write_text(right.replace('"batch"', "batch") + "batch = { max_rows = -1 }\n")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(logged(daemon, "reload rejected")) == 1, 10, "a wrong file is told")
        nowhere = place.entry(f"{place.name}.nowhere", snapshot=UNLOADED)
        place.configure([first, nowhere], limits=limits)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(logged(daemon, "reload rejected")) == 2, 20, f"so is a table: {daemon.tail()}")
        assert "nowhere" in logged(daemon, "reload rejected")[1]["error"]

        place.configure(
            [first, place.entry(two, snapshot=UNLOADED)],
            limits=limits,
            log={"level": "debug"},
            batch={"max_age_seconds": 0.1},
            http={"listen": f"127.0.0.1:{free_port()}"},
        )
        daemon.signal(signal.SIGHUP)
        place.aws.put(two, {"id": {"S": "b"}})
        place.aws.put(one, {"id": {"S": "c"}})
        wait_until(lambda: rows(place, "one") == {"a", "c"}, 20, f"the old table goes on: {daemon.tail()}")
        told = wait_until(lambda: logged(daemon, "configuration reloaded"), 20, f"it is told: {daemon.tail()}")[0]
        assert set(told["keys"]) == {f"tables[{two}]", "log.level", "batch.max_age_seconds"}
        assert logged(daemon, "restart required")[0]["keys"] == ["http.listen"]
        processes = workers if workers > 1 else 0
        wait_until(lambda: len(logged(daemon, "configuration reloaded")) == 1 + processes, 20, "workers follow")
        wait_until(lambda: daemon.get("/readyz")[0] == 200, 20, f"it is ready: {daemon.tail()}")
        place.aws.put(two, {"id": {"S": "d"}})
        wait_until(lambda: "d" in rows(place, "two"), 20, f"the new table arrives: {daemon.tail()}")
        assert {table["table"] for table in json.loads(daemon.get("/status.json")[1])["tables"]} == {one, two}

        place.configure([place.entry(two, snapshot=UNLOADED)], limits=limits, http={"listen": "127.0.0.1:1"})
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: len(logged(daemon, "configuration reloaded")) == 2 * (1 + processes), 20, "a table goes")
        wait_until(lambda: daemon.metric("dyncdc_complete_until_timestamp_seconds", table=one) == 0, 10, "its age, too")
        assert not logged(daemon, "worker died")
        assert daemon.terminate() == 0, daemon.tail()

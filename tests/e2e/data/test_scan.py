"""A table loaded by a scan while it changes: killed in the middle, reconfigured, throttled, given old pages."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from support.data.load import COLUMNS, Load, make_account, make_item, make_key
from support.data.oracle import assert_equal_within
from support.processes.harness import running, wait_until
from support.servers.place import Place

SEEDS = [int(seed) for seed in os.environ.get("DYNCDC_E2E_SEEDS", "1").split(",")]
"""``DYNCDC_E2E_SEEDS=4,5,6`` tries others."""

KEYS = 2500
KILLS = 3
OURS = "TotalSegments"
"""What the requests of a snapshot's scan have, and those of a sample or of this test have not."""


def scan(**options: Any) -> dict[str, Any]:
    return {"method": "scan", "settle_seconds": 0.5, **options}


def states(place: Place, table: str) -> list[str]:
    """The state of each snapshot of a table."""
    if "dyncdc_snapshots" not in place.clickhouse.tables():
        return []
    sql = "SELECT argMax(state, revision) FROM dyncdc_snapshots WHERE table = '%s' GROUP BY id"
    return [str(state) for (state,) in place.clickhouse.rows(sql % table)]


def checkpoints(place: Place, table: str) -> dict[str, tuple[str, bool]]:
    """Position and end of each segment of a table's snapshot that is saved."""
    if "dyncdc_snapshots" not in place.clickhouse.tables():
        return {}
    rows = place.clickhouse.rows(
        "SELECT shard, argMax(position, (finished, rank)), max(finished) FROM dyncdc_checkpoints WHERE source IN"
        f" (SELECT id FROM dyncdc_snapshots WHERE table = '{table}') GROUP BY shard"
    )
    return {str(shard): (str(position), bool(finished)) for shard, position, finished in rows}


def configured(place: Place, items: str, accounts: str, **options: Any) -> Path:
    """The configuration, with other options for scans to come."""
    return place.configure(
        [
            place.entry(items, columns=COLUMNS, snapshot=scan(**options)),
            place.entry(accounts, snapshot=scan(segments=1)),
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_s12_a_scan_killed_and_reconfigured_in_the_middle_ends_equal(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    stream = place.make_stream(shards=2)
    items = place.make_table("items", {"pk": "S", "n": "N"}, stream)
    accounts = place.make_table("accounts", {"id": "S"}, stream)
    preloaded = {str(key): make_item(rng, key) for key in (make_key(rng, KEYS) for _ in range(KEYS))}
    place.aws.put_all(items, list(preloaded.values()))
    place.aws.put_all(accounts, [make_account(rng, number) for number in range(60)])
    config = configured(place, items, accounts, segments=3, read_capacity_units=25.0)
    daemon = place.daemon(config)
    trouble = [{"sleep": 0.1}, {"empty": True}, {"error": "ProvisionedThroughputExceededException"}, "drop"]
    place.aws.inject("Scan", *trouble, contains=OURS, probability=0.3, seed=seed)

    seen: list[dict[str, tuple[str, bool]]] = [{}]
    with Load(place.aws, items, accounts, seed=seed, keys=KEYS, pause_seconds=0.02) as load:
        for kill in range(KILLS):
            daemon.start()
            wait_until(lambda: checkpoints(place, items) != seen[-1], 20, f"the scan goes on: {daemon.tail()}")
            time.sleep(rng.uniform(0.0, 0.5))
            daemon.kill()
            seen.append(checkpoints(place, items))
            assert states(place, items) == ["loading"], "the scan was over before it could be killed"
            configured(place, items, accounts, segments=5 + kill, read_capacity_units=25.0)
        configured(place, items, accounts, segments=9, read_capacity_units=1000.0)
        daemon.start()
        wait_until(lambda: states(place, items) == ["complete"], 30, f"the scan is complete: {daemon.tail()}")
        place.aws.clear_faults()
    assert load.changes > 100

    assert_equal_within(20, place.aws, place.clickhouse, items)
    assert_equal_within(10, place.aws, place.clickhouse, accounts)
    keys = [position for position, _ in seen[-1].values() if position.startswith("{")]
    assert keys, "a session that was killed saved the keys it had come to"
    assert all(set(json.loads(position)) == {"pk", "n"} for position in keys)
    assert set(checkpoints(place, items)) == {f"segment-{number}" for number in range(3)}, "as it began"
    assert place.clickhouse.number("SELECT count() FROM dyncdc_dead_letters") == 0
    assert daemon.terminate() == 0, daemon.tail()
    assert "customer-" not in daemon.log.read_text(), "no key in the log"
    verdict = place.command("verify", items, "-c", str(config))
    assert verdict.code == 0, verdict


def test_s11_pages_older_than_the_changes_that_came_first_change_nothing(place: Place) -> None:
    rng = random.Random(7)
    stream = place.make_stream()
    items = place.make_table("items", {"pk": "S", "n": "N"}, stream)
    keys = [{"pk": {"S": f"customer-{number}"}, "n": {"N": "1"}} for number in range(40)]
    place.aws.put_all(items, [make_item(rng, key) for key in keys])
    place.aws.inject("Scan", {"hold": 3.0}, contains=OURS, probability=1.0)
    before = place.aws.calls("Scan")
    # a budget large enough for all of the table in the first page, so that each of its items is the old one
    snapshot = scan(segments=1, read_capacity_units=40_000.0)
    config = place.configure([place.entry(items, columns=COLUMNS, snapshot=snapshot)])
    with running(place.daemon(config)) as daemon:
        wait_until(lambda: place.aws.calls("Scan") > before + 1, 20, f"a page is on its way: {daemon.tail()}")
        place.aws.put_all(items, [make_item(rng, key) for key in keys[:20]])
        for key in keys[10:30]:
            place.aws.dynamodb.delete_item(TableName=items, Key=key)
        count = "SELECT count() FROM items FINAL"
        wait_until(lambda: place.clickhouse.number(count) >= 30, 10, "the changes are there")
        assert states(place, items) == ["loading"], "before the page is"
        place.aws.clear_faults()
        wait_until(lambda: states(place, items) == ["complete"], 20, f"the scan is complete: {daemon.tail()}")
        assert_equal_within(10, place.aws, place.clickhouse, items)
        assert place.clickhouse.number("SELECT count() FROM items_current") == 20
        assert daemon.terminate() == 0, daemon.tail()


def test_check_says_what_a_scan_will_take(place: Place) -> None:
    stream = place.make_stream()
    table = place.make_table("items", {"id": "S"}, stream)
    place.aws.dynamodb.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
    )
    place.aws.put(table, {"id": {"S": "a"}})
    config = place.configure([place.entry(table, snapshot=scan(segments=6, read_capacity_units=50.0))])
    done = place.command("check", "-c", str(config))
    assert done.code == 0, done
    assert "possible, 6 segments at 50 read units/s: 0 min" in done.out
    assert place.command("run", "--once", "-c", str(config)).code == 0
    assert place.clickhouse.rows("SELECT id FROM items_current") == [["a"]]

"""A daemon killed with SIGKILL at any moment, over and over, loses and duplicates nothing that a reader could see."""

from __future__ import annotations

import os
import random
import time

import pytest
from support.data.load import COLUMNS, Load, make_account, make_item, make_key
from support.data.oracle import assert_equal_within
from support.processes.harness import Daemon, wait_until
from support.servers.place import Place

SEEDS = [int(seed) for seed in os.environ.get("DYNCDC_E2E_SEEDS", "1,2").split(",")]
"""One with duplicates and one with ties. ``DYNCDC_E2E_SEEDS=3,4,5`` tries others."""

KILLS_IN_SNAPSHOT = 4
KILLS_IN_STREAM = 6
KEYS = 3000
FILES = 24
FILE_SECONDS = 1.0
"""What S3 takes for each file while the snapshot is to be killed, so that there is something to kill."""


def live_and_die(daemon: Daemon, rng: random.Random, longest_seconds: float) -> None:
    """Start the daemon and SIGKILL it after a random time: now and then while it starts, mostly at work."""
    daemon.start()
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0.05, 1.5))
    else:
        daemon.wait_ready()
        time.sleep(rng.uniform(0.0, longest_seconds))
    assert daemon.running, f"it ended by itself: {daemon.tail()}"
    daemon.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_c1_a_daemon_killed_at_any_moment_ends_equal(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    ties = seed % 2 == 0
    # Duplicates and ties at once are the documented limit of a version without a total order.
    precision = {"precision": "MILLISECOND"} if ties else {}
    place.aws.set(export_files=FILES, duplicate_probability=0.0 if ties else 0.03, seed=seed)
    stream = place.make_stream(shards=2)
    items = place.make_table("items", {"pk": "S", "n": "N"}, stream)
    accounts = place.make_table("accounts", {"id": "S"}, stream, **precision)
    preloaded = {str(key): make_item(rng, key) for key in (make_key(rng, KEYS) for _ in range(KEYS))}
    place.aws.put_all(items, list(preloaded.values()))
    place.aws.put_all(accounts, [make_account(rng, number) for number in range(60)])
    # a daemon that is killed before its first snapshot row finds rows of its own, and waits for the margin
    snapshot = {"method": "export", "bucket": place.bucket, "settle_seconds": 0.5, "margin_seconds": 2.0}
    config = place.configure(
        [place.entry(items, columns=COLUMNS, snapshot=snapshot), place.entry(accounts, snapshot=snapshot)],
        # rows wait far longer than positions: a position that overtakes its rows loses them at almost every kill
        batch={"max_age_seconds": 0.6},
        checkpoint={"interval_seconds": 0.1},
    )
    daemon = place.daemon(config)

    with Load(place.aws, items, accounts, seed=seed, keys=KEYS, pause_seconds=0.02) as load:
        place.aws.inject("GetObject", {"sleep": FILE_SECONDS}, contains="/data/", probability=1.0)
        unfinished = 0
        for _ in range(KILLS_IN_SNAPSHOT):
            live_and_die(daemon, rng, 1.2)
            unfinished += not snapshots_complete(place)
        assert unfinished >= 3, "the snapshot was over before it could be killed"
        place.aws.clear_faults()
        with_reshard = {1: place.aws.split_first, 3: place.aws.merge_last}
        for number in range(KILLS_IN_STREAM):
            with_reshard.get(number, lambda _: None)(place.name)
            if number == 0:
                daemon.start()
                wait_until(lambda: snapshots_complete(place), 20, "the snapshots are complete")
                daemon.kill()
            else:
                live_and_die(daemon, rng, 0.8)
        daemon.start()
        daemon.wait_ready()
    assert load.changes > 500

    assert_equal_within(25, place.aws, place.clickhouse, items)
    assert_equal_within(10, place.aws, place.clickhouse, accounts)
    assert place.clickhouse.number("SELECT count() FROM dyncdc_dead_letters") == 0
    assert daemon.terminate() == 0, daemon.tail()
    for table in (items, accounts):
        verdict = place.command("verify", table, "-c", str(config))
        assert verdict.code == 0, verdict


def snapshots_complete(place: Place) -> bool:
    """Whether the snapshots of both tables are."""
    if "dyncdc_snapshots" not in place.clickhouse.tables():
        return False
    states = place.clickhouse.rows("SELECT argMax(state, updated_at) FROM dyncdc_snapshots GROUP BY id")
    return len(states) == 2 and all(state == "complete" for (state,) in states)

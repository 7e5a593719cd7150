"""How soon a killed daemon is back, and how long reading pauses at a reshard: ``make bench-recovery``.

On the local AWS and a real ClickHouse, with the default settings of the daemon and a live load on two shards. Exit 1 if
a target is missed.

- *Recovery*: from the start of a new process after SIGKILL to the first row in ClickHouse for a change made after the
  kill. Downtime, the time between kill and start, is the supervisor's and not counted.
- *Reading pause*: from the arrival of the last record on a parent to the first fetch of a child, which then has
  records: the load never stops. Of two parents and of two children, the later one counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rig import cpu_seconds, open_servers
from support.data.load import BackgroundWrites
from support.processes.harness import Daemon, wait_until
from support.servers.aws import Aws
from support.servers.place import Place

RECOVERY_TARGET_SECONDS = 10.0
PAUSE_TARGET_SECONDS = 1.0

STREAM = "bench"
BATCH_ITEMS = 20
BATCH_PAUSE_SECONDS = 0.05
KEYS = 20_000
POLL_SECONDS = 0.05
METRICS_POLL_SECONDS = 0.1
"""A daemon that is asked all the time is slower; a first fetch may be seen so much too late."""

FETCHED = "dyncdc_last_fetch_timestamp_seconds"


class Load(BackgroundWrites):
    """Some hundred changes a second, as long as it is left on. Numbers rise, so every row tells when it was made."""

    def __init__(self, aws: Aws, table: str) -> None:
        super().__init__(BATCH_PAUSE_SECONDS)
        self._aws = aws
        self._table = table
        self._began = time.monotonic()
        self.number = 0
        self.changes_per_second = 0.0

    def _turn(self) -> int:
        numbers = range(self.number + 1, self.number + BATCH_ITEMS + 1)
        self._aws.put_all(self._table, [_item(number) for number in numbers])
        self.number = numbers[-1]
        self.changes_per_second = self.number / (time.monotonic() - self._began)
        return BATCH_ITEMS


def _item(number: int) -> dict[str, Any]:
    return {
        "id": {"S": f"item-{number % KEYS}"},
        "number": {"N": str(number)},
        "status": {"S": "open" if number % 3 else "closed"},
        "note": {"S": "x" * 300},
    }


def main() -> int:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--reshards", type=int, default=8)
    arguments = parser.parse_args()
    with _rig() as (place, daemon, load):
        print(f"machine: {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        print(f"load: {load.changes_per_second:,.0f} changes/s\n")
        recoveries = [_recovery(place, daemon, load) for _ in range(arguments.kills)]
        recovered = _verdict("from restart to the first new row", recoveries, RECOVERY_TARGET_SECONDS)
        pauses = [_pause(place, daemon, number) for number in range(arguments.reshards)]
        paused = _verdict("reading pause at a reshard", pauses, PAUSE_TARGET_SECONDS)
        print(f"\nload: {load.changes_per_second:,.0f} changes/s")
    return 0 if recovered and paused else 1


@contextmanager
def _rig() -> Iterator[tuple[Place, Daemon, Load]]:
    """A daemon that has caught up with a running load."""
    with ExitStack() as stack:
        place, *_ = stack.enter_context(open_servers(STREAM))
        table = place.make_table("items", {"id": "S"}, place.make_stream(2))
        columns = [
            {"attribute": "id", "type": "String"},
            {"attribute": "number", "type": "Nullable(Int64)"},
            {"attribute": "status", "type": "Nullable(String)"},
            {"attribute": "note", "type": "Nullable(String)"},
        ]
        # place.configure makes a daemon quick for tests: the defaults are what is measured here
        config = place.configure(
            [place.entry(table, columns=columns)],
            kinesis={"poll_interval_seconds": 0.25},
            batch={"max_age_seconds": 1.0},
            checkpoint={"interval_seconds": 1.0},
        )
        daemon = place.daemon(config)
        stack.callback(daemon.kill)
        load = stack.enter_context(Load(place.aws, table))
        daemon.start().wait_ready()
        _await_caught_up(place, load)
        yield place, daemon, load


def _newest(place: Place) -> int:
    return place.clickhouse.number("SELECT ifNull(max(number), 0) FROM items")


def _await_caught_up(place: Place, load: Load) -> None:
    """Wait until rows are at most two seconds behind the load."""
    wait_until(lambda: _newest(place) > load.number - 2 * load.changes_per_second > 0, 60, "the daemon has caught up")


def _recovery(place: Place, daemon: Daemon, load: Load) -> float:
    """Kill the daemon, start it, and return the seconds to the first row of a change that was made after the kill."""
    _await_caught_up(place, load)
    time.sleep(1.0)
    daemon.kill()
    killed_at = load.number
    wait_until(lambda: load.number > killed_at, 10, "the load goes on", pause_seconds=0.001)
    started = time.monotonic()
    daemon.start()
    wait_until(lambda: _newest(place) > killed_at, 60, "a new row", pause_seconds=POLL_SECONDS)
    seconds = time.monotonic() - started
    print(f"  SIGKILL and restart: first new row after {seconds:.2f} s, {cpu_seconds(daemon.pid):.2f} s of CPU")
    return seconds


def _pause(place: Place, daemon: Daemon, number: int) -> float:
    """Split or merge, and return the seconds in which nothing was read of the hash keys concerned."""
    aws = place.aws
    before = {shard["ShardId"] for shard in aws.open_shards(STREAM)}
    splits = number % 2 == 0
    if splits:
        aws.split_first(STREAM)
    else:
        aws.merge_last(STREAM)
    after = {shard["ShardId"] for shard in aws.open_shards(STREAM)}
    parents, children = before - after, after - before
    first_fetches: dict[str, float] = {}

    def all_fetched() -> bool:
        for child in children - first_fetches.keys():
            fetched_at = daemon.metric(FETCHED, shard=child)
            if fetched_at:
                first_fetches[child] = fetched_at
        return len(first_fetches) == len(children)

    wait_until(all_fetched, 30, "the children are read", pause_seconds=METRICS_POLL_SECONDS)
    last_arrival = max(_last_arrival(aws, parent) for parent in parents)
    seconds = max(first_fetches.values()) - last_arrival
    print(f"  {'split' if splits else 'merge'}: reading paused for {seconds:.2f} s")
    time.sleep(2.0)
    return seconds


def _last_arrival(aws: Aws, shard: str) -> float:
    """When the last record of a closed shard arrived, in seconds since the epoch."""
    iterator = aws.kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    token, last = iterator["ShardIterator"], 0.0
    while token:
        answer = aws.kinesis.get_records(ShardIterator=token)
        if answer["Records"]:
            last = answer["Records"][-1]["ApproximateArrivalTimestamp"].timestamp()
        token = answer.get("NextShardIterator")
    return last


def _verdict(what: str, seconds: Sequence[float], target_seconds: float) -> bool:
    worst = max(seconds)
    met = worst <= target_seconds
    print(
        f"{what}: median {statistics.median(seconds):.2f} s, worst {worst:.2f} s of {len(seconds)};"
        f" target {target_seconds:g} s: {'met' if met else 'MISSED'}"
    )
    return met


if __name__ == "__main__":
    sys.exit(main())

"""What a shard costs that has next to nothing to say: ``make bench-scale``. Writes build/scale.json and build/scale.md.

One stream of 1, 10, 100 and 1,000 local shards, default settings; one record a second goes to a random shard. CPU time,
memory and calls are the daemon's, inserts are ClickHouse's own count.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

from events import events
from results import Result, write
from rig import MIB, Rig, cpu_seconds, open_rig
from support.processes.harness import resident_bytes

SHARDS = (1, 10, 100, 1_000)
SETTLE_SECONDS = 6.0
"""Idle shards rest longer and longer until they rest a second, or what so many need at least."""


def _trickle(rig: Rig, stream: str, stop: threading.Event) -> None:
    made, _ = events("1kb", 600)
    for data in made:
        rig.fill(stream, [data])
        if stop.wait(1.0):
            return


def idle_shards(rig: Rig, shards: int, seconds: float) -> Result:
    """Measure one number of shards. ``ratio``: the share of a core."""
    stream = f"idle-{shards}"
    rig.make_stream(stream, shards)
    label = f"idle_{shards}"
    daemon = rig.daemon(label, stream)
    stop = threading.Event()
    writer = threading.Thread(target=_trickle, args=(rig, stream, stop), name="trickle", daemon=True)
    with rig.settled(daemon):
        writer.start()
        try:
            time.sleep(SETTLE_SECONDS)
            began, cpu, calls, inserts = time.monotonic(), cpu_seconds(daemon.pid), rig.calls(), _inserts(rig)
            time.sleep(seconds)
            passed = time.monotonic() - began
            share = (cpu_seconds(daemon.pid) - cpu) / passed
            reads = (rig.calls().get("GetRecords", 0) - calls.get("GetRecords", 0)) / passed
            others = sum(rig.calls().values()) - sum(calls.values()) - reads * passed
            details = {
                "shards": shards,
                "get_records_per_second": reads,
                "other_calls_per_second": max(0.0, others / passed - 1.0),  # less the PutRecords of the trickle
                "inserts_per_second": (_inserts(rig) - inserts) / passed,
            }
            rss_mb = resident_bytes(daemon.pid) / MIB
        finally:
            stop.set()
            writer.join()
    return Result("idle_shards", f"dyncdc_{shards}", rss_mb=rss_mb, ratio=share, details=details)


def _inserts(rig: Rig) -> int:
    return rig.clickhouse.number("SELECT value FROM system.events WHERE event = 'InsertQuery'")


def page(results: list[Result]) -> str:
    """The table of idle shards in docs/performance.md."""
    lines = [
        "| shards | CPU, cores | memory, MB | GetRecords/s | other calls/s | inserts/s |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        found = one.details
        lines.append(
            f"| {found['shards']:,} | {one.ratio:.3f} | {one.rss_mb:.0f} | {found['get_records_per_second']:.1f} |"
            f" {found['other_calls_per_second']:.1f} | {found['inserts_per_second']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--shards", type=int, nargs="*", default=SHARDS)
    arguments = parser.parse_args()
    with open_rig() as rig:
        results = [idle_shards(rig, shards, arguments.seconds) for shards in arguments.shards]
    write(Path("build/scale.json"), results)
    Path("build/scale.md").write_text(page(results))
    print(page(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From a put to the row in a SELECT, at a low rate."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Mapping
from typing import Any

from events import events
from results import Result
from rig import BenchmarkFailed, Rig

PER_SECOND = 40.0
LOOK_SECONDS = 0.004
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"kinesis": {"poll_interval_seconds": 0.2}, "batch": {"max_age_seconds": 0.25}},
    "default": {},
}
WAIT_SECONDS = 20.0
AWAKE_SECONDS = 2.0
"""What comes before that finds a shard that has been idle, and is read once a second: told apart from the rest."""


class Writer(threading.Thread):
    """Puts records one by one at a steady rate, a little jittered so that no phase is met again and again."""

    def __init__(self, rig: Rig, stream: str, seconds: float) -> None:
        super().__init__(name="writer", daemon=True)
        count = int(seconds * PER_SECOND)
        self._rig, self._stream = rig, stream
        self._made, _ = events("1kb", count)
        self._rng = random.Random(5)
        self.put_at: dict[int, float] = {}
        """By the number of the event."""

    def run(self) -> None:
        """Write, then end."""
        began = time.monotonic()
        for number, data in enumerate(self._made):
            due = began + (number + self._rng.random()) / PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            self.put_at[number] = time.monotonic()
            self._rig.fill(self._stream, [data])


def latencies(rig: Rig, label: str, stream: str, seconds: float, sections: Mapping[str, Any]) -> list[float]:
    """Seconds from each put (before the call) to the first SELECT that sees its row. One row is one put."""
    daemon = rig.daemon(label, stream, **sections)
    seen: dict[int, float] = {}
    with rig.settled(daemon):
        writer = Writer(rig, stream, seconds)
        writer.start()
        end = time.monotonic() + seconds + WAIT_SECONDS
        while writer.is_alive() or len(seen) < len(writer.put_at):
            asked_for = set(writer.put_at) - seen.keys()
            if asked_for:
                # the number of an event is in its sort key
                rows = rig.clickhouse.rows(
                    f"SELECT intDiv(sk - 1760000000000, 7) FROM {label}"
                    f" WHERE sk >= 1760000000000 + 7 * {min(asked_for)}"
                )
                now = time.monotonic()
                for (number,) in rows:
                    seen.setdefault(int(str(number)), now)
            if time.monotonic() > end:
                raise BenchmarkFailed(f"{label}: {len(writer.put_at) - len(seen)} changes did not arrive")
            time.sleep(LOOK_SECONDS)
    return [seen[number] - writer.put_at[number] for number in writer.put_at]


def latency(rig: Rig, seconds: float) -> list[Result]:
    """Both settings, in milliseconds."""
    made = []
    for label, sections in SETTINGS.items():
        stream = f"latency-{label}"
        rig.make_stream(stream, 1)
        found = latencies(rig, f"latency_{label}", stream, AWAKE_SECONDS + seconds, sections)
        first = int(AWAKE_SECONDS * PER_SECOND)
        after_idle, found = found[:first], found[first:]
        cuts = statistics.quantiles(found, n=100)
        details = {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "worst_ms": max(found) * 1000}
        details["after_idle_ms"] = max(after_idle) * 1000
        made.append(Result("put_to_queryable", f"dyncdc_{label}", details=details | {"changes": len(found)}))
    return made

"""Memory while ClickHouse takes nothing: the daemon reads until its budget is full, and waits."""

from __future__ import annotations

import time

from results import Result
from rig import MIB, Rig
from support.processes.harness import resident_bytes

STALL_SECONDS = 12.0


def stalled(rig: Rig, stream: str, seconds: float = STALL_SECONDS) -> list[Result]:
    """RSS when idle, and its peak over a stall with all of the stream waiting; then everything arrives."""
    label = "memory"
    daemon = rig.daemon(label, stream, kinesis={"poll_interval_seconds": 0.05})
    with rig.held(), rig.settled(daemon):
        idle_mb = resident_bytes(daemon.pid) / MIB
        with rig.place.freeze_clickhouse():
            rig.release()
            time.sleep(seconds)
            stalled_mb = resident_bytes(daemon.pid) / MIB
        rig.await_rows(label, rig.expected[stream].rows)
        peak_mb = resident_bytes(daemon.pid, "VmHWM") / MIB
    rig.verify(label, stream)
    details = {"idle_mb": idle_mb, "stalled_mb": stalled_mb}
    return [Result("memory_stalled_clickhouse", "dyncdc", rss_mb=peak_mb, details=details)]

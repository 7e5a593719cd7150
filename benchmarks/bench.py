"""``make bench``: the daemon and what one would build instead, in one run of less than ten minutes on two cores.

Writes build/bench.json, build/bench.md and build/bench.png. Exit 1 if a target is missed or something landed wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from events import events
from latency import latency
from loop import WORKER_SHARDS, whole_loop, workers
from memory import stalled
from report import machine, page, targets
from results import Result, write
from rig import Rig, open_rig
from scale import idle_shards
from stages import stages

BUILD = Path("build")
SHARDS = 4
SECTIONS = ("stages", "loop", "workers", "latency", "idle", "memory")


def _fill(rig: Rig, stream: str, shards: int, count: int) -> None:
    made, expected = events("1kb", count)
    rig.make_stream(stream, shards)
    rig.fill(stream, made, expected)


def _loop(rig: Rig, options: argparse.Namespace) -> list[Result]:
    _fill(rig, "full", SHARDS, options.records)
    _fill(rig, "part", SHARDS, options.records // 4)
    return whole_loop(rig, options.peers_python, {"full": "full", "part": "part"}, options.repeats)


def _workers(rig: Rig, options: argparse.Namespace) -> list[Result]:
    _fill(rig, "wide", WORKER_SHARDS, 2 * options.records)  # so many that what a process costs by itself counts little
    return workers(rig, "wide")


def _memory(rig: Rig, options: argparse.Namespace) -> list[Result]:
    _fill(rig, "backlog", SHARDS, options.backlog)
    return stalled(rig, "backlog")


def measure(options: argparse.Namespace) -> list[Result]:
    """Run the sections in order; each has servers of its own, so that none inherits another's merges."""
    parts: dict[str, Callable[[Rig], list[Result]]] = {
        "loop": lambda rig: _loop(rig, options),
        "workers": lambda rig: _workers(rig, options),
        "latency": lambda rig: latency(rig, options.latency_seconds),
        "idle": lambda rig: [idle_shards(rig, 100, options.idle_seconds)],
        "memory": lambda rig: _memory(rig, options),
    }
    found: list[Result] = []
    for section in options.sections:
        began = time.monotonic()
        if section == "stages":
            made = stages(options.repeats)
        else:
            with open_rig() as rig:
                made = parts[section](rig)
        for one in made:
            print(_line(one), flush=True)
        print(f"  ({section}: {time.monotonic() - began:.0f} s, load average {os.getloadavg()[0]:.1f})", flush=True)
        found += made
    return found


def _line(one: Result) -> str:
    figures = [
        f"{one.us_cpu_per_record:8.2f} µs" if one.us_cpu_per_record else "",
        f"{one.records_per_second_per_core:9,.0f}/s/core" if one.records_per_second_per_core else "",
        f"RSS {one.rss_mb:.0f} MB" if one.rss_mb else "",
        f"ratio {one.ratio:.3f}" if one.ratio else "",
        *(f"{name} {value:.2f}" for name, value in one.details.items() if isinstance(value, int | float)),
    ]
    return f"{one.name:26s} {one.contender:16s} " + "  ".join(figure for figure in figures if figure)


def main() -> int:
    """Measure, write, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, help="an interpreter that has the extra bench")
    parser.add_argument("--sections", nargs="*", default=SECTIONS, choices=SECTIONS)
    parser.add_argument("--records", type=int, default=100_000, help="changes of the whole loop")
    parser.add_argument("--backlog", type=int, default=160_000, help="changes that wait for a stalled ClickHouse")
    parser.add_argument("--repeats", type=int, default=5, help="the best one counts, of every contender")
    parser.add_argument("--latency-seconds", type=float, default=15.0)
    parser.add_argument("--idle-seconds", type=float, default=15.0)
    options = parser.parse_args()
    print(f"{machine()}, load average {os.getloadavg()[0]:.1f}", flush=True)
    results = measure(options)
    write(BUILD / "bench.json", results)
    if set(options.sections) != set(SECTIONS):
        return 0
    (BUILD / "bench.md").write_text(page(results))
    print("\n" + page(results))
    plot = [options.peers_python, str(Path(__file__).with_name("plot.py")), "build/bench.json", "build/bench.png"]
    subprocess.run(plot, check=True)
    return 0 if all(met for *_, met in targets(results)) else 1


if __name__ == "__main__":
    sys.exit(main())

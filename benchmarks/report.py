"""The page: what a run found, against the targets, in the form that docs/performance.md shows."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from results import Result

LOOP = "whole_loop_1kb"
CONTENDERS = {
    "dyncdc_typed": "**dyncdc**, nested kept as typed JSON",
    "dyncdc": "**dyncdc**, nested as plain JSON",
    "obvious": "aiobotocore + orjson + recursive unwrap + asynch",
    "boto3_script": "boto3 + TypeDeserializer + clickhouse-connect",
    "async_kinesis": "async-kinesis + TypeDeserializer + asynch",
}

OBVIOUS_THERE = "50 to 55"
"""CPU µs of the obvious build for the same change on an AMD EPYC with 2 vCPU, Python 3.11."""

Row = tuple[str, str, str, bool]
"""What, its target, what was measured, and whether that meets it."""


class Found:
    """Results by name and contender."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = {(one.name, one.contender): one for one in results}

    def one(self, name: str, contender: str = "dyncdc") -> Result:
        """A result; raises KeyError when the run did not measure it."""
        return self._results[name, contender]

    def rate(self, name: str, contender: str = "dyncdc") -> float:
        """Records per second and core."""
        return self.one(name, contender).records_per_second_per_core or 0.0

    def ratio(self, name: str, contender: str = "dyncdc") -> float:
        """The result's ratio."""
        return self.one(name, contender).ratio or 0.0


def machine() -> str:
    """What the figures hold for."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.machine()
    return f"{model}, {os.cpu_count()} vCPU, Python {platform.python_version()}"


def contenders(results: Sequence[Result]) -> str:
    """The table of the whole loop."""
    loop = [one for label in CONTENDERS for one in results if one.name == LOOP and one.contender == label]
    lines = [
        "| whole loop, 1 KB changes | CPU µs/record | records/s/core | against the obvious | peak RSS |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {CONTENDERS[one.contender]} | {one.us_cpu_per_record:.1f} | {one.records_per_second_per_core:,.0f} |"
        f" {one.ratio:.2f}x | {one.rss_mb:.0f} MB |"
        for one in loop
    ]
    return "\n".join(lines) + "\n"


def targets(results: Sequence[Result]) -> list[Row]:
    """Every target, and what was measured. Rates hold for the machine that the targets were set on."""
    found = Found(results)
    rows: list[Row] = []

    def rate(what: str, name: str, contender: str, least: float) -> None:
        value = found.rate(name, contender)
        rows.append((what, f"≥ {least:,.0f}/s/core", f"{value:,.0f}/s/core", value >= least))

    rate("whole loop, 1 KB, plain", LOOP, "dyncdc", 65_000)
    rate("whole loop, 1 KB, typed", LOOP, "dyncdc_typed", 90_000)
    ratio = found.ratio(LOOP)
    rows.append(("whole loop against the obvious pipeline", "≥ 3.5x", f"{ratio:.2f}x", ratio >= 3.5))
    rate("GetRecords body to blocks, 500 bytes", "body_to_blocks_500b", "dyncdc", 300_000)
    rate("GetRecords body to blocks, 1 KB", "body_to_blocks_1kb", "dyncdc", 100_000)
    rate("GetRecords body to blocks, 5 KB", "body_to_blocks_5kb", "dyncdc", 30_000)
    rate("export file (.json.gz) to blocks, 460 bytes", "snapshot_to_blocks", "dyncdc", 110_000)
    for contender, what, p50, p99 in (
        ("dyncdc_quick", "put to queryable, 40/s, poll 0.2 s, flush 0.25 s", 250, 500),
        ("dyncdc_default", "put to queryable, 40/s, default settings", 1200, None),
    ):
        details = found.one("put_to_queryable", contender).details
        met = details["p50_ms"] <= p50 and (p99 is None or details["p99_ms"] <= p99)
        target = f"p50 ≤ {p50} ms" + (f", p99 ≤ {p99} ms" if p99 else "")
        rows.append((what, target, f"p50 {details['p50_ms']:.0f} ms, p99 {details['p99_ms']:.0f} ms", met))
    for name, what in ((LOOP, "peak RSS, whole loop"), ("memory_stalled_clickhouse", "peak RSS, ClickHouse stalled")):
        rss_mb = found.one(name).rss_mb or 0.0
        rows.append((what, "≤ 256 MB", f"{rss_mb:.0f} MB", rss_mb <= 256))
    ratio = found.ratio("workers", "dyncdc_2")
    rows.append(("2 workers against 1", "≥ 1.7x", f"{ratio:.2f}x", ratio >= 1.7))
    share = found.ratio("idle_shards", "dyncdc_100")
    rows.append(("100 idle shards", "≤ 0.08 core", f"{share:.3f} core", share <= 0.08))
    return rows


def page(results: Sequence[Result]) -> str:
    """Both tables."""
    obvious = Found(results).one(LOOP, "obvious").us_cpu_per_record or 0.0
    lines = [
        contenders(results),
        f"Measured on {machine()}. The obvious build took {obvious:.0f} µs a change here and {OBVIOUS_THERE} µs on the"
        " machine that the absolute rates were set on.\n",
        "| | target | measured | |",
        "|---|---|---|---|",
    ]
    for what, target, measured, met in targets(results):
        lines.append(f"| {what} | {target} | {measured} | {'met' if met else '**missed**'} |")
    return "\n".join(lines) + "\n"

"""Draws the whole loop of a build/bench.json as a PNG: ``plot.py RESULTS PNG``. Needs the extra ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
from results import read

matplotlib.use("Agg")
from matplotlib import pyplot

LABELS = {
    "dyncdc_typed": "dyncdc\nnested as typed JSON",
    "dyncdc": "dyncdc\nnested as plain JSON",
    "obvious": "aiobotocore + orjson\n+ asynch",
    "boto3_script": "boto3 + TypeDeserializer\n+ clickhouse-connect",
    "async_kinesis": "async-kinesis + TypeDeserializer\n+ asynch",
}
OURS, THEIRS = "#1f6f8b", "#b0b7bd"


def main() -> None:
    """Draw."""
    found = {one.contender: one for one in read(Path(sys.argv[1])) if one.name == "whole_loop_1kb"}
    shown = [found[name] for name in reversed(LABELS) if name in found]
    rates = [(one.records_per_second_per_core or 0.0) / 1000 for one in shown]
    figure, axes = pyplot.subplots(figsize=(8, 3.2), dpi=160)
    colours = [OURS if one.contender.startswith("dyncdc") else THEIRS for one in shown]
    bars = axes.barh([LABELS[one.contender] for one in shown], rates, color=colours, height=0.66)
    axes.bar_label(bars, [f"{rate:,.0f}k" for rate in rates], padding=4)
    axes.set_xlabel("thousand 1 KB changes per second and core, Kinesis to ClickHouse")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0, labelsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[2])


main()

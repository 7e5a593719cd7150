"""Merges the metrics of several workers into those of one daemon. Works on the text, line by line; parses no labels.

All workers run the same code, so a series is written alike by each. Counters and histograms are sums, and stay sums
over the death of a worker. What a gauge becomes depends on what it tells: see ``GAUGES``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Rule = Literal["sum", "max", "min", "min of all"]

GAUGES: Final[Mapping[str, Rule]] = {
    "dyncdc_stuck_tasks": "max",
    "dyncdc_budget_used_bytes": "sum",
    "dyncdc_budget_limit_bytes": "sum",
    "dyncdc_shards": "sum",
    "dyncdc_iterator_age_seconds": "max",
    "dyncdc_retention_headroom_seconds": "min",
    "dyncdc_snapshot_progress_ratio": "min",
    "dyncdc_table_usable": "min",
    "dyncdc_complete_until_timestamp_seconds": "min of all",
    "dyncdc_last_fetch_timestamp_seconds": "max",
    "dyncdc_last_insert_timestamp_seconds": "max",
    "dyncdc_last_checkpoint_timestamp_seconds": "min",
    "dyncdc_build_info": "max",
    "dyncdc_process_resident_memory_bytes": "sum",
    "dyncdc_process_virtual_memory_bytes": "sum",
    "dyncdc_process_open_fds": "sum",
    "dyncdc_process_max_fds": "min",
    "dyncdc_process_start_time_seconds": "max",
}
"""``min of all``: nothing where a worker says nothing. A progress timestamp of all is that of the slowest."""

UNOWNED: Final = 'dyncdc_shards{state="unowned"}'
"""Every worker counts the same ones."""

Values = dict[str, float]


@dataclass(slots=True)
class _Page:
    """One worker's page, or all of them: families in order, and the value of each series."""

    families: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """By name: its kind, and the lines that describe it."""
    series: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By the series as written: its family, and its value."""

    @classmethod
    def read(cls, text: str) -> _Page:
        page = cls()
        name, described = "", list[str]()
        for line in text.splitlines():
            if line.startswith("# HELP "):
                described = [line]
            elif line.startswith("# TYPE "):
                name, kind = line.split(" ")[2:4]
                page.families[name] = kind, [*described, line]
            elif line and name:
                series, _, value = line.rpartition(" ")
                page.series[series] = name, float(value)
        return page

    def kind(self, family: str) -> str:
        return self.families[family][0]


class MergedMetrics:
    """The metrics of numbered workers. What a dead worker had counted stays counted."""

    def __init__(self) -> None:
        self._last: dict[int, _Page] = {}
        self._ended: Values = {}
        self._deaths: Counter[int] = Counter()

    def died(self, worker: int) -> None:
        """Keep what a worker had counted; the one in its place counts from 0."""
        self._deaths[worker] += 1
        page = self._last.pop(worker, None)
        for series, (family, value) in page.series.items() if page else ():
            if page and page.kind(family) != "gauge":
                self._ended[series] = self._ended.get(series, 0.0) + value

    def deaths(self) -> Mapping[int, int]:
        """How often each worker has died: a page that was asked for before its death is of no one who counts on."""
        return Counter(self._deaths)

    def render(self, texts: Mapping[int, str], workers: int, restarts: int) -> bytes:
        """Merge the pages of the workers that answered. Those that did not keep their counts, and have no gauges."""
        answered = {worker: _Page.read(text) for worker, text in texts.items()}
        self._last.update(answered)
        families: dict[str, tuple[str, list[str]]] = {}
        found: dict[str, tuple[str, list[float]]] = {}
        for worker, page in sorted(self._last.items()):
            families |= {name: family for name, family in page.families.items() if name not in families}
            for series, (family, value) in page.series.items():
                if page.kind(family) != "gauge" or worker in answered:
                    found.setdefault(series, (family, []))[1].append(value)
        lines: dict[str, list[str]] = {name: list(described) for name, (_, described) in families.items()}
        for series, (family, values) in found.items():
            merged = self._value(series, family, families[family][0], values, workers)
            if series == "dyncdc_worker_restarts_total":
                merged = float(restarts)
            if merged is not None:
                lines[family].append(f"{series} {merged!r}")
        return "".join(f"{line}\n" for family in lines.values() for line in family).encode()

    def _value(self, series: str, family: str, kind: str, values: list[float], workers: int) -> float | None:
        if kind != "gauge":
            return sum(values) + self._ended.get(series, 0.0)
        rule = "max" if series == UNOWNED else GAUGES.get(family, "max")
        if rule == "sum":
            return sum(values)
        if rule == "max":
            return max(values)
        return min(values) if rule == "min" or len(values) == workers else None

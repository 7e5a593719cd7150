"""One process's status, from its metrics, its tasks and ClickHouse's last answer. Asks no one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from dyncdc import __version__
from dyncdc.telemetry.hints import hint_for
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

from .clickhouse_state import LatestState
from .model import (
    MOST_DEAD_LETTERS,
    MOST_GAPS,
    MOST_STUCK,
    DaemonStatus,
    PlannedWait,
    ShardStatus,
    StuckTask,
    TableFacts,
    TableStatus,
)
from .recent_errors import RecentErrors
from .shards import summarize
from .throughput import Throughput, Totals

REST_SECONDS = 15.0
"""A shard that is idle is asked that often at least: silence beyond it counts as lag."""

KEPT_SECONDS = 1.0
"""However many look at the page, the document is made once in so long."""


@dataclass(frozen=True, slots=True)
class StatusSources:
    """What a process knows of itself. ``missing``: what must still be done until it is ready."""

    metrics: Metrics
    health: TaskHealth
    missing: Callable[[], Sequence[str]]
    clock: Callable[[], float] = time.time


class StatusBuilder:
    """Makes the document. All reads, from memory; called on the loop."""

    def __init__(self, pipeline: str, member: str, tables: Sequence[TableFacts], sources: StatusSources) -> None:
        self._pipeline = pipeline
        self._member = member
        self._tables = tables
        self._sources = sources
        self._metrics = sources.metrics
        clock = sources.clock
        self._started_at = clock()
        self._made: tuple[float, DaemonStatus] | None = None
        self.stored = LatestState()
        self.stored.wanted.set()  # so that the first page has something to show
        self.recent_errors = RecentErrors(clock=clock)
        self.activity = Throughput([facts.table for facts in tables], self._totals, clock)

    def set_planned(self, tables: Sequence[TableFacts]) -> None:
        """These are the tables from here on."""
        self._tables = tables
        self._made = None
        self.activity.follow([facts.table for facts in tables])

    def document(self) -> DaemonStatus:
        """The document, at most a second old."""
        self.stored.wanted.set()
        now = self._sources.clock()
        if self._made is None or not 0 <= now - self._made[0] < KEPT_SECONDS:
            self._made = now, self._make(now)
        return self._made[1]

    def _make(self, now: float) -> DaemonStatus:
        metrics, stored, state = self._metrics, self.stored, self.stored.state
        stuck, missing = self._sources.health.stuck(), list(self._sources.missing())
        shards = self._shards(now)
        return DaemonStatus(
            version=__version__,
            pipeline=self._pipeline,
            member=self._member,
            now=now,
            started_at=self._started_at,
            state="stuck" if stuck else "starting" if missing else "healthy",
            missing=missing,
            stuck=[StuckTask(task.name, task.seconds, task.reason, hint_for(task.name)) for task in stuck[:MOST_STUCK]],
            planned=[PlannedWait(wait.name, wait.reason, wait.seconds) for wait in self._sources.health.planned()],
            tables=self._table_statuses(shards),
            shards=summarize(shards, by_label(metrics.shards.shards)),
            dead_letters=state.dead_letters[:MOST_DEAD_LETTERS],
            dead_letters_total=sum(found.count for found in state.dead_letters) if stored.known else None,
            dead_letters_since_start=int(sum(sum_by(metrics.tables.dead_letters, "table").values())),
            gaps=sorted(state.gaps, key=lambda gap: (gap.accepted, -gap.noticed_at))[:MOST_GAPS],
            gaps_total=len(state.gaps) if stored.known else None,
            troubles=self.recent_errors.recent(),
            memory_used_bytes=_only(metrics.process.budget_used),
            memory_limit_bytes=_only(metrics.process.budget_limit),
            requested=state.requested,
            members=state.members,
            clickhouse=stored.fresh,
        )

    def _totals(self) -> Totals:
        read = sum_by(self._metrics.tables.records_read, "table")
        written = sum_by(self._metrics.tables.rows_written, "table")
        return {
            facts.table: (read.get(facts.table, 0.0), written.get(facts.destination, 0.0)) for facts in self._tables
        }

    def _shards(self, now: float) -> list[ShardStatus]:
        """Those of the streams. The files of a snapshot are read as shards too, and are no concern here."""
        streams = {facts.stream for facts in self._tables}
        found = []
        for (stream, shard), (answered_at, lag, headroom) in self._metrics.answers.items():
            if stream not in streams:
                continue
            silent = max(0.0, now - answered_at)
            overdue = max(0.0, silent - REST_SECONDS)
            left = None if headroom is None else headroom - overdue
            found.append(
                ShardStatus(
                    shard=shard,
                    stream=stream,
                    lag_seconds=lag + overdue,
                    headroom_seconds=left,
                    silent_seconds=silent,
                )
            )
        return found

    def _table_statuses(self, shards: Iterable[ShardStatus]) -> list[TableStatus]:
        lags, lefts = _extremes(shards)
        ratios, until = by_label(self._metrics.tables.snapshot_ratio), by_label(self._metrics.tables.complete_until)
        inserted, totals, stored = by_label(self._metrics.tables.last_insert), self._totals(), self.stored.state.tables
        found = []
        for facts in self._tables:
            table = stored.get(facts.destination) or facts.status()
            ratio = ratios.get(facts.table)
            state = _snapshot_state(table.snapshot, ratio)
            read, written = totals[facts.table]
            found.append(
                msgspec.structs.replace(
                    table,
                    snapshot=state,
                    snapshot_ratio=1.0 if state == "complete" else ratio,
                    lag_seconds=lags.get(facts.stream),
                    headroom_seconds=lefts.get(facts.stream),
                    complete_until=until.get(facts.table),
                    read_total=read,
                    written_total=written,
                    last_insert=inserted.get(facts.destination) or None,
                    plot=self.activity.plot(facts.table),
                )
            )
        return found


def _extremes(shards: Iterable[ShardStatus]) -> tuple[dict[str, float], dict[str, float]]:
    """The longest lag and the least headroom of each stream."""
    lags: dict[str, float] = {}
    lefts: dict[str, float] = {}
    for shard in shards:
        if shard.lag_seconds is not None:
            lags[shard.stream] = max(shard.lag_seconds, lags.get(shard.stream, 0.0))
        if shard.headroom_seconds is not None:
            lefts[shard.stream] = min(shard.headroom_seconds, lefts.get(shard.stream, shard.headroom_seconds))
    return lags, lefts


def _snapshot_state(stored: str, ratio: float | None) -> str:
    """As this process sees it; ClickHouse's word where it has not begun, or the end is not only its own."""
    if ratio is None or stored in ("none", "failed"):
        return stored
    if ratio < 1.0:
        return "loading"
    return "loaded" if stored == "not started" else stored


def by_label(metric: MetricWrapperBase) -> dict[str, float]:
    """Values of a family with one label."""
    return {next(iter(sample.labels.values())): sample.value for sample in _samples(metric)}


def sum_by(metric: MetricWrapperBase, label: str) -> dict[str, float]:
    """Sums of a family's values over all labels but one."""
    found: dict[str, float] = {}
    for sample in _samples(metric):
        found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
    return found


def _only(metric: MetricWrapperBase) -> float:
    return next((sample.value for sample in _samples(metric)), 0.0)


def _samples(metric: MetricWrapperBase) -> Iterable[Sample]:
    return [sample for family in metric.collect() for sample in family.samples]

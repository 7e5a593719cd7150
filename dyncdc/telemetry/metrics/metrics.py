"""Metrics: what happens in the daemon, recorded in its Prometheus series.

Fed per chunk and per insert, never per record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest

from dyncdc.model.blocks import Decoded
from dyncdc.telemetry.log_lines import lost_lines

from .families import Families, ProcessMetrics, SavingMetrics, ShardMetrics, TableMetrics, TimingMetrics

TABLES_SEEN = 200
"""Tables that records may name and that get a label of their own; those beyond share ``OTHER_TABLES``."""

OTHER_TABLES = "(others)"
"""No DynamoDB table can have this name."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that no one reads


class Metrics:
    """One process's series over a registry of its own, so that tests and members never share state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers: dict[tuple[str, str], tuple[float, float, float | None]] = {}
        """Of each stream and shard: when it answered last, how far behind, and its headroom. Cheaper than series."""
        ProcessCollector(namespace="dyncdc", registry=self.registry)  # a restart loop shows in the start's time only

        families = Families(self.registry)
        self.tables = TableMetrics(families)
        self.timing = TimingMetrics(families)
        self.shards = ShardMetrics(families)
        self.saving = SavingMetrics(families)
        self.process = ProcessMetrics(families)
        self._described = tuple(families.described)
        self._stuck: Callable[[], Iterable[str]] = tuple
        self._seen_tables: set[str] = set()
        self._lost_told = 0

    def described(self) -> tuple[tuple[str, str, tuple[str, ...], str], ...]:
        """Name, kind, labels and help of every metric, in the order of their definition: for the documentation."""
        return self._described

    def render(self) -> bytes:
        """Return the Prometheus text exposition."""
        self.process.stuck_tasks.clear()
        for task in self._stuck():
            self.process.stuck_tasks.labels(task).set(1)
        lost = lost_lines()
        self.process.log_lines_lost.inc(lost - self._lost_told)
        self._lost_told = lost
        return generate_latest(self.registry)

    def declare(self, table: str, destination: str) -> None:
        """Start a table's counters at 0, so that the first increase is seen as one. ``table`` is DynamoDB's."""
        self._seen_tables.add(table)
        for counter in (
            self.tables.records_read,
            self.tables.spilled_values,
            self.tables.snapshot_rows,
            self.tables.gaps,
        ):
            counter.labels(table)
        self.tables.rows_written.labels(destination)

    def forget(self, table: str, *destinations: str) -> None:
        """Drop what would age by itself of a table that is no longer replicated. Its counters stay."""
        for gauge, name in (
            (self.tables.snapshot_ratio, table),
            (self.tables.complete_until, table),
            (self.tables.table_usable, table),
            *((self.tables.last_insert, destination) for destination in destinations),
        ):
            with suppress(KeyError):
                gauge.remove(name)

    def watch_stuck(self, stuck: Callable[[], Iterable[str]]) -> None:
        """Ask for the names of stuck tasks at each scrape."""
        self._stuck = stuck

    def watch_budget(self, used_bytes: Callable[[], float], limit_bytes: int) -> None:
        """Read the budget at each scrape."""
        self.process.budget_used.set_function(used_bytes)
        self.process.budget_limit.set(limit_bytes)

    def watch_shards(self, state: str, count: Callable[[], float]) -> None:
        """Count shards in ``state`` at each scrape."""
        self.shards.shards.labels(state).set_function(count)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``dyncdc_stage_seconds_total``."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.timing.stage_seconds.labels(name).inc(time.perf_counter() - begun)

    def fetched(
        self, stream: str, shard: str, now: float, behind_seconds: float, headroom_seconds: float | None
    ) -> None:
        """Record one answer of a shard."""
        self.answers[stream, shard] = now, behind_seconds, headroom_seconds
        self.shards.last_fetch.labels(stream, shard).set(now)
        self.shards.iterator_age.labels(stream, shard).set(behind_seconds)
        if headroom_seconds is not None:
            self.shards.headroom.labels(stream, shard).set(headroom_seconds)

    def shard_ended(self, stream: str, shard: str) -> None:
        """Drop the series of a shard that is not read any more."""
        self.answers.pop((stream, shard), None)
        for family in (self.shards.last_fetch, self.shards.iterator_age, self.shards.headroom):
            with suppress(KeyError):  # a shard that never answered has no series
                family.remove(stream, shard)

    def decoded(self, decoded: Decoded) -> None:
        """Count what became of a sub-batch."""
        for table, records in decoded.records.items():
            self.tables.records_read.labels(self._bounded(table)).inc(records)
            if decoded.snapshot:
                self.tables.snapshot_rows.labels(table).inc(records)
        for table, values in decoded.spilled.items():
            self.tables.spilled_values.labels(table).inc(values)
        for (table, reason), dead_letters in decoded.dead.items():
            self.tables.dead_letters.labels(table, reason).inc(dead_letters)

    def _bounded(self, table: str) -> str:
        """A label for a table's name as a record has it: what a stream says is not bounded, labels are."""
        if table not in self._seen_tables:
            if len(self._seen_tables) >= TABLES_SEEN:
                return OTHER_TABLES
            self._seen_tables.add(table)
        return table

    def inserted(self, table: str, rows: int, seconds: float, now: float) -> None:
        """Record one acknowledged insert."""
        self.tables.rows_written.labels(table).inc(rows)
        self.timing.insert_duration.labels(table).observe(seconds)
        self.timing.insert_rows.labels(table).observe(rows)
        self.timing.stage_seconds.labels("insert").inc(seconds)
        self.tables.last_insert.labels(table).set(now)

    def arrived(self, table: str, created: float, now: float) -> None:
        """Record that the newest change of an insert, ``created`` in seconds, is acknowledged; 0: there was none."""
        if created:
            self.timing.end_to_end_latency.labels(table).observe(max(0.0, now - created))

    def passed(self, stage: str, seconds: float) -> None:
        """Record a chunk's delay in one part of the way: source_to_stream, stream_to_read or read_to_insert."""
        self.timing.stage_latency.labels(stage).observe(max(0.0, seconds))

    def went_back(self, reason: str) -> None:
        """Record that ClickHouse may lack what it had acknowledged: restarted or rolled_back."""
        self.saving.went_backs.labels(reason).inc()

    def rewound(self, shards: int) -> None:
        """Record that shards are read again from older positions than those that were saved."""
        self.saving.rewound_shards.inc(shards)

    def checkpointed(self, now: float) -> None:
        """Record one successful save."""
        self.saving.last_checkpoint.set(now)

    def retry(self, stage: str, error: Exception) -> None:
        """Count an attempt that failed and will be repeated."""
        self.process.retries.labels(stage).inc()
        self.process.errors.labels(stage, type(error).__name__).inc()

    def error(self, stage: str, error: Exception) -> None:
        """Count an error that is not retried."""
        self.process.errors.labels(stage, type(error).__name__).inc()

    def completed(self, table: str, until: float | None) -> None:
        """Record up to which instant a table is complete; None: not at all yet."""
        if until is not None:
            self.tables.complete_until.labels(table).set(until)
        else:
            with suppress(KeyError):
                self.tables.complete_until.remove(table)

    def snapshot_progress(self, table: str, ratio: float) -> None:
        """Record how much of a table's snapshot is durable, 0 to 1."""
        self.tables.snapshot_ratio.labels(table).set(ratio)

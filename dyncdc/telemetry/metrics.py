"""Metrics: every Prometheus series of the daemon in one place, with its help.

Fed per chunk and per insert, never per record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from dyncdc import __version__
from dyncdc.model.blocks import Decoded

from .log_lines import lost_lines

INSERT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
INSERT_ROWS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000)

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

        described: list[tuple[str, str, tuple[str, ...], str]] = []

        def counter(name: str, text: str, *labels: str) -> Counter:
            described.append((f"dyncdc_{name}_total", "counter", labels, text))
            return Counter(f"dyncdc_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            described.append((f"dyncdc_{name}", "gauge", labels, text))
            return Gauge(f"dyncdc_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            described.append((f"dyncdc_{name}", "histogram", labels, text))
            return Histogram(f"dyncdc_{name}", text, labels, buckets=tuple(buckets), registry=self.registry)

        self.records_read = counter("records_read", "Records read, by DynamoDB table.", "table")
        self.rows_written = counter("rows_written", "Rows that ClickHouse acknowledged, by destination table.", "table")
        self.dead_letters = counter("dead_letters", "Records diverted to the dead-letter table.", "table", "reason")
        self.spilled_values = counter("spilled_values", "Values kept in the spill column.", "table")
        self.errors = counter("errors", "Errors by stage and class, retried ones included.", "stage", "error_class")
        self.retries = counter("retries", "Attempts that failed and were repeated.", "stage")
        self.snapshot_rows = counter("snapshot_rows", "Items of snapshots read, by DynamoDB table.", "table")
        self.gaps = counter("gaps", "Times that changes of the table were lost before they were read.", "table")
        self.went_backs = counter(
            "clickhouse_went_back",
            "Times ClickHouse turned out to have been restarted, or to lack what it had acknowledged.",
            "reason",
        )
        self.rewound_shards = counter(
            "rewound_shards", "Shards, files and segments read again for what a restart of ClickHouse may have lost."
        )
        self.worker_restarts = counter(
            "worker_restarts", "Times that a worker ended unasked and was started again (`limits.workers` above 1)."
        )
        self.stage_seconds = counter(
            "stage_seconds",
            "Time spent per stage (fetch, decode, budget_wait, insert, checkpoint, idle), summed over all tasks.",
            "stage",
        )
        self.insert_duration = histogram("insert_duration_seconds", "Time of one insert.", INSERT_SECONDS, "table")
        self.insert_rows = histogram("insert_rows", "Rows per insert.", INSERT_ROWS, "table")
        self.end_to_end_latency = histogram(
            "end_to_end_latency_seconds",
            "From the change in DynamoDB to ClickHouse's acknowledgement, for the newest change of each insert.",
            LATENCY_SECONDS,
            "table",
        )
        self.stage_latency = histogram(
            "stage_latency_seconds",
            "The same in parts: source_to_stream, stream_to_read, read_to_insert.",
            LATENCY_SECONDS,
            "stage",
        )
        self.log_lines_lost = counter("log_lines_lost", "Log lines that could not be written to stderr.")
        self.stuck_tasks = gauge("stuck_tasks", "1 for each task that has not moved within its time.", "task")
        self.budget_used = gauge("budget_used_bytes", "Bytes fetched and not yet durable.")
        self.budget_limit = gauge("budget_limit_bytes", "Upper bound of dyncdc_budget_used_bytes.")
        self.shards = gauge("shards", "Shards by state.", "state")
        self.iterator_age = gauge("iterator_age_seconds", "How far reading lags behind the tip.", "stream", "shard")
        self.headroom = gauge(
            "retention_headroom_seconds", "Time until the oldest unread data of the shard expires.", "stream", "shard"
        )
        self.snapshot_ratio = gauge(
            "snapshot_progress_ratio", "Share of the snapshot's files that is durable.", "table"
        )
        self.table_usable = gauge(
            "table_usable",
            "1 while the DynamoDB table is replicated, 0 while its destination or source can not be used.",
            "table",
        )
        self.complete_until = gauge(
            "complete_until_timestamp_seconds", "Instant up to which the table is complete in ClickHouse.", "table"
        )
        self.last_fetch = gauge("last_fetch_timestamp_seconds", "When the shard was last read.", "stream", "shard")
        self.last_insert = gauge("last_insert_timestamp_seconds", "When the table last took an insert.", "table")
        self.last_checkpoint = gauge("last_checkpoint_timestamp_seconds", "When checkpoints were last saved.")
        self.build = gauge("build_info", "Always 1; the version is the label.", "version")
        self.build.labels(__version__).set(1)
        self._described = tuple(described)
        self._stuck: Callable[[], Iterable[str]] = tuple
        self._seen_tables: set[str] = set()
        self._lost_told = 0

    def described(self) -> tuple[tuple[str, str, tuple[str, ...], str], ...]:
        """Name, kind, labels and help of every metric, in the order of their definition: for the documentation."""
        return self._described

    def render(self) -> bytes:
        """Return the Prometheus text exposition."""
        self.stuck_tasks.clear()
        for task in self._stuck():
            self.stuck_tasks.labels(task).set(1)
        lost = lost_lines()
        self.log_lines_lost.inc(lost - self._lost_told)
        self._lost_told = lost
        return generate_latest(self.registry)

    def declare(self, table: str, destination: str) -> None:
        """Start a table's counters at 0, so that the first increase is seen as one. ``table`` is DynamoDB's."""
        self._seen_tables.add(table)
        for counter in (self.records_read, self.spilled_values, self.snapshot_rows, self.gaps):
            counter.labels(table)
        self.rows_written.labels(destination)

    def forget(self, table: str, *destinations: str) -> None:
        """Drop what would age by itself of a table that is no longer replicated. Its counters stay."""
        for gauge, name in (
            (self.snapshot_ratio, table),
            (self.complete_until, table),
            (self.table_usable, table),
            *((self.last_insert, destination) for destination in destinations),
        ):
            with suppress(KeyError):
                gauge.remove(name)

    def watch_stuck(self, stuck: Callable[[], Iterable[str]]) -> None:
        """Ask for the names of stuck tasks at each scrape."""
        self._stuck = stuck

    def watch_budget(self, used_bytes: Callable[[], float], limit_bytes: int) -> None:
        """Read the budget at each scrape."""
        self.budget_used.set_function(used_bytes)
        self.budget_limit.set(limit_bytes)

    def watch_shards(self, state: str, count: Callable[[], float]) -> None:
        """Count shards in ``state`` at each scrape."""
        self.shards.labels(state).set_function(count)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``dyncdc_stage_seconds_total``."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).inc(time.perf_counter() - begun)

    def fetched(
        self, stream: str, shard: str, now: float, behind_seconds: float, headroom_seconds: float | None
    ) -> None:
        """Record one answer of a shard."""
        self.answers[stream, shard] = now, behind_seconds, headroom_seconds
        self.last_fetch.labels(stream, shard).set(now)
        self.iterator_age.labels(stream, shard).set(behind_seconds)
        if headroom_seconds is not None:
            self.headroom.labels(stream, shard).set(headroom_seconds)

    def shard_ended(self, stream: str, shard: str) -> None:
        """Drop the series of a shard that is not read any more."""
        self.answers.pop((stream, shard), None)
        for family in (self.last_fetch, self.iterator_age, self.headroom):
            with suppress(KeyError):  # a shard that never answered has no series
                family.remove(stream, shard)

    def decoded(self, decoded: Decoded) -> None:
        """Count what became of a sub-batch."""
        for table, records in decoded.records.items():
            self.records_read.labels(self._bounded(table)).inc(records)
            if decoded.snapshot:
                self.snapshot_rows.labels(table).inc(records)
        for table, values in decoded.spilled.items():
            self.spilled_values.labels(table).inc(values)
        for (table, reason), dead_letters in decoded.dead.items():
            self.dead_letters.labels(table, reason).inc(dead_letters)

    def _bounded(self, table: str) -> str:
        """A label for a table's name as a record has it: what a stream says is not bounded, labels are."""
        if table not in self._seen_tables:
            if len(self._seen_tables) >= TABLES_SEEN:
                return OTHER_TABLES
            self._seen_tables.add(table)
        return table

    def inserted(self, table: str, rows: int, seconds: float, now: float) -> None:
        """Record one acknowledged insert."""
        self.rows_written.labels(table).inc(rows)
        self.insert_duration.labels(table).observe(seconds)
        self.insert_rows.labels(table).observe(rows)
        self.stage_seconds.labels("insert").inc(seconds)
        self.last_insert.labels(table).set(now)

    def arrived(self, table: str, created: float, now: float) -> None:
        """Record that the newest change of an insert, ``created`` in seconds, is acknowledged; 0: there was none."""
        if created:
            self.end_to_end_latency.labels(table).observe(max(0.0, now - created))

    def passed(self, stage: str, seconds: float) -> None:
        """Record a chunk's delay in one part of the way: source_to_stream, stream_to_read or read_to_insert."""
        self.stage_latency.labels(stage).observe(max(0.0, seconds))

    def went_back(self, reason: str) -> None:
        """Record that ClickHouse may lack what it had acknowledged: restarted or rolled_back."""
        self.went_backs.labels(reason).inc()

    def rewound(self, shards: int) -> None:
        """Record that shards are read again from older positions than those that were saved."""
        self.rewound_shards.inc(shards)

    def checkpointed(self, now: float) -> None:
        """Record one successful save."""
        self.last_checkpoint.set(now)

    def retry(self, stage: str, error: Exception) -> None:
        """Count an attempt that failed and will be repeated."""
        self.retries.labels(stage).inc()
        self.errors.labels(stage, type(error).__name__).inc()

    def error(self, stage: str, error: Exception) -> None:
        """Count an error that is not retried."""
        self.errors.labels(stage, type(error).__name__).inc()

    def completed(self, table: str, until: float | None) -> None:
        """Record up to which instant a table is complete; None: not at all yet."""
        if until is not None:
            self.complete_until.labels(table).set(until)
        else:
            with suppress(KeyError):
                self.complete_until.remove(table)

    def snapshot_progress(self, table: str, ratio: float) -> None:
        """Record how much of a table's snapshot is durable, 0 to 1."""
        self.snapshot_ratio.labels(table).set(ratio)

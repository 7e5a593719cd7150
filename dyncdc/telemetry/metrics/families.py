"""Families of metrics: every Prometheus series of the daemon by subsystem, with its labels and its help."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dyncdc import __version__

INSERT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
INSERT_ROWS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000)


class Families:
    """Defines metrics on one registry. ``described``: name, kind, labels and help of each, in order of definition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.described: list[tuple[str, str, tuple[str, ...], str]] = []

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Define a counter."""
        self.described.append((f"dyncdc_{name}_total", "counter", labels, text))
        return Counter(f"dyncdc_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Define a gauge."""
        self.described.append((f"dyncdc_{name}", "gauge", labels, text))
        return Gauge(f"dyncdc_{name}", text, labels, registry=self._registry)

    def histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        """Define a histogram."""
        self.described.append((f"dyncdc_{name}", "histogram", labels, text))
        return Histogram(f"dyncdc_{name}", text, labels, buckets=tuple(buckets), registry=self._registry)


class TableMetrics:
    """What happens to each table."""

    def __init__(self, define: Families) -> None:
        self.records_read = define.counter("records_read", "Records read, by DynamoDB table.", "table")
        self.rows_written = define.counter(
            "rows_written", "Rows that ClickHouse acknowledged, by destination table.", "table"
        )
        self.dead_letters = define.counter(
            "dead_letters", "Records diverted to the dead-letter table.", "table", "reason"
        )
        self.spilled_values = define.counter("spilled_values", "Values kept in the spill column.", "table")
        self.snapshot_rows = define.counter("snapshot_rows", "Items of snapshots read, by DynamoDB table.", "table")
        self.gaps = define.counter("gaps", "Times that changes of the table were lost before they were read.", "table")
        self.snapshot_ratio = define.gauge(
            "snapshot_progress_ratio", "Share of the snapshot's files that is durable.", "table"
        )
        self.table_usable = define.gauge(
            "table_usable",
            "1 while the DynamoDB table is replicated, 0 while its destination or source can not be used.",
            "table",
        )
        self.complete_until = define.gauge(
            "complete_until_timestamp_seconds", "Instant up to which the table is complete in ClickHouse.", "table"
        )
        self.last_insert = define.gauge("last_insert_timestamp_seconds", "When the table last took an insert.", "table")


class TimingMetrics:
    """How long reading and writing take."""

    def __init__(self, define: Families) -> None:
        self.stage_seconds = define.counter(
            "stage_seconds",
            "Time spent per stage (fetch, decode, budget_wait, insert, checkpoint, idle), summed over all tasks.",
            "stage",
        )
        self.insert_duration = define.histogram(
            "insert_duration_seconds", "Time of one insert.", INSERT_SECONDS, "table"
        )
        self.insert_rows = define.histogram("insert_rows", "Rows per insert.", INSERT_ROWS, "table")
        self.end_to_end_latency = define.histogram(
            "end_to_end_latency_seconds",
            "From the change in DynamoDB to ClickHouse's acknowledgement, for the newest change of each insert.",
            LATENCY_SECONDS,
            "table",
        )
        self.stage_latency = define.histogram(
            "stage_latency_seconds",
            "The same in parts: source_to_stream, stream_to_read, read_to_insert.",
            LATENCY_SECONDS,
            "stage",
        )


class ShardMetrics:
    """How far each shard has been read."""

    def __init__(self, define: Families) -> None:
        self.shards = define.gauge("shards", "Shards by state.", "state")
        self.iterator_age = define.gauge(
            "iterator_age_seconds", "How far reading lags behind the tip.", "stream", "shard"
        )
        self.headroom = define.gauge(
            "retention_headroom_seconds", "Time until the oldest unread data of the shard expires.", "stream", "shard"
        )
        self.last_fetch = define.gauge(
            "last_fetch_timestamp_seconds", "When the shard was last read.", "stream", "shard"
        )


class SavingMetrics:
    """Checkpoints, and what a restart of ClickHouse took back."""

    def __init__(self, define: Families) -> None:
        self.last_checkpoint = define.gauge("last_checkpoint_timestamp_seconds", "When checkpoints were last saved.")
        self.went_backs = define.counter(
            "clickhouse_went_back",
            "Times ClickHouse turned out to have been restarted, or to lack what it had acknowledged.",
            "reason",
        )
        self.rewound_shards = define.counter(
            "rewound_shards", "Shards, files and segments read again for what a restart of ClickHouse may have lost."
        )


class ProcessMetrics:
    """The process: its errors, its tasks, its memory."""

    def __init__(self, define: Families) -> None:
        self.errors = define.counter(
            "errors", "Errors by stage and class, retried ones included.", "stage", "error_class"
        )
        self.retries = define.counter("retries", "Attempts that failed and were repeated.", "stage")
        self.stuck_tasks = define.gauge("stuck_tasks", "1 for each task that has not moved within its time.", "task")
        self.worker_restarts = define.counter(
            "worker_restarts", "Times that a worker ended unasked and was started again (`limits.workers` above 1)."
        )
        self.log_lines_lost = define.counter("log_lines_lost", "Log lines that could not be written to stderr.")
        self.budget_used = define.gauge("budget_used_bytes", "Bytes fetched and not yet durable.")
        self.budget_limit = define.gauge("budget_limit_bytes", "Upper bound of dyncdc_budget_used_bytes.")
        self.build = define.gauge("build_info", "Always 1; the version is the label.", "version")
        self.build.labels(__version__).set(1)

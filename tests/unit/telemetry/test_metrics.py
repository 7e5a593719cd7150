"""Metrics: the names of the contract, and series that end with what they describe."""

from __future__ import annotations

from dyncdc.model.blocks import Decoded
from dyncdc.telemetry.metrics import OTHER_TABLES, TABLES_SEEN, Metrics

CONTRACT = {
    "worker_restarts_total": [],
    "records_read_total": ["table"],
    "rows_written_total": ["table"],
    "dead_letters_total": ["table", "reason"],
    "spilled_values_total": ["table"],
    "errors_total": ["stage", "error_class"],
    "retries_total": ["stage"],
    "snapshot_rows_total": ["table"],
    "gaps_total": ["table"],
    "clickhouse_went_back_total": ["reason"],
    "rewound_shards_total": [],
    "stage_seconds_total": ["stage"],
    "log_lines_lost_total": [],
    "insert_duration_seconds": ["table"],
    "insert_rows": ["table"],
    "end_to_end_latency_seconds": ["table"],
    "stage_latency_seconds": ["stage"],
    "stuck_tasks": ["task"],
    "budget_used_bytes": [],
    "budget_limit_bytes": [],
    "shards": ["state"],
    "iterator_age_seconds": ["stream", "shard"],
    "retention_headroom_seconds": ["stream", "shard"],
    "snapshot_progress_ratio": ["table"],
    "complete_until_timestamp_seconds": ["table"],
    "table_usable": ["table"],
    "last_fetch_timestamp_seconds": ["stream", "shard"],
    "last_insert_timestamp_seconds": ["table"],
    "last_checkpoint_timestamp_seconds": [],
    "build_info": ["version"],
}


def test_the_metrics_are_those_of_the_contract() -> None:
    assert {name.removeprefix("dyncdc_"): list(labels) for name, _, labels, _ in Metrics().described()} == CONTRACT


def test_every_metric_has_help() -> None:
    assert all(text.endswith(".") for _, _, _, text in Metrics().described())


def test_a_shard_that_ended_leaves_no_series() -> None:
    metrics = Metrics()
    metrics.fetched("orders", "shardId-1", 1.0, 2.0, 3.0)
    metrics.fetched("orders", "shardId-2", 1.0, 2.0, None)
    assert b"shardId-1" in metrics.render()
    metrics.shard_ended("orders", "shardId-1")
    metrics.shard_ended("orders", "shardId-2")
    metrics.shard_ended("orders", "never seen")
    assert b"shardId" not in metrics.render()


def test_counts_are_taken_per_sub_batch() -> None:
    metrics = Metrics()
    metrics.declare("orders", "orders_ch")
    assert metrics.registry.get_sample_value("dyncdc_rows_written_total", {"table": "orders_ch"}) == 0
    metrics.decoded(Decoded(records={"orders": 5}, spilled={"orders": 2}, dead={("orders", "not_json"): 1}))
    metrics.inserted("orders_ch", 4, 0.1, 7.0)
    sample = metrics.registry.get_sample_value
    assert sample("dyncdc_records_read_total", {"table": "orders"}) == 5
    assert sample("dyncdc_spilled_values_total", {"table": "orders"}) == 2
    assert sample("dyncdc_dead_letters_total", {"table": "orders", "reason": "not_json"}) == 1
    assert sample("dyncdc_rows_written_total", {"table": "orders_ch"}) == 4
    assert sample("dyncdc_last_insert_timestamp_seconds", {"table": "orders_ch"}) == 7.0


def test_o12_names_of_unknown_tables_make_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    for number in range(TABLES_SEEN * 3):
        metrics.decoded(Decoded(records={f"unknown-{number}": 1}))
    metrics.declare("orders", "orders_ch")
    metrics.decoded(Decoded(records={"orders": 5}))
    sample = metrics.registry.get_sample_value
    assert sample("dyncdc_records_read_total", {"table": "unknown-0"}) == 1
    assert sample("dyncdc_records_read_total", {"table": OTHER_TABLES}) == TABLES_SEEN * 2
    assert sample("dyncdc_records_read_total", {"table": "orders"}) == 5, "configured tables have theirs in any case"
    assert metrics.render().count(b"dyncdc_records_read_total{") == TABLES_SEEN + 2


def test_a_table_that_is_not_complete_has_no_instant() -> None:
    metrics = Metrics()
    metrics.completed("orders", None)
    metrics.completed("orders", 5.0)
    assert b'complete_until_timestamp_seconds{table="orders"} 5.0' in metrics.render()
    metrics.completed("orders", None)
    assert b'complete_until_timestamp_seconds{table="orders"}' not in metrics.render()


def test_two_processes_worth_of_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.checkpointed(5.0)
    assert second.registry.get_sample_value("dyncdc_last_checkpoint_timestamp_seconds") == 0.0

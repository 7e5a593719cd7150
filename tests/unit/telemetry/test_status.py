"""The document behind the status page: what it says, and that nothing in it grows without bound."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import (
    DaemonStatus,
    RecentErrors,
    StatusBuilder,
    StatusSources,
    TableFacts,
    Throughput,
    merge_statuses,
)
from dyncdc.telemetry.status.model import WORST_SHARDS, DeadLettersStatus, Freshness, GapStatus, Plot, decode, encode
from dyncdc.telemetry.status.recent_errors import LONGEST
from dyncdc.telemetry.status.routes import page
from dyncdc.telemetry.status.throughput import STEP_SECONDS, STEPS, sum_plots
from dyncdc.telemetry.task_health import TaskHealth

HOUR = 3600.0


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Process:
    """One process with tables orders and carts on one stream."""

    def __init__(self, member: str = "0/1") -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.health = TaskHealth(60.0, self.clock)
        self.missing: list[str] = []
        self.tables = [TableFacts(name, f"{name}_in_ch", "changes", "scan") for name in ("orders", "carts")]
        self.overview = StatusBuilder(
            "shop", member, self.tables, StatusSources(self.metrics, self.health, lambda: self.missing, self.clock)
        )

    def store(self, **values: Any) -> None:
        """Let ClickHouse hold something of orders."""
        orders = msgspec.structs.replace(self.tables[0].status(), **values)
        self.overview.stored.state.tables = {orders.destination: orders}

    def document(self) -> DaemonStatus:
        self.clock.now += 1.0
        return decode(encode(self.overview.document()))

    def fetched(self, shard: str, lag: float, headroom: float | None) -> None:
        self.metrics.fetched("changes", shard, self.clock.now, lag, headroom)


def test_the_worst_shards_are_listed_and_all_are_counted() -> None:
    process = Process()
    for number in range(3_000):
        process.fetched(f"shard-{number:04}", 0.0, 24 * HOUR)
    process.fetched("late", 23.5 * HOUR, 0.5 * HOUR)
    process.fetched("slow", 120.0, 24 * HOUR - 120)
    shards = process.document().shards
    assert (shards.read, shards.behind, shards.expiring) == (3_002, 2, 1)
    assert len(shards.worst) == WORST_SHARDS
    assert [shard.shard for shard in shards.worst[:3]] == ["late", "slow", "shard-0000"]
    table = process.document().tables[0]
    assert (table.lag_seconds, table.headroom_seconds) == (23.5 * HOUR, 0.5 * HOUR)


def test_a_shard_that_does_not_answer_lags_more_every_second() -> None:
    process = Process()
    process.fetched("shard", 1.0, 24 * HOUR)
    assert process.document().shards.worst[0].lag_seconds == 1.0
    process.clock.now += HOUR
    (shard,) = process.document().shards.worst
    assert shard.lag_seconds > 0.99 * HOUR and shard.silent_seconds > HOUR
    assert shard.headroom_seconds is not None and shard.headroom_seconds < 23.01 * HOUR


def test_files_of_a_snapshot_are_no_shards() -> None:
    process = Process()
    process.metrics.fetched("orders", "export/data/1.json.gz", process.clock.now, 0.0, None)
    assert process.document().shards.read == 0


def test_a_table_says_how_far_its_snapshot_is() -> None:
    process = Process()
    assert [table.snapshot for table in process.document().tables] == ["not started", "not started"]
    process.metrics.snapshot_progress("orders", 0.4)
    orders, _ = process.document().tables
    assert (orders.snapshot, orders.snapshot_ratio) == ("loading", 0.4)
    process.metrics.snapshot_progress("orders", 1.0)
    process.store(snapshot="complete")
    assert process.document().tables[0].snapshot == "complete"


def test_what_only_clickhouse_knows_is_unknown_until_it_was_asked_and_stays_when_it_is_down() -> None:
    process = Process()
    document = process.document()
    assert (document.dead_letters_total, document.gaps_total, document.tables[0].dead_letters) == (None, None, None)
    stored = process.overview.stored
    stored.state.dead_letters = [DeadLettersStatus("orders", "type", "total", 3, 5.0)]
    process.store(dead_letters=3)
    stored.state.gaps = [
        GapStatus(
            table="orders", source="s", shard="", begin=0.0, end=1.0, noticed_at=1.0, accepted=False, words="words"
        )
    ]
    stored.fresh = Freshness(process.clock.now, "asking: no answer")
    document = process.document()
    assert (document.dead_letters_total, document.gaps_total, document.tables[0].dead_letters) == (3, 1, 3)
    assert document.clickhouse.error == "asking: no answer"


def test_the_state_is_that_of_healthz() -> None:
    process = Process()
    process.missing.append("checkpoints loaded")
    assert process.document().state == "starting"
    process.missing.clear()
    assert process.document().state == "healthy"
    with process.health.task("insert:orders") as task:
        task.waiting_for("ClickHouse")
        process.clock.now += 100
        document = process.document()
    assert (document.state, document.stuck[0].task) == ("stuck", "insert:orders")
    assert document.stuck[0].reason == "waiting for ClickHouse"


def test_nothing_is_asked_of_clickhouse_while_no_one_looks() -> None:
    process = Process()
    process.overview.stored.wanted.clear()  # it was asked at the start
    process.overview.activity.sample()
    assert not process.overview.stored.wanted.is_set()
    process.overview.document()
    assert process.overview.stored.wanted.is_set()


def test_a_plot_shows_rates_of_the_last_steps_and_never_more() -> None:
    clock, totals = Clock(0.0), {"orders": (0.0, 0.0)}
    activity = Throughput(["orders"], lambda: totals, clock)
    for step in range(1, 2 * STEPS):
        clock.now = step * STEP_SECONDS
        totals["orders"] = (step * 50.0, step * 25.0)
        activity.sample()
    plot = activity.plot("orders")
    assert (len(plot.read), set(plot.read), set(plot.written)) == (STEPS, {10.0}, {5.0})
    clock.now += 2 * STEP_SECONDS  # the loop was busy for a step
    totals["orders"] = (totals["orders"][0] + 300.0, totals["orders"][1])
    activity.sample()
    assert activity.plot("orders").read[-3:] == [10.0, 30.0, 30.0]


def test_plots_of_workers_add_up_step_by_step() -> None:
    early, late = Plot(5.0, 95.0, [1.0, 2.0], [0.0, 0.0]), Plot(5.0, 100.0, [10.0], [4.0])
    assert sum_plots([early, late]) == Plot(5.0, 100.0, [1.0, 2.0, 10.0], [0.0, 0.0, 4.0])


def test_troubles_are_kept_once_with_their_count_and_are_bounded() -> None:
    clock = Clock()
    troubles = RecentErrors(most=3, clock=clock)
    for repeats in (0, 4):
        troubles.add(
            {
                "event": "task retried",
                "level": "warning",
                "task": "t",
                "error": "e" * 9_000,
                "hint": "do",
                "repeats": repeats,
            }
        )
    (kept,) = troubles.recent()
    assert (kept.count, kept.where, kept.hint, len(kept.error)) == (6, "t", "do", LONGEST)
    for number in range(100):
        troubles.add({"event": "worker died", "level": "error", "worker": number, "exit_code": 1})
    assert [kept.where for kept in troubles.recent()] == ["worker 99", "worker 98", "worker 97"]
    assert troubles.recent()[0].error == "exit_code 1"


def test_troubles_hear_warnings_and_errors_of_the_log_and_nothing_else() -> None:
    before, troubles = structlog.get_config(), RecentErrors()
    try:
        structlog.configure(processors=[structlog.processors.add_log_level, lambda *_: _drop()])
        troubles.listen()
        log = structlog.get_logger("dyncdc")
        log.info("ready")
        log.error("task failed", task="insert:orders", error="inserting 5 rows: no", hint="grant INSERT")
    finally:
        structlog.configure(**before)
    (kept,) = troubles.recent()
    assert (kept.event, kept.where, kept.hint) == ("task failed", "insert:orders", "grant INSERT")


def test_a_task_that_moves_again_is_no_error_any_more() -> None:
    troubles = RecentErrors()
    stuck = {"level": "error", "reason": "waiting for ClickHouse", "hint": "fix it", "hangs_in": ["a.py:1 run"]}
    for task in ("insert:orders", "insert:carts"):
        troubles.add({"event": "task stuck", "task": task, "seconds": 61, **stuck})
    troubles(None, "info", {"event": "task moved again", "level": "info", "task": "insert:orders"})
    carts, orders = troubles.recent()
    assert (carts.level, carts.event, carts.error) == ("error", "task stuck", "waiting for ClickHouse")
    assert (orders.level, orders.event, orders.hint) == ("warning", "task stuck, moves again", "")
    troubles.add({"event": "task stuck", "task": "insert:orders", "seconds": 61, **stuck})
    assert [(kept.level, kept.count) for kept in troubles.recent()] == [("error", 2), ("error", 1)]


def _drop() -> structlog.typing.EventDict:
    raise structlog.DropEvent


def test_workers_add_up_and_those_that_are_missing_are_named() -> None:
    supervisor, workers = Process(), [Process("0/2"), Process("1/2")]
    for number, worker in enumerate(workers):
        worker.fetched(f"shard-{number}", 10.0 * number, HOUR)
        worker.metrics.inserted("orders_in_ch", 5, 0.1, worker.clock.now)
        worker.metrics.completed("orders", 100.0 + number)
        worker.overview.recent_errors.add({"event": "task retried", "level": "warning", "task": "t"})
    told = [(number, "", worker.document()) for number, worker in enumerate(workers)]
    merged = merge_statuses(supervisor.document(), told, restarts=1)
    orders, carts = merged.tables
    assert (orders.written_total, orders.lag_seconds, orders.complete_until) == (10.0, 10.0, 100.0)
    assert carts.complete_until is None
    assert (merged.shards.read, merged.state, merged.restarts) == (2, "healthy", 1)
    assert [trouble.where for trouble in merged.troubles] == ["worker 0, t", "worker 1, t"]
    merged = merge_statuses(supervisor.document(), [told[0], (1, "ended with 1", None)], restarts=2)
    assert merged.state == "stuck"
    assert [(task.task, task.reason) for task in merged.stuck] == [("worker 1", "ended with 1")]
    assert merged.tables[0].complete_until is None, "no one knows how far the missing one is"


def test_a_document_of_the_next_version_is_still_understood() -> None:
    document = msgspec.json.decode(encode(Process().document()))
    document["something_new"] = 1
    assert decode(msgspec.json.encode(document)).pipeline == "shop"


def test_the_page_is_one_document_that_may_load_nothing_else() -> None:
    html, policy = page()
    assert "default-src 'none'" in policy["Content-Security-Policy"]
    assert "unsafe" not in policy["Content-Security-Policy"]
    assert "page.css" not in html and "page.js" not in html
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "http://", "https://", "style="):
        assert word not in html.replace("http://www.w3.org/2000/svg", ""), word

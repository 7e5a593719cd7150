"""Stuck tasks: ages, planned pauses, and causes before their victims."""

from __future__ import annotations

import asyncio
import io

import structlog

from dyncdc.errors import AccessDeniedError, RetryableError
from dyncdc.model.blocks import DeadLetter
from dyncdc.model.shards import Position
from dyncdc.telemetry.hints import hint_for
from dyncdc.telemetry.logging import configure_logging
from dyncdc.telemetry.repeat_limiter import RepeatLimiter
from dyncdc.telemetry.task_health import BUDGET, TaskHealth


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_task_is_stuck_only_after_its_time_and_until_it_moves() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("shard:orders:1") as task:
        task.waiting_for("the source")
        clock.now += 60.0
        assert health.stuck() == []
        clock.now += 1.0
        (stuck,) = health.stuck()
        assert str(stuck) == "shard:orders:1 has not moved for 61 s: waiting for the source"
        task.moved()
        assert health.stuck() == []
    clock.now += 1000.0
    assert health.stuck() == []


def test_a_planned_pause_does_not_count() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("list") as task:
        task.waiting_for("the next list", for_seconds=300.0)
        clock.now += 350.0
        assert health.stuck() == []
        clock.now += 20.0
        assert len(health.stuck()) == 1


def test_what_follows_a_planned_pause_has_all_its_time_again() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("tombstones") as task:
        task.moved()
        task.waiting_for("the next look", for_seconds=3600.0)
        clock.now += 3600.0
        task.waiting_for("ClickHouse")
        clock.now += 59.0
        assert health.stuck() == []
        clock.now += 2.0
        assert len(health.stuck()) == 1


def test_a_task_that_only_fails_and_rests_is_stuck() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("watermarks") as task:
        for _ in range(13):
            task.waiting_for("ClickHouse")
            task.waiting_for("the next try", for_seconds=5.0)
            clock.now += 5.0
        task.waiting_for("ClickHouse")
        assert len(health.stuck()) == 1


def test_a_cause_is_named_rather_than_those_who_wait_for_its_memory() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("insert:orders") as insert, health.task("shard:orders:1") as shard:
        insert.waiting_for("ClickHouse")
        shard.waiting_for(BUDGET)
        clock.now += 61.0
        assert [stuck.name for stuck in health.stuck()] == ["insert:orders"]


def test_budget_that_no_one_gives_back_is_not_healthy() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("insert:orders") as insert, health.task("shard:orders:1") as shard:
        shard.waiting_for(BUDGET)
        clock.now += 61.0
        insert.moved()
        assert [stuck.name for stuck in health.stuck()] == ["shard:orders:1"]


def test_a_task_that_gave_up_is_stuck_at_once_with_its_reason() -> None:
    health = TaskHealth(60.0, Clock())
    with health.task("snapshot:orders") as task:
        task.failed("reading the manifest: wrong checksum")
        assert health.stuck()[0].reason == "reading the manifest: wrong checksum"


def test_trouble_is_reported_once_per_interval_with_its_repeats() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(25):
            health.log_retry("insert:orders", RetryableError("inserting 5 rows into orders", hint="wait"), 0.1)
            clock.now += 1.0
    assert [entry["repeats"] for entry in logs] == [0, 9, 9]
    assert {entry["event"] for entry in logs} == {"task retried"}
    assert logs[0]["hint"] == "wait"


def test_dead_letters_are_warned_of_once_per_kind_and_interval_with_their_number_and_the_command() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)

    def dead_letter(column: str) -> DeadLetter:
        return DeadLetter(0, Position("secret"), "orders", "misfit", column)

    with structlog.testing.capture_logs() as logs:
        health.diverted([])
        health.diverted([dead_letter("price"), dead_letter("price"), dead_letter("name")])
        for _ in range(5):
            clock.now += 11.0
            health.diverted([dead_letter("price")])
        clock.now += 11.0
        health.diverted([dead_letter("price")])
    assert [(entry["column"], entry["dead_letters"]) for entry in logs] == [("price", 2), ("name", 1), ("price", 6)]
    assert all("dyncdc dead-letters list" in entry["hint"] for entry in logs)
    assert "secret" not in str(logs)


def test_a_final_failure_is_always_reported() -> None:
    health = TaskHealth(60.0, Clock())
    with structlog.testing.capture_logs() as logs:
        health.log_retry("snapshot:orders", RetryableError("x"), 1.0)
        health.log_retry("snapshot:orders", RetryableError("x"), None)
    assert [entry["log_level"] for entry in logs] == ["warning", "error"]


def test_repeats_take_bounded_memory() -> None:
    clock = Clock()
    limiter = RepeatLimiter(clock=clock)
    for number in range(5000):
        assert limiter.admit(number) == 0
    assert len(limiter._said) <= 1000


async def test_a_task_that_gets_stuck_is_logged_once_with_where_it_hangs_and_again_when_it_moves() -> None:
    now = 0.0
    health = TaskHealth(stuck_after_seconds=10.0, clock=lambda: now)
    moving, ending = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        with health.task("insert:orders") as task:
            await moving.wait()
            task.moved()
            await ending.wait()

    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hang(), name="insert:orders")
            await asyncio.sleep(0)
            health.look()
            now = 11.0
            health.look()
            health.look()
            moving.set()
            await asyncio.sleep(0.01)
            health.look()
            ending.set()
    assert [log["event"] for log in logs] == ["task stuck", "task moved again"]
    assert "hang" in logs[0]["hangs_in"][0] and "wait" in logs[0]["hangs_in"][-1]


def test_a_stuck_task_that_ends_well_has_moved_again() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with structlog.testing.capture_logs() as logs:
        with health.task("insert:orders"):
            clock.now += 61.0
            health.look()
    assert [log["event"] for log in logs] == ["task stuck", "task moved again"]
    assert logs[0]["hint"] == hint_for("insert:orders") != ""


async def test_a_stuck_task_can_be_told_of_on_a_terminal_and_as_json() -> None:
    now = 0.0
    health = TaskHealth(stuck_after_seconds=1.0, clock=lambda: now)
    try:
        for format in ("console", "json"):
            stream = io.StringIO()
            configure_logging(format=format, stream=stream)
            with health.task(f"insert:{format}"):
                now += 5.0
                health.look()
            assert f"insert:{format}" in stream.getvalue() and "test_task_health" in stream.getvalue()
    finally:
        structlog.reset_defaults()


def test_a_stuck_task_names_what_it_is_refused() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    with health.task("insert:orders") as task:
        task.waiting_for("ClickHouse")
        health.log_retry("insert:orders", RetryableError("inserting 5 rows: ClickHouse answered 252"), 1.0)
        clock.now += 61.0
        (stuck,) = health.stuck()
        assert stuck.reason == "waiting for ClickHouse (inserting 5 rows: ClickHouse answered 252)"
        task.moved()
        task.waiting_for("ClickHouse")
        clock.now += 61.0
        assert health.stuck()[0].reason == "waiting for ClickHouse"


def test_what_is_denied_counts_from_its_first_refusal_until_the_task_moves() -> None:
    clock = Clock()
    health = TaskHealth(60.0, clock)
    denied = AccessDeniedError("reading shard 1: AccessDeniedException")
    with health.task("shard:orders:1") as task, health.task("shard:orders:2"):
        health.log_retry("shard:orders:1", RetryableError("reading shard 1: timed out"), 1.0)
        assert health.denied() is None
        clock.now += 10.0
        health.log_retry("shard:orders:1", denied, 1.0)
        clock.now += 5.0
        health.log_retry("shard:orders:1", denied, 1.0)
        assert health.denied() == (5.0, denied)
        task.moved()
        assert health.denied() is None

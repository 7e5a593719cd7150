"""A daemon's page over made-up facts: every part of it has something to show, and names try to become markup."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from dyncdc.telemetry.http import HttpPages, Readiness, serve_http
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import StatusBuilder, StatusSources, TableFacts
from dyncdc.telemetry.status.model import DeadLettersStatus, Freshness, GapStatus
from dyncdc.telemetry.task_health import TaskHealth

START = 1_790_000_000.0
HOUR = 3600.0
STRANGE = '<img src="/x" onerror="document.title=1"><script>document.title=2</script>&amp;"\''
FACTS = (
    TableFacts("shop-orders", "orders", "shop-changes", "export", "orders_history"),
    TableFacts("shop-customers", "customers", "shop-changes", "scan"),
    TableFacts("carts.eu-west-1.production.of-a-very-long-name", "carts", "cart-changes", "none"),
)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """The parts that a daemon would feed."""

    url: str
    clock: Clock
    metrics: Metrics
    progress: TaskHealth
    readiness: Readiness
    overview: StatusBuilder

    def live(self, steps: int = 72) -> None:
        """Let six minutes pass in which all is well, but for one table that is being loaded."""
        for step in range(1, steps + 1):
            self.clock.now += 5.0
            self._move("shop-orders", "orders", int(900 + 500 * math.sin(step / 7) + 37 * (step % 5)))
            self._move("shop-customers", "customers", 4000 if step > 30 else 60)
            self._move(FACTS[2].table, "carts", 25 if step % 9 < 2 else 0)
            self.overview.activity.sample()
        now, metrics = self.clock.now, self.metrics
        for number in range(6):
            metrics.fetched("shop-changes", f"shardId-00000000000{number}", now, 0.3 * number, 24 * HOUR)
        metrics.fetched("cart-changes", "shardId-000000000000", now, 0.0, 24 * HOUR)
        for state, many in (("reading", 7.0), ("waiting", 0.0), ("failed", 0.0), ("unowned", 0.0)):
            metrics.watch_shards(state, lambda many=many: many)  # type: ignore[misc]
        metrics.snapshot_progress("shop-orders", 1.0)
        metrics.snapshot_progress("shop-customers", 0.62)
        metrics.watch_budget(lambda: 11_534_336.0, 90_177_536)
        for facts in FACTS[::2]:
            metrics.completed(facts.table, now - 61.0)
        stored = self.overview.stored
        held = {"orders": ("complete", 48_211_007), "customers": ("loading", 310_455), "carts": ("none", 1_204)}
        for facts in FACTS:
            snapshot, rows = held[facts.destination]
            self._store(facts, snapshot=snapshot, rows=rows, dead_letters=0)
        stored.fresh = Freshness(now)

    def _store(self, facts: TableFacts, **values: Any) -> None:
        state = self.overview.stored.state
        before = state.tables.get(facts.destination) or facts.status()
        state.tables = {**state.tables, facts.destination: msgspec.structs.replace(before, **values)}

    def _move(self, table: str, destination: str, rows: int) -> None:
        self.metrics.tables.records_read.labels(table).inc(rows)
        self.metrics.inserted(destination, max(1, rows), 0.05, self.clock.now)

    def suffer(self) -> None:
        """Let everything go wrong."""
        now, metrics, stored = self.clock.now, self.metrics, self.overview.stored
        metrics.fetched("shop-changes", "shardId-000000000003", now, 23.4 * HOUR, 0.6 * HOUR)
        metrics.fetched("shop-changes", "shardId-000000000004", now, 400.0, 23.9 * HOUR)
        self._store(FACTS[0], dead_letters=1_204)
        self._store(FACTS[1], snapshot="failed")
        stored.state.dead_letters = [
            DeadLettersStatus("shop-orders", "number_range", "total", 1_204, now - 40),
            DeadLettersStatus("", "not_json", "", 3, now - 4_000),
            DeadLettersStatus(STRANGE, STRANGE, STRANGE, 1, now - 90_000),
        ]
        stored.state.gaps = [
            GapStatus(
                table="shop-orders",
                source="shop-changes",
                shard="shardId-000000000001",
                begin=START - 30 * HOUR,
                end=START,
                noticed_at=now - 600,
                accepted=False,
                words="changes of shop-orders between 2026-09-20 08:00:00 UTC and 2026-09-21 14:13:20 UTC may be"
                " missing: shard shardId-000000000001, the position has expired",
            )
        ]
        stored.fresh = Freshness(now - 95, "counting dead letters at ch.internal:9000: connection refused")
        told = {"event": "task retried", "level": "warning", "task": "insert:orders", "error_class": "RetryableError"}
        for _ in range(14):
            self.overview.recent_errors.add(
                {**told, "error": "inserting 5,000 rows into orders at ch.internal:9000: connection refused"}
            )
        self.overview.recent_errors.add(
            {
                "event": "task failed",
                "level": "error",
                "task": "snapshot:shop-customers",
                "error": "scanning shop-customers: not authorized to perform dynamodb:Scan",
                "hint": "grant dynamodb:Scan on the table; `dyncdc check` prints the policy",
                "error_class": "FatalError",
            }
        )


@asynccontextmanager
async def on_stage(*more: TableFacts) -> AsyncIterator[Stage]:
    """Serve the page while the block runs. ``more``: tables beside those that are always there."""
    clock, metrics, readiness = Clock(), Metrics(), Readiness()
    progress = TaskHealth(60.0, clock)
    overview = StatusBuilder(
        "shop", "0/1", [*FACTS, *more], StatusSources(metrics, progress, lambda: readiness.missing, clock)
    )
    pages = HttpPages(metrics, progress, readiness, overview).application()
    async with serve_http(("127.0.0.1", 0), pages) as port:
        yield Stage(f"http://127.0.0.1:{port}/", clock, metrics, progress, readiness, overview)

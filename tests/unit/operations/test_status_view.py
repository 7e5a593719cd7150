"""``dyncdc status`` on a terminal: the worst first, bounded, and names are only text."""

from __future__ import annotations

import io

from rich.console import Console

from dyncdc.cli.status_view import draw
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import DaemonStatus, StatusBuilder, StatusSources, TableFacts
from dyncdc.telemetry.status.columns import columns_of
from dyncdc.telemetry.status.model import WORST_SHARDS, DeadLettersStatus, ShardStatus, Status, TableStatus
from dyncdc.telemetry.status.routes import page
from dyncdc.telemetry.task_health import TaskHealth


def shown(found: Status) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(draw(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def live() -> DaemonStatus:
    metrics = Metrics()
    facts = TableFacts("orders", "orders", "changes", "scan")
    overview = StatusBuilder("shop", "0/1", [facts], StatusSources(metrics, TaskHealth(), list))
    metrics.snapshot_progress("orders", 0.25)
    overview.recent_errors.add({"event": "task failed", "level": "error", "error": "no", "hint": "grant it"})
    document = overview.document()
    document.tables[0].plot.written.extend([0.0, 50.0, 100.0])
    return document


def table(name: str = "orders") -> TableStatus:
    return TableStatus(
        table=name,
        destination=name,
        snapshot="loading",
        files_done=1,
        files=4,
        lag_seconds=2.0,
        rows=10,
        dead_letters=3,
    )


def shard(name: str, stream: str = "s", lag: float | None = 0.0, headroom: float | None = None) -> ShardStatus:
    return ShardStatus(shard=name, stream=stream, position="1", lag_seconds=lag, headroom_seconds=headroom)


def test_the_worst_shards_are_shown_first_and_the_rest_is_counted() -> None:
    found = Status("shop", "healthy")
    found.shards = [shard(f"shard-{number:04}", headroom=86_400.0) for number in range(3_000)]
    found.shards.append(shard("late", lag=80_000.0, headroom=6_400.0))
    found.shards.append(shard("unknown", lag=None))
    text = shown(found)
    lines = [line for line in text.splitlines() if "│ s " in line]
    assert len(lines) == WORST_SHARDS
    assert "unknown" in lines[0] and "late" in lines[1]
    assert f"the worst {WORST_SHARDS} of 3,002 shards" in text


def test_a_daemon_adds_progress_throughput_and_what_to_do() -> None:
    text = shown(Status("shop", "healthy", tables=[table()], live=live()))
    assert "loading 1/4 files 25 %" in text
    assert "100/s ▁▅█" in text
    assert "task failed" in text and "no; grant it" in text


def test_without_clickhouse_the_daemon_s_own_tables_are_shown() -> None:
    text = shown(Status("shop", "stuck: insert:orders", notes=["connecting: refused"], live=live()))
    assert "note: connecting: refused" in text
    assert "loading 25 %" in text and "100/s" in text


def test_every_column_that_the_model_declares_is_a_head_of_the_terminal_and_known_to_the_page() -> None:
    text = shown(Status("shop", "healthy", tables=[table()], shards=[shard("a")]))
    html, _ = page()
    for struct in (TableStatus, ShardStatus):
        assert all(column.label in text for column in columns_of(struct, "terminal").values())
    for struct in (TableStatus, ShardStatus, DeadLettersStatus):
        for name, column in columns_of(struct, "page").items():
            assert f'["{name}",{{"label":"{column.label}","kind":"{column.kind}"' in html


def test_a_value_is_urgent_beyond_its_limits_on_whichever_side_they_lie() -> None:
    lag, headroom = (columns_of(ShardStatus, "page")[name] for name in ("lag_seconds", "headroom_seconds"))
    assert [lag.severity(seconds) for seconds in (60.0, 61.0, 901.0)] == ["", "warn", "bad"]
    assert [headroom.severity(seconds) for seconds in (21_600.0, 21_599.0, 3_599.0)] == ["", "warn", "bad"]


def test_names_are_never_markup() -> None:
    name = "[red]orders[/red]"
    found = Status(
        "[b]p[/b]", "healthy", tables=[table(name)], dead_letters=[DeadLettersStatus(name, name, name, 2, 0.0)]
    )
    found.shards = [shard(name, name)]
    text = shown(found)
    assert text.count(name) == 7 and "[b]p[/b]" in text

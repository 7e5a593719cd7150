"""How ``dyncdc status`` looks: what was found, as text and tables. Names from outside are never taken as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dyncdc.telemetry.status.columns import Column, Kind, Severity, columns_of
from dyncdc.telemetry.status.model import (
    WORST_SHARDS,
    DaemonStatus,
    DeadLettersStatus,
    Plot,
    RecentError,
    ShardStatus,
    Status,
    TableStatus,
)
from dyncdc.telemetry.status.shards import worst_of

MOST_LINES = 10
"""Of dead letters and of recent errors; --json has all of them."""

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_STEPS = 24


def draw(found: Status) -> RenderableType:
    """Everything, most urgent first."""
    parts: list[RenderableType] = [*_head(found), *_tombstones(found)]
    live = {table.table: table for table in found.live.tables} if found.live else {}
    tables = [table.with_activity(live[table.table]) if table.table in live else table for table in found.tables]
    if tables or live:
        parts.append(_grid(TableStatus, tables or live.values()))
    parts += _shards(found.shards)
    if found.dead_letters:
        parts.append(_grid(DeadLettersStatus, found.dead_letters[:MOST_LINES], "dead letters of"))
    parts += _recent_errors(found.live)
    return Group(*parts)


def _head(found: Status) -> Iterator[Text]:
    yield Text(f"pipeline {found.pipeline}, daemon {found.daemon}", style="" if found.daemon == "healthy" else "bold")
    if found.members and (len(found.members) > 1 or found.members[0].member != "0/1"):
        members = ", ".join(f"{one.member}{'' if one.alive else ' (not running)'}" for one in found.members)
        yield Text(f"members {members}")
    if found.live and found.live.workers:
        yield Text(f"workers {', '.join(f'{one.worker} {one.state}' for one in found.live.workers)}")
    for note in found.notes:
        yield Text(f"note: {note}")
    for gap in found.gaps:
        yield Text(f"gap{' (accepted)' if gap.accepted else ''}: {gap.words}", style="" if gap.accepted else "red")
    for name in found.requested:
        yield Text(f"requested: a snapshot of {name}")


def _tombstones(found: Status) -> Iterator[Text]:
    for table in found.tables:
        if table.tombstones is not None:
            upto = "none yet" if table.cleaned_before is None else f"those before {_instant(table.cleaned_before)}"
            yield Text(f"tombstones of {table.destination}: {table.tombstones:,}; cleaned up: {upto}")


def _grid(struct: type, rows: Iterable[object], first: str = "") -> Table:
    """The columns that the model declares. ``first``: another head for the first."""
    grid, columns = Table(), columns_of(struct, "terminal")
    for number, column in enumerate(columns.values()):
        grid.add_column(first if first and not number else column.label, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(row, name, column) for name, column in columns.items()))
    return grid


def _cell(row: object, name: str, column: Column) -> Text:
    value = getattr(row, name)
    if value is None or value == "":
        return Text(column.empty)
    if isinstance(row, TableStatus) and column.kind == "snapshot":
        return Text(_snapshot(row))
    rated = column.kind in ("count", "seconds", "since")
    return Text(FORMATS[column.kind](value), style=STYLES[column.severity(value)] if rated else "")


def _snapshot(table: TableStatus) -> str:
    files = f" {table.files_done}/{table.files} files" if table.files else ""
    ratio = table.snapshot_ratio
    return f"{table.snapshot}{files}{'' if ratio is None or ratio >= 1.0 else f' {int(ratio * 100)} %'}"


def _rate(plot: Plot) -> str:
    """Rows per second now, and the last two minutes as a line."""
    steps = plot.written[-SPARK_STEPS:]
    most = max(steps, default=0.0)
    line = "".join(SPARKS[round((len(SPARKS) - 1) * value / most)] for value in steps) if most else ""
    return f"{steps[-1] if steps else 0.0:,.0f}/s {line}".rstrip()


def _shards(shards: Sequence[ShardStatus]) -> Iterator[RenderableType]:
    if shards:
        yield _grid(ShardStatus, worst_of(shards))
    if len(shards) > WORST_SHARDS:
        yield Text(f"the worst {WORST_SHARDS} of {len(shards):,} shards; --json has all")


def _recent_errors(live: DaemonStatus | None) -> Iterator[Text]:
    if live is None or not live.troubles:
        return
    yield Text("recent warnings and errors:", style="bold")
    for error in live.troubles[:MOST_LINES]:
        yield Text(_recent_error(error, live.now), style="yellow" if error.level == "warning" else "red")


def _recent_error(error: RecentError, now: float) -> str:
    times = f", {error.count:,} times" if error.count > 1 else ""
    words = [f"{error.event} {_seconds(max(0.0, now - error.last_at))} ago{times}", error.where, error.error]
    return f"  {': '.join(filter(None, words))}{f'; {error.hint}' if error.hint else ''}"


def _short(position: str) -> str:
    """The end of a sequence number tells positions apart; the whole of it fills a terminal."""
    return position if len(position) <= 24 else f"…{position[-12:]}"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


FORMATS: Final[Mapping[Kind, Callable[[Any], str]]] = {
    "text": str,
    "position": _short,
    "count": "{:,.0f}".format,
    "seconds": _seconds,
    "since": lambda seconds: f"{_seconds(seconds)} ago",
    "time": _instant,
    "rate": _rate,
}
STYLES: Final[Mapping[Severity, str]] = {"": "", "warn": "yellow", "bad": "red"}

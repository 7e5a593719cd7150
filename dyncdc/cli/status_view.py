"""How ``dyncdc status`` looks: what was found, as text and tables. Names from outside are never taken as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dyncdc.telemetry.status.model import WORST_SHARDS, DaemonStatus, RecentError, ShardStatus, Status, TableStatus
from dyncdc.telemetry.status.shards import worst_of

MOST_LINES = 10
"""Of dead letters and of troubles; --json has all that there are."""

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_STEPS = 24

LATE_SECONDS, LATEST_SECONDS = 60.0, 900.0
TIGHT_SECONDS, TIGHTEST_SECONDS = 6 * 3600.0, 3600.0


def draw(found: Status) -> RenderableType:
    """Everything, most urgent first."""
    parts: list[RenderableType] = [*_head(found), *_tombstones(found)]
    live = {table.table: table for table in found.live.tables} if found.live else {}
    if found.tables:
        parts.append(_tables(found.tables, live))
    elif found.live:
        parts.append(_live_tables(found.live))
    parts += _shards(found.shards)
    if found.dead_letters:
        parts.append(_dead_letters(found))
    parts += _troubles(found.live)
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


def _grid(*heads: str) -> Table:
    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _tables(tables: Sequence[TableStatus], live: dict[str, TableStatus]) -> Table:
    grid = _grid(
        "table", "destination", "snapshot", "rows stored", "lag", "complete until", "dead letters", "written now"
    )
    for table in tables:
        files = f" {table.files_done}/{table.files} files" if table.files else ""
        part = live.get(table.table)
        grid.add_row(
            Text(table.table),
            Text(table.destination),
            Text(f"{table.snapshot}{files}{_share(part)}"),
            "-" if table.rows is None else f"{table.rows:,}",
            _lag(table.lag_seconds),
            _instant(table.complete_until),
            Text(f"{table.dead_letters:,}", style="yellow" if table.dead_letters else ""),
            "-" if part is None else _speed(part),
        )
    return grid


def _live_tables(live: DaemonStatus) -> Table:
    """What the daemon knows without ClickHouse."""
    grid = _grid("table", "destination", "snapshot", "lag", "expires in", "complete until", "written now")
    for part in live.tables:
        grid.add_row(
            Text(part.table),
            Text(part.destination),
            Text(f"{part.snapshot}{_share(part)}"),
            _lag(part.lag_seconds),
            _headroom(part.headroom_seconds),
            _instant(part.complete_until),
            _speed(part),
        )
    return grid


def _share(part: TableStatus | None) -> str:
    ratio = part.snapshot_ratio if part is not None else None
    return "" if ratio is None or ratio >= 1.0 else f" {int(ratio * 100)} %"


def _speed(part: TableStatus) -> str:
    """Rows per second now, and the last two minutes as a line."""
    steps = part.plot.written[-SPARK_STEPS:] if part.plot is not None else []
    most = max(steps, default=0.0)
    line = "".join(SPARKS[round((len(SPARKS) - 1) * value / most)] for value in steps) if most else ""
    return f"{steps[-1] if steps else 0.0:,.0f}/s {line}".rstrip()


def _shards(shards: Sequence[ShardStatus]) -> Iterator[RenderableType]:
    grid = _grid("stream", "shard", "position", "lag", "expires in")
    for shard in worst_of(shards):
        grid.add_row(
            Text(shard.stream),
            Text(shard.shard),
            _short(shard.position),
            _lag(shard.lag_seconds),
            _headroom(shard.headroom_seconds),
        )
    if shards:
        yield grid
    if len(shards) > WORST_SHARDS:
        yield Text(f"the worst {WORST_SHARDS} of {len(shards):,} shards; --json has all")


def _dead_letters(found: Status) -> Table:
    grid = _grid("dead letters of", "reason", "column", "open", "newest")
    for dead_letters in found.dead_letters[:MOST_LINES]:
        grid.add_row(
            Text(dead_letters.table or "(names no table)"),
            Text(dead_letters.reason),
            Text(dead_letters.column or "-"),
            f"{dead_letters.count:,}",
            _instant(dead_letters.newest_at),
        )
    return grid


def _troubles(live: DaemonStatus | None) -> Iterator[Text]:
    if live is None or not live.troubles:
        return
    yield Text("recent warnings and errors:", style="bold")
    for trouble in live.troubles[:MOST_LINES]:
        yield Text(_trouble(trouble, live.now), style="yellow" if trouble.level == "warning" else "red")


def _trouble(trouble: RecentError, now: float) -> str:
    times = f", {trouble.count:,} times" if trouble.count > 1 else ""
    words = [f"{trouble.event} {_seconds(max(0.0, now - trouble.last_at))} ago{times}", trouble.where, trouble.error]
    return f"  {': '.join(filter(None, words))}{f'; {trouble.hint}' if trouble.hint else ''}"


def _short(position: str | None) -> str:
    """The end of a sequence number tells positions apart; the whole of it fills a terminal."""
    if position is None:
        return "-"
    return position if len(position) <= 24 else f"…{position[-12:]}"


def _lag(seconds: float | None) -> Text:
    late = "" if seconds is None or seconds <= LATE_SECONDS else "yellow" if seconds <= LATEST_SECONDS else "red"
    return Text(_seconds(seconds), style=late)


def _headroom(seconds: float | None) -> Text:
    tight = "" if seconds is None or seconds >= TIGHT_SECONDS else "yellow" if seconds >= TIGHTEST_SECONDS else "red"
    return Text(_seconds(seconds), style=tight)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _instant(seconds: float | None) -> str:
    return "not yet" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

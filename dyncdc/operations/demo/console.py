"""The terminal: a live picture where there is a terminal, a plain line every few seconds where there is none."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dyncdc.operations.demo.workload.load import LoadCounts

from .progress import DaemonView

PLAIN_INTERVAL_SECONDS = 3.0
REFRESH_PER_SECOND = 4
EVENTS_SHOWN = 8
SHARD_ID_SHOWN = 6
"""Digits at the end of a shard id that tell shards apart."""


@dataclass(slots=True)
class Picture:
    """Everything shown at one moment. ``rows``: ClickHouse's counts by table, deleted rows left out."""

    phase: str = "starting"
    elapsed_seconds: float = 0.0
    daemon_pid: int = 0
    restarts: int = 0
    daemon: DaemonView | None = None
    rows_per_second: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    written: int = 0
    """Items written before the daemon started."""
    counts: LoadCounts = field(default_factory=LoadCounts)


class Screen:
    """Shows pictures and events. Use as a context manager; ``console`` stays usable afterwards."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.picture = Picture()
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._printed_at = float("-inf")
        self._live = (
            Live(console=console, refresh_per_second=REFRESH_PER_SECOND, get_renderable=self._render)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, event: str) -> None:
        """Show something that happened."""
        line = f"{self.picture.elapsed_seconds:5.1f}s  {event}"
        if self._live is not None:
            self._events.append(line)
        else:
            self._print(line)

    def update(self) -> None:
        """Show the picture as it is now. Cheap: the terminal redraws by itself, plain lines come every few seconds."""
        elapsed = self.picture.elapsed_seconds
        if self._live is None and elapsed - self._printed_at >= PLAIN_INTERVAL_SECONDS:
            self._printed_at = elapsed
            self._print(plain_line(self.picture))

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        picture = self.picture
        parts: list[RenderableType] = [_headline(picture), *_snapshots(picture), _shards(picture), _counts(picture)]
        parts += [Text(event, style="dim") for event in self._events]
        return Group(*parts)


def plain_line(picture: Picture) -> str:
    """The picture on one line."""
    daemon = picture.daemon
    parts = [f"{picture.elapsed_seconds:5.1f}s  {picture.phase}"]
    if picture.daemon_pid and daemon is None:
        parts.append(f"daemon {picture.daemon_pid} starting")
    if not picture.daemon_pid:
        parts.append(f"items written {picture.written:,}")
    if daemon is not None:
        loaded = " ".join(f"{table} {share:.0%}" for table, share in sorted(daemon.snapshot.items()))
        parts.append(f"daemon {picture.daemon_pid}")
        parts.append(f"snapshot {loaded or 'waiting'}")
        parts.append(f"{picture.rows_per_second:,.0f} rows/s")
        parts.append(f"lag {_seconds(daemon.lag_seconds)} over {len(daemon.shards)} shards")
    if picture.rows:
        parts.append("ClickHouse " + " ".join(f"{table} {rows:,}" for table, rows in sorted(picture.rows.items())))
    if picture.counts.total:
        parts.append(f"changes {picture.counts.total:,}")
    return " | ".join(parts)


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.1f}s"


def _headline(picture: Picture) -> Text:
    daemon = f"pid {picture.daemon_pid}" if picture.daemon_pid else "not started"
    if picture.restarts:
        daemon += f", started again {picture.restarts}x"
    state = "" if picture.daemon is not None or not picture.daemon_pid else ", starting"
    text = Text.assemble(
        (f"{picture.elapsed_seconds:5.1f}s ", "bold"), (picture.phase, "bold cyan"), f"   daemon: {daemon}{state}"
    )
    if picture.daemon_pid:
        text.append(f"   try: kill -9 {picture.daemon_pid}", style="dim")
    return text


def _snapshots(picture: Picture) -> list[RenderableType]:
    if picture.daemon is None or not picture.daemon.snapshot:
        return [Text(f"items written to DynamoDB: {picture.written:,}")]
    grid = Table.grid(padding=(0, 1))
    for table, share in sorted(picture.daemon.snapshot.items()):
        grid.add_row(f"snapshot {table}", ProgressBar(total=1.0, completed=share, width=40), f"{share:4.0%}")
    return [grid]


def _shards(picture: Picture) -> RenderableType:
    if picture.daemon is None or not picture.daemon.shards:
        return Text("shards: none read yet")
    text = Text("shards: ")
    for shard in picture.daemon.shards:
        style = "green" if shard.lag_seconds < 1 else "yellow"
        text.append(f"…{shard.id[-SHARD_ID_SHOWN:]} lag {shard.lag_seconds:.1f}s   ", style=style)
    return text


def _counts(picture: Picture) -> RenderableType:
    counts = picture.counts
    lines = [
        f"DynamoDB    {counts.total:,} changes: {counts.inserts:,} inserts, {counts.updates:,} updates, "
        f"{counts.deletes:,} deletes, {counts.expired:,} expired",
        f"ClickHouse  {picture.rows_per_second:,.0f} rows/s, "
        + (", ".join(f"{table} {count:,}" for table, count in sorted(picture.rows.items())) or "no tables yet"),
    ]
    if picture.daemon is not None and picture.daemon.dead_letters:
        lines.append(f"dead letters  {picture.daemon.dead_letters:,.0f}")
    return Text("\n".join(lines))

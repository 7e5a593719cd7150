"""The status model: every value that the terminal, ``--json`` and the status page show, and nothing else.

``DaemonStatus`` is what one daemon knows of itself (``/status.json``); ``Status`` is what ``dyncdc status`` finds. Both
consist of the same parts. Times are seconds since the epoch; ``None`` means not known, or not read by this side. Names
come from tables and streams: renderers escape them. Fields may be added; none changes its meaning.

A new field of a table, shard or group of dead letters is declared here: its ``Column`` shows it on the terminal and the
page, its ``Merge`` merges it over workers. It is filled in where it is known: ``sinks/status_reader.py`` (ClickHouse),
``builder.py`` (this process; of a table, in ``TableActivity``), ``operations/status/status.py`` (positions, Kinesis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from .columns import Column, Merge

WORST_SHARDS = 20
"""Shards that are listed by name; of the others only how many there are."""

MOST_DEAD_LETTERS = 50
MOST_GAPS = 50
MOST_ERRORS = 30
MOST_STUCK = 50

LAG: Final = Column(
    "lag", "seconds", warn=60.0, bad=900.0, title="how far reading is behind the newest change", empty="unknown"
)
HEADROOM: Final = Column(
    "headroom", "seconds", warn=6 * 3600.0, bad=3600.0, title="until unread changes expire", empty="unknown"
)
COMPLETE_UNTIL: Final = Column("complete until", "time", warn=60.0 + 60.0, bad=60.0 + 900.0, empty="not yet")
"""A minute more than the lag: a change may reach the stream that long after it was made."""

ROWS: Final = Column("rows stored", "count", title="as ClickHouse counts them, replaced ones included", empty="unknown")
LAST_INSERT: Final = Column("last insert", "time", empty="none yet", only="page")


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the configuration says of a table. ``stream``: the stream's name, as metrics have it."""

    table: str
    destination: str
    stream: str
    snapshot_method: str
    history: str = ""

    def status(self) -> TableStatus:
        """The table as it is before anything else is known."""
        return TableStatus(
            table=self.table,
            destination=self.destination,
            history=self.history,
            stream=self.stream,
            snapshot="none" if self.snapshot_method == "none" else "not started",
        )


class Plot(msgspec.Struct):
    """Rows per second in steps of equal length, since the start at most, oldest first; the last ended at ``end``."""

    step_seconds: float
    end: float
    read: list[float]
    written: list[float]


class TableActivity(msgspec.Struct, kw_only=True):
    """What only the process that reads and writes a table knows. Totals are since its start."""

    snapshot_ratio: float | None = None
    """0 to 1."""
    read_total: Annotated[float | None, Merge.SUM] = None
    written_total: Annotated[float | None, Merge.SUM] = None
    last_insert: Annotated[float | None, Merge.MOST, LAST_INSERT] = None
    plot: Annotated[Plot | None, Column("written now", "rate", only="terminal")] = None


class TableStatus(TableActivity, kw_only=True):
    """One table. ``snapshot``: none, not started, loading, loaded, or the state that ClickHouse has."""

    table: Annotated[str, Column("table", "text", only="terminal")]
    destination: Annotated[str, Column("destination", "text", only="terminal")]
    history: str = ""
    stream: str = ""
    snapshot: Annotated[str, Column("snapshot", "snapshot")]
    files_done: int | None = None
    files: int | None = None
    """Of the newest snapshot."""
    lag_seconds: Annotated[float | None, Merge.MOST, LAG] = None
    headroom_seconds: Annotated[float | None, Merge.LEAST, HEADROOM] = None
    complete_until: Annotated[float | None, COMPLETE_UNTIL] = None
    rows: Annotated[int | None, ROWS] = None
    dead_letters: Annotated[int | None, Column("dead letters", "count", warn=0, empty="unknown")] = None
    """Those that are open."""
    tombstones: int | None = None
    """None where they are not cleaned up."""
    cleaned_before: float | None = None
    """Tombstones older than this are gone; None as long as none were."""

    def with_activity(self, activity: TableActivity) -> TableStatus:
        """This table with what a process says of its own work on it."""
        fields = TableActivity.__struct_fields__
        return msgspec.structs.replace(self, **{name: getattr(activity, name) for name in fields})


class ShardStatus(msgspec.Struct, kw_only=True):
    """One shard that is not finished. ``silent_seconds``: since Kinesis answered its reader last."""

    shard: Annotated[str, Column("shard", "text")]
    stream: Annotated[str, Column("stream", "text")]
    position: Annotated[str | None, Column("position", "position", only="terminal")] = None
    lag_seconds: Annotated[float | None, LAG] = None
    headroom_seconds: Annotated[float | None, HEADROOM] = None
    silent_seconds: Annotated[float | None, Column("last read", "since", only="page")] = None


class Shards(msgspec.Struct):
    """All shards, counted, and the worst of those that are read: least headroom first, then the longest lag."""

    states: dict[str, float] = {}
    read: int = 0
    behind: int = 0
    """More than a minute."""
    expiring: int = 0
    """Their oldest unread data expires within the hour."""
    worst: list[ShardStatus] = []


class StuckTask(msgspec.Struct):
    """A task that has not moved within its time. ``todo``: what to do."""

    task: str
    seconds: float
    reason: str
    todo: str = ""


class PlannedWait(msgspec.Struct):
    """A task that waits on purpose. ``seconds``: for how long still, None where no one knows."""

    task: str
    reason: str
    seconds: float | None


class RecentError(msgspec.Struct):
    """A warning or an error, as often as it came. ``hint``: what to do."""

    level: str
    event: str
    where: str
    error: str
    hint: str
    count: int
    first_at: float
    last_at: float


class DeadLettersStatus(msgspec.Struct):
    """Open dead letters of one table, reason and column, counted. Never what they hold."""

    table: Annotated[str, Column("table", "text", empty="(names no table)")]
    reason: Annotated[str, Column("reason", "text")]
    column: Annotated[str, Column("column", "text")]
    count: Annotated[int, Column("open", "count", warn=0)]
    newest_at: Annotated[float | None, Column("newest", "time")]


class GapStatus(msgspec.Struct, kw_only=True):
    """Changes that were lost and that no snapshot has brought back yet.

    ``accepted``: the user took the gap; nothing is done about it until a snapshot is requested.
    """

    table: str
    source: str
    shard: str
    begin: float
    end: float
    noticed_at: float
    accepted: bool
    words: str


class MemberStatus(msgspec.Struct):
    """One process of the pipeline. ``seen_seconds``: the age of its row in ClickHouse, by ClickHouse's clock."""

    member: str
    alive: bool
    seen_seconds: float


class WorkerStatus(msgspec.Struct):
    """A worker of this daemon. ``state``: running, or why not."""

    worker: int
    state: str


class Freshness(msgspec.Struct):
    """How fresh the parts are that come from ClickHouse. ``read_at`` 0: never read; ``error``: why not since then."""

    read_at: float = 0.0
    error: str = ""


class DaemonStatus(msgspec.Struct):
    """What one daemon knows of itself. ``state``: starting, healthy or stuck, as ``/healthz`` computes it."""

    version: str
    pipeline: str
    member: str
    now: float
    started_at: float
    state: str
    missing: list[str] = []
    stuck: list[StuckTask] = []
    planned: list[PlannedWait] = []
    tables: list[TableStatus] = []
    shards: Shards = msgspec.field(default_factory=Shards)
    dead_letters: list[DeadLettersStatus] = []
    dead_letters_total: int | None = None
    dead_letters_since_start: Annotated[int, Merge.SUM] = 0
    gaps: list[GapStatus] = []
    gaps_total: int | None = None
    troubles: list[RecentError] = []
    memory_used_bytes: Annotated[float, Merge.SUM] = 0.0
    memory_limit_bytes: Annotated[float, Merge.SUM] = 0.0
    requested: list[str] = []
    members: list[MemberStatus] = []
    workers: list[WorkerStatus] = []
    restarts: int = 0
    clickhouse: Freshness = msgspec.field(default_factory=Freshness)


class Status(msgspec.Struct):
    """What ``dyncdc status`` finds. ``daemon``: what its health page says, or that it does not answer."""

    pipeline: str
    daemon: str
    tables: list[TableStatus] = []
    shards: list[ShardStatus] = []
    notes: list[str] = []
    gaps: list[GapStatus] = []
    requested: list[str] = []
    """Tables with a requested snapshot that is not complete yet."""
    members: list[MemberStatus] = []
    """Those of the newest assignment; of others only those that are alive."""
    dead_letters: list[DeadLettersStatus] = []
    """Open ones, most first."""
    live: DaemonStatus | None = None
    """None when the daemon does not answer."""


def encode(status: DaemonStatus | Status) -> bytes:
    """As JSON."""
    return msgspec.json.encode(status)


def decode(body: bytes | str) -> DaemonStatus:
    """From JSON. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(body, type=DaemonStatus)

"""The document behind the status page, ``/status.json``: its shapes and nothing else.

Times are seconds since the epoch; ``None`` means that it is not known. Names come from tables and streams: whoever
draws them escapes them. Fields may be added; none changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

WORST_SHARDS = 20
"""Shards that are listed by name; of the others only how many there are."""

MOST_LETTERS = 50
MOST_GAPS = 50
MOST_TROUBLES = 30
MOST_STUCK = 50


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the configuration says of a table. ``stream``: the stream's name, as metrics have it."""

    table: str
    destination: str
    stream: str
    snapshot_method: str
    history: str = ""


class Plot(msgspec.Struct):
    """Rows per second in steps of equal length, since the start at most, oldest first; the last ended at ``end``."""

    step_seconds: float
    end: float
    read: list[float]
    written: list[float]


class TablePart(msgspec.Struct):
    """One table. ``snapshot``: none, not started, loading, loaded, or the state that ClickHouse has; ratio 0 to 1."""

    table: str
    destination: str
    history: str
    stream: str
    snapshot: str
    snapshot_ratio: float | None
    lag_seconds: float | None
    headroom_seconds: float | None
    complete_until: float | None
    rows: int | None
    """As ClickHouse counts them, replaced ones included."""
    dead_letters: int | None
    """Those that are open."""
    read_total: float
    written_total: float
    """Since this process started."""
    last_insert: float | None
    plot: Plot


class ShardPart(msgspec.Struct):
    """One shard that is being read. ``silent_seconds``: since Kinesis answered last."""

    stream: str
    shard: str
    lag_seconds: float
    headroom_seconds: float | None
    silent_seconds: float


class Shards(msgspec.Struct):
    """All shards, counted, and the worst of those that are read: least headroom first, then the longest lag."""

    states: dict[str, float] = {}
    read: int = 0
    behind: int = 0
    """More than a minute."""
    expiring: int = 0
    """Of which the oldest unread data expires within the hour."""
    worst: list[ShardPart] = []


class StuckPart(msgspec.Struct):
    """A task that has not moved within its time. ``todo``: what to do."""

    task: str
    seconds: float
    reason: str
    todo: str = ""


class WaitPart(msgspec.Struct):
    """A task that waits on purpose. ``seconds``: for how long still, None where no one knows."""

    task: str
    reason: str
    seconds: float | None


class TroublePart(msgspec.Struct):
    """A warning or an error, as often as it came. ``hint``: what to do."""

    level: str
    event: str
    where: str
    error: str
    hint: str
    count: int
    first_at: float
    last_at: float


class LettersPart(msgspec.Struct):
    """Open dead letters of one table, reason and column, counted. Never what they hold."""

    table: str
    reason: str
    column: str
    count: int
    newest_at: float | None


class GapPart(msgspec.Struct):
    """Changes that were lost and that nothing has brought back yet."""

    table: str
    words: str
    noticed_at: float
    accepted: bool


class MemberPart(msgspec.Struct):
    """One process of the pipeline, as it says of itself in ClickHouse."""

    member: str
    alive: bool
    seen_seconds: float


class WorkerPart(msgspec.Struct):
    """A worker of this daemon. ``state``: running, or why not."""

    worker: int
    state: str


class StoredPart(msgspec.Struct):
    """How fresh the parts are that come from ClickHouse. ``read_at`` 0: never read; ``error``: why not since then."""

    read_at: float = 0.0
    error: str = ""


class Document(msgspec.Struct):
    """Everything. ``state``: starting, healthy or stuck, computed from ages as ``/healthz`` is."""

    version: str
    pipeline: str
    member: str
    now: float
    started_at: float
    state: str
    missing: list[str] = []
    stuck: list[StuckPart] = []
    planned: list[WaitPart] = []
    tables: list[TablePart] = []
    shards: Shards = msgspec.field(default_factory=Shards)
    dead_letters: list[LettersPart] = []
    dead_letters_total: int | None = None
    dead_letters_since_start: int = 0
    gaps: list[GapPart] = []
    gaps_total: int | None = None
    troubles: list[TroublePart] = []
    memory_used_bytes: float = 0.0
    memory_limit_bytes: float = 0.0
    members: list[MemberPart] = []
    workers: list[WorkerPart] = []
    restarts: int = 0
    clickhouse: StoredPart = msgspec.field(default_factory=StoredPart)


def encode(document: Document) -> bytes:
    """As JSON."""
    return msgspec.json.encode(document)


def decode(body: bytes | str) -> Document:
    """From JSON. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(body, type=Document)

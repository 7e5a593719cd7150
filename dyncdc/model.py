"""The nouns that travel through every layer: shards, chunks, blocks, marks.

Values only: no I/O, no asyncio, no third party.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NewType

SourceId = NewType("SourceId", str)
"""Identity of what is read: stream ARN + "@" + creation time in seconds, or an export's ARN. Never reused."""

ShardId = NewType("ShardId", str)
"""Unique inside its source: a Kinesis shard id, or the key of an export's data file."""

Position = NewType("Position", str)
"""Where reading goes on, as text. Only the source that made it reads it; all others compare and store it."""

HORIZON = Position("TRIM_HORIZON")
"""Before the first record that the shard still holds. Children of a reshard and export files always start here."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One ordered sequence with a resumable position: a stream shard, an export file or a scan segment."""

    source: SourceId
    id: ShardId
    parents: frozenset[ShardId] = frozenset()


@dataclass(frozen=True, slots=True)
class RawChunk:
    """What one fetch returned.

    ``end`` is the position after the last record (or the position asked for, when there was none). ``closed``: nothing
    follows, ever; the records of this chunk still count, and ``children`` names the shards that go on. ``read_until``:
    seconds since the epoch by the server's clock: arrival of the last record, or the time of the answer at the tip.
    ``behind_seconds`` is 0 at the tip.
    """

    shard: Shard
    records: Sequence[bytes]
    positions: Sequence[Position]
    """One per record: its own position, for dead letters and the tie-break (decimal sequence number on a stream)."""
    end: Position
    nbytes: int
    read_until: float
    behind_seconds: float = 0.0
    closed: bool = False
    children: tuple[Shard, ...] = ()
    arrived: float = 0.0
    """When the last of its records came into the stream, in seconds since the epoch; 0 where that means nothing."""
    first_arrived: float = 0.0
    """The same of its first record."""
    answered: float = 0.0
    """When the source answered, by its own clock; 0 where nothing expires."""

    @property
    def at_tip(self) -> bool:
        """Whether everything that the shard holds has been returned."""
        return self.behind_seconds <= 0.0


@dataclass(slots=True)
class Block:
    """Rows of one destination table, already as JSON text by column, in delivery order.

    ``cells[i]`` holds the values of ``columns[i]`` as JSON values joined by commas, without brackets. Every value
    must survive ``orjson.loads`` and ``orjson.dumps`` unchanged, so numbers travel as quoted text unless they are
    small ints. ``keys`` (one canonical key per row) and ``versions`` let equal keys be collapsed; ``keys`` is empty for
    tables whose rows never replace each other (dead letters, history).
    """

    table: str
    columns: tuple[str, ...]
    cells: list[bytes]
    rows: int
    keys: list[bytes] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    positions: bytes = b""
    """Position of each row's own record, as ``cells``; empty where rows are not of records (dead letters)."""
    created: float = 0.0
    """Creation time of the newest change in it, in seconds since the epoch; 0 where that means nothing (snapshots)."""
    optional: tuple[str, ...] = ()
    """Columns with a DEFAULT of someone else's: a row with null there is inserted without the column."""

    ROW_OVERHEAD_BYTES = 96
    """What ``keys`` and ``versions`` cost beside their payload: object headers and list slots."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: counted against the budget until the rows are durable."""
        held = sum(map(len, self.cells)) + sum(map(len, self.keys)) + len(self.positions)
        return held + self.rows * Block.ROW_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that became a dead letter. ``ordinal``: which it was among the records that had to become rows."""

    ordinal: int
    position: Position
    table: str
    reason: str
    column: str = ""


@dataclass(slots=True)
class Decoded:
    """What became of a sub-batch of records: blocks for the writer, and what there is to count (never per record)."""

    blocks: list[Block] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)
    """Records by DynamoDB table, unknown tables included."""
    spilled: dict[str, int] = field(default_factory=dict)
    """Values that went to the spill column, by DynamoDB table."""
    snapshot: bool = False
    """Whether the records came from a snapshot."""
    outside: dict[str, int] = field(default_factory=dict)
    """Attributes without a column, by DynamoDB table, where the destination has no spill column."""
    dead: dict[tuple[str, str], int] = field(default_factory=dict)
    """Dead letters by (DynamoDB table or "", reason)."""
    judged: int = 0
    """Records that had to become rows: those of configured tables, and those that do not name their table."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """Which of them became dead letters instead, in order."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a shard is: everything up to ``position`` is durable."""

    position: Position
    read_until: float = 0.0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One row of ``dyncdc_checkpoints``. The greater (epoch, ordinal) wins, but ``finished`` is sticky.

    ``reopened``: a shard that was finished is read again from ``mark`` on; from then on only
    rows of greater rank count. ``saved_at``: by the store's clock, 0 for a row that is not saved yet.
    """

    source: SourceId
    shard: ShardId
    mark: Mark
    epoch: int = 0
    ordinal: int = 0
    member: int = 0
    reopened: bool = False
    saved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class PastMark:
    """One row of ``dyncdc_checkpoint_history``: a mark that was durable at ``saved_at`` (seconds, the store's clock).

    ``begins``: reading began, or began again, at ``mark``: what older rows say of the shard may lie ahead of it.
    ``server``: the id of the server that took the row.
    """

    source: SourceId
    shard: ShardId
    mark: Mark
    epoch: int
    ordinal: int
    begins: bool = False
    server: str = ""
    saved_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """The newest past marks of each shard, oldest first.

    ``last_before``: when the newest of all was saved that a server before this one took, a former process of the same
    included; 0 when there is none.
    """

    marks: Sequence[PastMark] = ()
    last_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """A member has seen at ``noticed_at`` (the store's clock) that what it had been acknowledged is gone."""

    member: int
    noticed_at: float


@dataclass(frozen=True, slots=True)
class Server:
    """The server that holds the rows. ``id``: "" where any of several may answer for the same data.

    ``started_at``: when its process started, in seconds by its own clock; 0 where that says nothing about the data.
    """

    id: str = ""
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What a look at the checkpoints shows: the shards' greatest epoch, and whether our last save is held.

    ``started_at``: as of ``Server``.
    """

    newest_epoch: int
    held: bool = True
    started_at: float = 0.0


SnapshotState = Literal["waiting", "exporting", "loading", "sweeping", "complete", "failed"]
"""``sweeping``: every file is durable, and the keys that it does not hold are being marked as deleted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row of ``dyncdc_snapshots``: one attempt to load one table, written before AWS is asked for anything.

    ``version`` (microseconds) is what its rows carry: export time minus the margin. ``destination_uuid`` is the UUID of
    the ClickHouse table it was made for: a re-created table has another one and needs another snapshot.
    ``covered_from`` is the instant (seconds, server clock) from which the stream is read for the table without a break.
    ``had_rows``: the destination may not have been empty when this snapshot was begun. ``request``: the id of the
    request that it answers. ``epoch``: of the session that wrote this state; that of the greatest counts. ``saved_at``:
    when it did, by the store's clock.
    """

    id: str
    table: str
    state: SnapshotState
    destination_uuid: str
    export_arn: str = ""
    export_time: float = 0.0
    version: int = 0
    segments: int = 0
    covered_from: float = 0.0
    had_rows: bool = False
    request: str = ""
    epoch: int = 0
    saved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """One open row of ``dyncdc_gaps``: changes of ``table`` between two instants (server clock) were lost unread.

    ``source``, ``shard`` and ``position`` say after what they were lost; ``shard`` is "" where it is not one shard.
    ``accepted``: the user took the gap (``accept_gap``); nothing is done about it.
    """

    table: str
    source: str
    shard: str
    begin: float
    end: float
    position: str = ""
    reason: str = ""
    accepted: bool = False
    noticed_at: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells gaps apart: the same loss noticed again is the same gap."""
        return self.table, self.source, self.shard, round(self.begin * 1_000_000)


@dataclass(frozen=True, slots=True)
class Request:
    """One row of ``dyncdc_requests`` that no one has answered yet: someone wants a fresh snapshot of ``table``."""

    id: str
    table: str
    requested_at: float


@dataclass(frozen=True, slots=True)
class TableSource:
    """Which source a table's changes were read from by the session of ``epoch``, which began at ``at`` (seconds).

    ``held``: every shard of the source has had a durable position at the same time, in this session or an earlier one.
    """

    table: str
    source: SourceId
    epoch: int
    at: float
    held: bool = False
    empty: str = ""
    """UUID of the destination that held no rows when the first session that follows the table into it began."""


@dataclass(frozen=True, slots=True)
class Member:
    """One row of ``dyncdc_members``: a process that has a part of a pipeline, number ``member`` of ``members``.

    ``seen_at`` and ``age_seconds`` by the store's own clock. ``tables``: DynamoDB's names of those that it follows.
    ``left``: it has ended in order. ``errors``: by snapshot, why it cannot finish its part of it.
    """

    member: int
    members: int
    epoch: int
    seen_at: float = 0.0
    age_seconds: float = 0.0
    tables: tuple[str, ...] = ()
    left: bool = False
    errors: Mapping[str, str] = field(default_factory=dict)

    def follows(self, tables: Iterable[str]) -> bool:
        """Whether it follows all of these tables."""
        return set(tables) <= set(self.tables)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of an operating system. ``mark`` tells it from every other, however often its number is given out."""

    host: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One row of ``dyncdc_sessions``: one session of a process as ``member`` of ``members``, begun under its ``epoch``.

    ``id`` is random, so that two of one epoch are told apart; of two sessions of a member the greater ``rank`` counts.
    """

    member: int
    members: int
    epoch: int
    id: str
    process: Process = Process()
    began_at: float = 0.0
    """Seconds since the epoch, by the store's own clock."""

    @property
    def rank(self) -> tuple[int, str]:
        """What decides which of two is the later one."""
        return self.epoch, self.id


@dataclass(frozen=True, slots=True)
class Watermark:
    """One row of ``dyncdc_watermarks``: the destination of ``table`` holds all that was made before ``complete_until``.

    So says ``member`` of its own shards; the least over all ``members`` counts, and nothing while one of them is
    missing. ``complete_until`` in seconds since the epoch; None: no instant can be named yet. ``saved_at``: by the
    store's clock.
    """

    table: str
    member: int
    members: int
    complete_until: float | None
    saved_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Export:
    """A DynamoDB export as AWS describes it. ``export_time`` in seconds since the epoch."""

    arn: str
    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    export_time: float
    item_count: int = 0
    failure: str = ""
    segments: int = 0
    """Of a scan; 0 for an export."""

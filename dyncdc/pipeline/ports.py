"""The protocols that adapters implement. Nothing else is pluggable, and nothing here knows a vendor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dyncdc.model import (
    Block,
    Checkpoint,
    Decoded,
    Export,
    Gap,
    Member,
    Past,
    PastMark,
    Position,
    Proof,
    RawChunk,
    Request,
    Rollback,
    Server,
    Session,
    Shard,
    ShardId,
    Snapshot,
    SourceId,
    TableSource,
    Watermark,
)
from dyncdc.pipeline.reading.retention_edge import ObservedRetention
from dyncdc.pipeline.writing.dead_letter_limits import LimitStop


class Source(Protocol):
    """Something that holds shards. ``(shard, position)`` is the truth, iterators and open files a private cache."""

    @property
    def id(self) -> SourceId:
        """What checkpoints are filed under."""

    @property
    def label(self) -> str:
        """Short name for people: the stream's name, or the table's name for a snapshot."""

    @property
    def retention_seconds(self) -> float | None:
        """How long unread data stays, or None when it does not expire while we read."""

    @property
    def server_time(self) -> float:
        """Seconds since the epoch by the server's clock, as of its last answer."""

    @property
    def pause_seconds(self) -> float:
        """Shortest pause between two fetches of one shard."""

    def start_position(self, shard: Shard) -> Position:
        """Where a shard starts when the pipeline has no checkpoint at all for this source."""

    def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        """Yield pages of shards, also closed ones that still hold data. What was yielded stays if a later one fails.

        Raises RetryableError, PositionLostError (the source itself is gone or was re-created), FatalError.
        """

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        """Return what follows ``after``, about ``want_bytes`` of it at most; more is legal when a record is larger.

        Raises RetryableError (throttled, time-out, expired iterator that could not be renewed), PositionLostError,
        CorruptSnapshotError, FatalError (access denied). Cancelling it leaves the shard readable.
        """

    def forget(self, shard: Shard) -> None:
        """Drop the private cache of a shard that is finished or not read any more."""

    async def close(self) -> None:
        """Release connections. Only after every fetch has ended."""


@runtime_checkable
class Rereading(Protocol):
    """A source that can show records again, by their own positions: what a refused row's dead letter needs."""

    def reread(self, shard: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        """Yield the records at ``positions``, which are in read order; those that are gone are left out.

        Beside ``fetch``: neither disturbs the other. Raises RetryableError, PositionLostError, CorruptSnapshotError,
        FatalError; what was yielded stays.
        """


@runtime_checkable
class Expiring(Protocol):
    """A source whose retention can be changed by someone while it is read."""

    @property
    def kept(self) -> ObservedRetention:
        """How long it keeps its records, as of all looks so far: with each list, and on their own."""

    async def look_at_retention(self) -> None:
        """Ask for it now. Raises RetryableError, PositionLostError (the source is gone), FatalError."""


@runtime_checkable
class LargeAnswers(Protocol):
    """A source whose answers may be far larger than what is asked for."""

    @property
    def largest_answer_bytes(self) -> int:
        """How large any answer may be; 0 where they keep to what is asked for, as of the last look."""


class Decoder(Protocol):
    """Bytes of one source into blocks. Pure: no clock, no I/O, the same blocks for the same chunk."""

    @property
    def tables(self) -> Collection[str]:
        """Destination tables it may fill, the dead-letter table included."""

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield sub-batches of a few hundred records; the caller gives the event loop a turn between them."""


class Sink(Protocol):
    """Where blocks become durable."""

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        """Insert one statement's worth of rows; returning means durable.

        ``token`` is equal over retries of the same rows and never otherwise. ``past_views``: what a materialized view
        of the table refuses does not count. Raises RetryableError (which includes "timed out, may have been applied",
        and RefusedError), RejectedRowsError, FatalError.
        """


class CheckpointStore(Protocol):
    """``dyncdc_checkpoints``: append-only."""

    async def load(self) -> Sequence[Checkpoint]:
        """Every shard's winning row of this pipeline, read consistently: greatest rank, ``finished`` sticky."""

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        """Append rows in one insert. Raises RetryableError, FatalError."""

    async def refresh(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        """As ``load``, of these sources only and without waiting for a replica that lags: perhaps behind, never ahead.

        Raises RetryableError, FatalError.
        """

    @property
    def connects(self) -> int:
        """How often a connection was made: over a new one another server may answer, or an older state of one."""

    async def proof(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        """The greatest epoch of these shards, and whether ``last``, one row of our last save, is still there.

        One statement, unless a replica lags: that is waited for. Raises RetryableError, FatalError.
        """

    async def server(self) -> Server:
        """The server that answers."""

    async def remember(self, marks: Sequence[PastMark]) -> None:
        """Append to ``dyncdc_checkpoint_history``, in one insert. The store fills in ``server`` and ``saved_at``.

        Raises RetryableError, FatalError.
        """

    async def past(self, server: Server, rows: int) -> Past:
        """The newest ``rows`` past marks of each shard, in the order of their epochs and ordinals.

        None that is older than a week, so that what is shown of one shard is no older than what is shown of all.
        """

    async def note_rollback(self, member: int) -> None:
        """Append that what this member had been acknowledged is gone, noticed now.

        Raises RetryableError, FatalError.
        """

    async def rollbacks(self) -> Sequence[Rollback]:
        """Those of all members that are no older than the past marks are kept. Raises RetryableError, FatalError."""

    async def server_time(self) -> float:
        """Seconds since the epoch by the store's own clock."""


class MemberStore(Protocol):
    """``dyncdc_members``. Every call raises RetryableError, FatalError."""

    async def members(self) -> Sequence[Member]:
        """The newest row of every member of every assignment: of the greatest epoch, those that have left included."""

    async def save_member(self, member: Member) -> None:
        """Append this process's row, seen now by the store's own clock."""


class SessionStore(Protocol):
    """``dyncdc_sessions``. Every call raises RetryableError, FatalError."""

    async def newest_sessions(self) -> Sequence[Session]:
        """The two sessions of the greatest rank of every member of every assignment, read consistently."""

    async def later_session(self, session: Session) -> Session | None:
        """The session of the greatest rank of the same member, if it is a later one than this."""

    async def save_session(self, session: Session) -> None:
        """Append a session; durable when it returns."""


class SnapshotStore(Protocol):
    """``dyncdc_snapshots``."""

    async def load(self) -> Sequence[Snapshot]:
        """The newest row of every snapshot of this pipeline, oldest snapshot first."""

    async def save(self, snapshot: Snapshot) -> None:
        """Append the snapshot's new state."""

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        """Append to ``dyncdc_gaps``: changes of ``table`` between the two instants (seconds) may be missing."""


class RecoveryStore(Protocol):
    """``dyncdc_gaps``, ``dyncdc_requests``, ``dyncdc_table_sources``. Every call raises RetryableError, FatalError."""

    async def server_time(self) -> float:
        """Seconds since the epoch by the store's own clock."""

    async def open_gaps(self) -> Sequence[Gap]:
        """Every gap that is not recovered, the earliest first."""

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        """Append gaps, as recovered when ``recovered_at`` is given: that stands, up to the end that they have then."""

    async def open_requests(self) -> Sequence[Request]:
        """Every request that is not done, the earliest first."""

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        """Mark requests as done."""

    async def table_sources(self) -> Sequence[TableSource]:
        """For each table, by what session it was followed last."""

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        """Append, before the session reads anything."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One step of a sweep: ``rows`` tombstones written; ``upto``: the last key looked at, None at the table's end."""

    rows: int
    upto: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """One step of a count: of ``live`` items a sweep would mark ``orphans`` as deleted; ``upto`` as in ``Swept``."""

    live: int
    orphans: int
    upto: tuple[str, ...] | None


class OrphanRows(Protocol):
    """Keys of a destination that a later snapshot does not hold. ``table`` is DynamoDB's name."""

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        """What ``sweep`` would do, in the next range of keys behind ``after``. Changes nothing."""

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        """Whether someone has said of a snapshot, or of the request that it answers, that it may delete most items."""

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        """How many items of a snapshot are dead letters that no one has dealt with."""

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        """Mark as deleted what is older than ``version`` (microseconds), in the next range of keys behind ``after``.

        Idempotent. ``after`` is () at first, then what the step before returned.
        """


class Tombstones(Protocol):
    """Old tombstones of destinations, and the limit below which they are gone. ``table`` is DynamoDB's name."""

    async def open_dead_letters(self, table: str) -> int:
        """How many dead letters are open that may be of the table."""

    async def cleaned_before(self, table: str) -> int:
        """The version (microseconds) below which no row may be written any more that is not newer; 0 when any may."""

    async def promise(self, table: str, before: int) -> None:
        """Make that limit durable. It never goes back."""

    async def count(self, table: str, before: int) -> int:
        """How many tombstones are older than ``before``."""

    async def clean(self, table: str, before: int) -> int:
        """Delete keys whose only remaining rows are deletes older than ``before``; return how many keys.

        Idempotent; interrupted at any point, every deleted item stays deleted. Raises RetryableError, FatalError.
        """


class WatermarkStore(Protocol):
    """``dyncdc_watermarks``. Every call raises RetryableError, FatalError."""

    async def load(self) -> Sequence[Watermark]:
        """The newest row of every member of every assignment."""

    async def save(self, rows: Sequence[Watermark]) -> None:
        """Append rows, all of them in one insert."""

    async def open_dead_letters(self) -> Collection[tuple[str, SourceId]]:
        """Tables and sources with open dead letters; a record that names no table has table ""."""


class LimitStopStore(Protocol):
    """What earlier sessions of this pipeline have stopped at, kept among its dead letters."""

    async def open_limit_stops(self) -> Sequence[LimitStop]:
        """Those that no one has closed. Raises RetryableError, FatalError."""

    async def save_limit_stop(self, halt: LimitStop) -> None:
        """Append one. Raises RetryableError, FatalError."""

    async def close_limit_stop(self, halt: LimitStop) -> None:
        """Mark one as done with: its record has become a row. Raises RetryableError, FatalError."""


class Origin(Protocol):
    """The source side of one table's snapshot."""

    async def covered_at(self) -> float | None:
        """Server time (seconds) of an answer that showed the table's streaming destination ACTIVE, else None."""

    async def identity(self) -> str:
        """What tells the table from another one of its name, "" if nothing does. Raises ConfigError if it is gone."""

    async def request_export(self, token: str) -> Export:
        """Start an export; the same token never starts a second one."""

    async def describe_export(self, arn: str) -> Export:
        """The export's present state."""

    async def open_export(self, export: Export, source: SourceId) -> Source:
        """Read and verify the manifests; the answer's shards are its data files, its id is ``source``.

        Raises CorruptSnapshotError when a manifest does not match its checksum or the counts disagree.
        """


class SnapshotDecoders(Protocol):
    """Makes the decoder of one table's snapshot once its version is known."""

    def for_snapshot(self, table: str, version: int) -> Decoder:
        """``version`` in microseconds: what every row of this snapshot carries."""

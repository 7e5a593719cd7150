"""What holds shards and can be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from dyncdc.model.shards import Position, RawChunk, Shard, SourceId
from dyncdc.pipeline.reading.shard.retention.edge import ObservedRetention


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

"""What is read: shards, positions, chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

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

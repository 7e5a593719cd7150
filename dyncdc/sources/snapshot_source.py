"""What the sources of snapshots have in common: data that does not age while it is read."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, SourceId


class SnapshotSource:
    """Base of a source of one table's snapshot. ``label`` is the table's name."""

    def __init__(self, source: SourceId, label: str) -> None:
        self._id = source
        self._label = label

    @property
    def id(self) -> SourceId:
        """What its checkpoints are filed under."""
        return self._id

    @property
    def label(self) -> str:
        """The table's name."""
        return self._label

    @property
    def retention_seconds(self) -> float | None:
        """Nothing expires while we read."""
        return None

    @property
    def server_time(self) -> float:
        """Not known, and not needed: no position grows old."""
        return 0.0

    @property
    def pause_seconds(self) -> float:
        """No pause: the budget sets the pace."""
        return 0.0

    def start_position(self, shard: Shard) -> Position:
        """The beginning."""
        return HORIZON


def snapshot_chunk(
    shard: Shard, records: Sequence[bytes], positions: list[Position], end: Position, *, nbytes: int, closed: bool
) -> RawChunk:
    """Return records of a snapshot as a chunk. How far behind they are is not known, only whether that was all."""
    return RawChunk(
        shard=shard,
        records=records,
        positions=positions,
        end=end,
        nbytes=nbytes,
        read_until=0.0,
        behind_seconds=0.0 if closed else 1.0,
        closed=closed,
    )

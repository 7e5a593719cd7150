"""Saved marks: what the store holds of every shard, as of the start and of the last look. Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.pipeline.recovery.rewind import Key, Rewind


class SavedMarks:
    """The saved mark of each shard, and which shards are saved as finished."""

    def __init__(self) -> None:
        self._marks: dict[SourceId, dict[ShardId, Mark]] = {}
        self._finished: dict[SourceId, set[ShardId]] = {}
        self._ends: dict[Key, float] = {}
        self._epochs: dict[SourceId, int] = {}

    def load(self, rows: Iterable[Checkpoint], rewind: Rewind) -> set[Key]:
        """Take up what the store holds at the start; return the shards that are saved as finished and read again."""
        reopened: set[Key] = set()
        for row in rows:
            mark = rewind.marks.get((row.source, row.shard), row.mark)
            self._marks.setdefault(row.source, {})[row.shard] = mark
            self._epochs[row.source] = max(self._epochs.get(row.source, 0), row.epoch)
            if mark.finished:
                self.finish(row.source, row.shard, mark)
            elif row.mark.finished:
                reopened.add((row.source, row.shard))
        return reopened

    def take(self, rows: Iterable[Checkpoint], rewind: Rewind, ours: Container[Key]) -> tuple[bool, set[SourceId]]:
        """Take up what other members have saved. Return whether anything moved, and sources with a shard that ended."""
        ended: set[SourceId] = set()
        moved = False
        for row in rows:
            if (row.source, row.shard) in ours or row.shard in self.finished(row.source):
                continue
            if rewind.overtakes(row):
                continue  # its owner has not read it again yet
            marks = self._marks.setdefault(row.source, {})
            before = marks.get(row.shard)
            if row.mark.finished:
                self.finish(row.source, row.shard, row.mark)
                ended.add(row.source)
            elif before is not None and before.read_until >= row.mark.read_until:
                continue  # nothing new, or a replica that lags
            marks[row.shard] = row.mark
            moved = True
        return moved, ended

    def finish(self, source: SourceId, shard: ShardId, mark: Mark) -> None:
        """Note that a shard is saved as finished."""
        self._finished.setdefault(source, set()).add(shard)
        self._ends[source, shard] = mark.read_until

    def sources(self) -> Collection[SourceId]:
        """Sources with a saved mark."""
        return self._marks.keys()

    def of(self, source: SourceId) -> Mapping[ShardId, Mark]:
        """The mark of every shard of a source."""
        return self._marks.get(source, {})

    def finished(self, source: SourceId) -> Collection[ShardId]:
        """Shards of a source that are saved as finished."""
        return self._finished.get(source, frozenset())

    def read_until(self, source: SourceId, shard: ShardId) -> float | None:
        """Up to when a finished shard was read; None for any other."""
        return self._ends.get((source, shard))

    def newest_epoch(self, source: SourceId) -> int:
        """The greatest epoch that the store held for a source at the start, 0 when it held none."""
        return self._epochs.get(source, 0)

"""Shard progress: how far every shard of the pipeline is read and saved. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import Shard, ShardId, SourceId
from dyncdc.pipeline.recovery.rewind import Key, Rewind

from .ledger import ShardLedger
from .saved_marks import SavedMarks


class ShardProgress:
    """The ledgers of the shards that are read here, beside what the store holds of all shards."""

    def __init__(self) -> None:
        self.ledgers: dict[tuple[SourceId, ShardId], ShardLedger] = {}
        self.rewind = Rewind()
        """What is read again, for the server may have lost what came of it."""
        self.save_wanted = asyncio.Event()
        """Set where a save should not wait for the next interval."""
        self._saved = SavedMarks()
        self._reopened: set[Key] = set()
        """Shards that are read again and saved as finished."""
        self._on_saved: list[Callable[[], None]] = []

    def load(self, rows: Iterable[Checkpoint], rewind: Rewind) -> None:
        """Take up what the store holds at the start, and what of it is read again."""
        self.rewind = rewind
        self._reopened.update(self._saved.load(rows, rewind))

    def take(self, rows: Iterable[Checkpoint]) -> tuple[bool, set[SourceId]]:
        """Take up what other members have saved. Return whether anything moved, and sources with a shard that ended."""
        return self._saved.take(rows, self.rewind, self.ledgers)

    def on_saved(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every save that wrote something: shards may have been persisted as finished."""
        self._on_saved.append(callback)

    def notify_saved(self) -> None:
        """Call what waits for saves, this member's or another's."""
        for callback in self._on_saved:
            callback()

    def saved(self, source: SourceId) -> Mapping[ShardId, Mark]:
        """What the store held for a source at the start; of shards that are not read here, at the last look."""
        return self._saved.of(source)

    def known_shards(self, source: SourceId) -> set[ShardId]:
        """Every shard of a source that has a row, or is about to get one."""
        return {
            *self.saved(source),
            *self.finished(source),
            *(shard for owner, shard in self.ledgers if owner == source),
        }

    def newest_epoch(self, source: SourceId) -> int:
        """The greatest epoch that the store held for a source at the start, 0 when it held none."""
        return self._saved.newest_epoch(source)

    def checkpointed(self, source: SourceId) -> bool:
        """Whether every shard that is followed has a row: from here on nothing of the source can be forgotten."""
        return all(ledger.persisted is not None for ledger in self.ledgers.values() if ledger.shard.source == source)

    def finished(self, source: SourceId) -> Collection[ShardId]:
        """Shards of a source that are persisted as finished."""
        return self._saved.finished(source)

    def read_until(self, source: SourceId, shard: ShardId) -> float | None:
        """Up to when a finished shard was read, and so what its children have not lost; None for any other."""
        return self._saved.read_until(source, shard)

    def is_reopened(self, key: Key) -> bool:
        """Whether a shard is read again and still saved as finished."""
        return key in self._reopened

    def open(self, shard: Shard, start: Mark) -> ShardLedger:
        """Begin to follow a shard. Its first row is written by the next save, before anything else is known of it."""
        # What is read again has a row only once it is saved again.
        persisted = None if (shard.source, shard.id) in self.rewind.marks else self.saved(shard.source).get(shard.id)
        return self._follow(shard, start, persisted)

    def restart(self, shard: Shard, start: Mark) -> None:
        """Follow a shard from elsewhere: what lay before is lost, and a durable gap says so. No one may be reading it.

        Until that is saved the shard counts as not held.
        """
        self._follow(shard, start, None)

    def _follow(self, shard: Shard, start: Mark, persisted: Mark | None) -> ShardLedger:
        ledger = ShardLedger(shard, start, persisted=persisted, on_finished=self.save_wanted.set)
        self.ledgers[shard.source, shard.id] = ledger
        self.save_wanted.set()
        return ledger

    def settle(self, ledger: ShardLedger, mark: Mark) -> None:
        """Note what the store holds of a shard. For the checkpointer only, once a save has returned."""
        key = ledger.shard.source, ledger.shard.id
        ledger.persisted = mark
        self._reopened.discard(key)
        if mark.finished:
            self._saved.finish(*key, mark)
            self.ledgers.pop(key, None)

    def abandon(self, source: SourceId) -> None:
        """Stop following the shards of a source that no one reads any more."""
        for owner, shard in [key for key in self.ledgers if key[0] == source]:
            del self.ledgers[owner, shard]

    def positions(self, source: SourceId) -> dict[ShardId, Mark]:
        """The newest durable mark of every shard of a source that is not finished."""
        marks = dict(self.saved(source))
        for (owner, shard), ledger in self.ledgers.items():
            if owner == source and ledger.persisted is not None:
                marks[shard] = ledger.persisted
        return {shard: mark for shard, mark in marks.items() if shard not in self.finished(source)}

"""Save schedule: which shards the next save writes. Pure."""

from __future__ import annotations

from dyncdc.model.shards import SourceId
from dyncdc.pipeline.recovery.rewind import Key

from .ledger import ShardLedger

HEARTBEAT_SECONDS = 60.0
"""An idle shard gets a row this often: ``read_until`` is what tells a quiet shard from a lost position."""


class SaveSchedule:
    """When each shard was saved last. All times are loop times."""

    def __init__(self) -> None:
        self._saved_at: dict[Key, float] = {}
        self._wanted: set[SourceId] = set()
        """Sources whose next save is not for the heartbeat to decide."""

    def want(self, source: SourceId) -> None:
        """Save with the next save how far every shard of a source is read."""
        self._wanted.add(source)

    def begin(self) -> None:
        """Note that a save of all that is due begins."""
        self._wanted.clear()

    def is_due(self, ledger: ShardLedger, now: float) -> bool:
        """Whether a shard has moved, or is due for its heartbeat."""
        mark, before = ledger.frontier, ledger.persisted
        if before is None or mark.position != before.position or mark.finished != before.finished:
            return True
        if ledger.shard.source in self._wanted and mark.read_until != before.read_until:
            return True
        saved_at = self._saved_at.get((ledger.shard.source, ledger.shard.id), -HEARTBEAT_SECONDS)
        return mark.read_until != before.read_until and now - saved_at >= HEARTBEAT_SECONDS

    def saved(self, key: Key, now: float, *, finished: bool) -> None:
        """Note that a shard was saved. One that is finished is not saved again."""
        if finished:
            self._saved_at.pop(key, None)
        else:
            self._saved_at[key] = now

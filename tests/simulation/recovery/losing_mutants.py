"""Bugs planted one at a time where losses are noticed and made good: lives that lose positions must notice each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.orphan_rows import Swept
from dyncdc.pipeline.reading.shard.retention.edge import RetentionEdge
from dyncdc.pipeline.reading.shard_losses import ShardLosses
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.snapshot import next_snapshot

from .losing import LossyGhosts


def lost_positions_read_on(patch: pytest.MonkeyPatch) -> None:
    """No one looks whether a position can still be read; Kinesis goes on at the horizon without a word."""
    patch.setattr(ShardLosses, "expired", lambda self, marks, present: [])
    patch.setattr(RetentionEdge, "hole", lambda self, chunk, kept: None)


def any_snapshot_closes_a_gap(patch: pytest.MonkeyPatch) -> None:
    """Whatever snapshot is there is good enough."""

    def needs_snapshot(snapshot: Snapshot, gaps: Sequence[Gap]) -> bool:
        return False

    async def completed(self: Recovery, snapshot: Snapshot) -> None:
        healed = [gap for gap in self._gaps.all() if gap.table == snapshot.table]
        await self._retry(lambda: self._store.save_gaps(healed, recovered_at=1.0))
        for gap in healed:
            del self._gaps._gaps[gap.key]
        requests = self._requests
        await self._retry(lambda: self._store.finish_requests(list(requests._open.values()), 1.0))
        requests._closed.update(requests._open)
        requests._open.clear()

    patch.setattr(next_snapshot, "needs_snapshot", needs_snapshot)
    patch.setattr(Recovery, "completed", completed)


def ghosts_stay(patch: pytest.MonkeyPatch) -> None:
    """What a later snapshot does not hold is left where it is."""

    async def sweep(self: LossyGhosts, *_: Any) -> Swept:
        return Swept(0, None)

    patch.setattr(LossyGhosts, "sweep", sweep)


def stream_never_followed_before(patch: pytest.MonkeyPatch) -> None:
    """A stream that was recreated is read like one that was never read."""
    original = Recovery.begin

    async def begin(self: Recovery, *arguments: Any) -> None:
        followed = self._store.table_sources

        async def nothing() -> list[Any]:
            await followed()
            return []

        vars(self._store)["table_sources"] = nothing
        await original(self, *arguments)

    patch.setattr(Recovery, "begin", begin)


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (
    lost_positions_read_on,
    any_snapshot_closes_a_gap,
    ghosts_stay,
    stream_never_followed_before,
)

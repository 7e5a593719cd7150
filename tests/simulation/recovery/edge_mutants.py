"""Bugs planted one at a time where the edge of the retention is watched: shards that fall off it must notice each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dyncdc.model.shards import RawChunk
from dyncdc.pipeline.reading.shard.retention.edge import Hole, ObservedRetention, RetentionEdge
from dyncdc.pipeline.reading.shard.retention.expiry import ExpiryWatch


def expired_while_reading_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only who begins to read, or has stopped, looks whether something has expired."""
    patch.setattr(RetentionEdge, "hole", lambda self, chunk, kept: None)


def gap_begins_too_late(patch: pytest.MonkeyPatch) -> None:
    """The gap begins where reading goes on."""
    hole = RetentionEdge.hole

    def late(self: RetentionEdge, chunk: RawChunk, kept: ObservedRetention) -> Hole | None:
        found = hole(self, chunk, kept)
        return found and replace(found, begin=max(found.begin, chunk.first_arrived))

    patch.setattr(RetentionEdge, "hole", late)


def gap_ends_too_early(patch: pytest.MonkeyPatch) -> None:
    """The gap ends where the horizon was when the position was read."""
    hole = RetentionEdge.hole

    def early(self: RetentionEdge, chunk: RawChunk, kept: ObservedRetention) -> Hole | None:
        found = hole(self, chunk, kept)
        return found and replace(found, end=found.begin)

    patch.setattr(RetentionEdge, "hole", early)


def retention_believed(patch: pytest.MonkeyPatch) -> None:
    """The retention is what the last list said, whatever the records say."""

    async def looked_again(self: ExpiryWatch, chunk: RawChunk, hole: Hole | None) -> bool:
        return False

    patch.setattr(ExpiryWatch, "_looked_again", looked_again)


def increase_brings_records_back(patch: pytest.MonkeyPatch) -> None:
    """What had expired before the retention was increased is taken for kept."""
    patch.setattr(ObservedRetention, "seen", lambda self, seconds, now: ObservedRetention(seconds, 0.0, self.looks + 1))


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (
    expired_while_reading_ignored,
    gap_begins_too_late,
    gap_ends_too_early,
    retention_believed,
    increase_brings_records_back,
)

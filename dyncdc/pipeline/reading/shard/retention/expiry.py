"""Expiry: what of a shard had expired before it was read becomes a gap, before reading goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import Position, RawChunk, Shard
from dyncdc.pipeline.ports.source import Expiring, Source
from dyncdc.telemetry.task_health import TaskProgress

from .edge import Hole, ObservedRetention, RetentionEdge

OnHole = Callable[[Shard, Mark, Hole], Awaitable[None]]
"""Makes a hole durable as a gap. The mark: up to where the shard was read before it."""

LOOK_AGAIN_SECONDS = 30.0
"""A shard at the edge of the retention loses something with each answer: not each is worth a look at the retention."""


class ExpiryWatch:
    """Compares the answers of one shard, which was ``read_until`` then, with the source's retention."""

    def __init__(self, source: Source, shard: Shard, read_until: float, on_hole: OnHole | None) -> None:
        self._source = source
        self._shard = shard
        self._on_hole = on_hole
        self._expiring = source if isinstance(source, Expiring) else None
        self._edge = RetentionEdge(read_until)
        self._looked_at = float("-inf")

    async def check(self, chunk: RawChunk, after: Position, task: TaskProgress) -> RawChunk:
        """Record what had expired before this answer, before anything of the answer counts as read.

        ``after``: what was asked for. Returns the answer, with a ``read_until`` that is proven.
        """
        hole = self._hole(chunk)
        if await self._looked_again(chunk, hole):
            hole = self._hole(chunk)
        if hole is not None and self._on_hole is not None:
            task.waiting_for("ClickHouse to take the gap")
            await self._on_hole(self._shard, Mark(after, hole.begin), hole)
        self._edge.passed(chunk, hole)
        if not self._edge.describe(chunk) and self._edge.read_until:  # an empty one proves nothing new
            return replace(chunk, read_until=min(chunk.read_until, self._edge.read_until))
        return chunk

    def _hole(self, chunk: RawChunk) -> Hole | None:
        kept = self._kept
        return None if kept is None else self._edge.hole(chunk, kept)

    @property
    def _kept(self) -> ObservedRetention | None:
        if self._expiring is not None:
            return self._expiring.kept
        seconds = self._source.retention_seconds
        return None if seconds is None else ObservedRetention(seconds)

    async def _looked_again(self, chunk: RawChunk, hole: Hole | None) -> bool:
        """Look at the retention where it decides: it may have been increased, or decreased, since the last list."""
        now = asyncio.get_running_loop().time()
        seen = hole is not None and now - self._looked_at > LOOK_AGAIN_SECONDS
        if self._expiring is None or not (seen or self._edge.in_doubt(chunk)):
            return False
        await self._expiring.look_at_retention()
        self._looked_at = now
        return True

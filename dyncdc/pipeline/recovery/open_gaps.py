"""Open gaps: durable before anything else happens, and until a snapshot has closed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.runtime import Instruments, ShownRetrier

from .gaps import closes, in_words

Key = tuple[str, str, str, int]


class OpenGaps:
    """The gaps of this session that no snapshot has closed. ``on_gap`` gets the table of each that is new or larger."""

    def __init__(
        self, store: RecoveryStore, instruments: Instruments, retry: ShownRetrier, on_gap: Callable[[str], None]
    ) -> None:
        self._store = store
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._retry = retry
        self._on_gap = on_gap
        self._gaps: dict[Key, Gap] = {}
        self._recovered: dict[Key, float] = {}
        """Gaps that this session has closed, and where they ended: a look that was under way may still show them."""

    async def load(self) -> None:
        """Take up what earlier sessions have left."""
        self._gaps = {gap.key: gap for gap in await self._retry(self._store.open_gaps)}

    def all(self) -> list[Gap]:
        """All open gaps, accepted ones included."""
        return list(self._gaps.values())

    def unaccepted(self) -> Iterable[Gap]:
        """The open gaps that a snapshot has to close."""
        return (gap for gap in self._gaps.values() if not gap.accepted)

    async def record(self, gaps: Sequence[Gap]) -> None:
        """Make gaps durable, then report them."""
        if not gaps:
            return
        now = await self._retry(self._store.server_time)
        stamped = [
            replace(gap, noticed_at=self._gaps[gap.key].noticed_at if gap.key in self._gaps else now) for gap in gaps
        ]
        await self._retry(lambda: self._store.save_gaps(stamped))
        for gap in stamped:
            if gap.key not in self._gaps:
                self._metrics.tables.gaps.labels(gap.table).inc()
                self._health.log_error(
                    "position lost", table=gap.table, shard=gap.shard, position=gap.position, gap=in_words(gap)
                )
            self._gaps[gap.key] = gap
            self._on_gap(gap.table)

    async def adopt(self, *, closed_elsewhere: bool) -> None:
        """Take up what the other members have noticed; with ``closed_elsewhere``, forget what is closed by now."""
        before = set(self._gaps)
        gaps = {gap.key: gap for gap in await self._retry(self._store.open_gaps)}
        for gap in gaps.values():
            ours = self._gaps.get(gap.key)
            if (ours is None or ours.end < gap.end) and self._recovered.get(gap.key, -1.0) < gap.end:
                self._gaps[gap.key] = gap
                self._on_gap(gap.table)
        if closed_elsewhere:
            for key in before - gaps.keys():
                self._gaps.pop(key, None)

    def closed_by(self, snapshot: Snapshot) -> list[Gap]:
        """The gaps that a complete snapshot closes."""
        return [
            gap
            for gap in self._gaps.values()
            if gap.table == snapshot.table and closes(snapshot, gap) and gap.source != snapshot.export_arn
        ]

    def close(self, closed: Sequence[Gap], snapshot: Snapshot) -> None:
        """Forget gaps that are durably closed, up to the end that they have there."""
        for gap in closed:
            self._recovered[gap.key] = gap.end
            if self._gaps.get(gap.key) != gap:
                continue  # it has gone on meanwhile: another snapshot has to close the rest
            del self._gaps[gap.key]
            self._health.log_info("gap recovered", table=gap.table, shard=gap.shard, snapshot=snapshot.id)

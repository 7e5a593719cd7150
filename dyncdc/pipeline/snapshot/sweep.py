"""Sweep: marks rows missing from a re-snapshot as deleted. Never before its last file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from dyncdc.errors import CorruptSnapshotError
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.orphan_rows import OrphanRows
from dyncdc.pipeline.runtime import Instruments
from dyncdc.telemetry.task_health import TaskProgress

from .plan import Coverage, Journal

STREAM_POLL_SECONDS = 0.5
LETTERS_POLL_SECONDS = 5.0
"""Pause between two looks at a snapshot's dead letters, or at what a person has accepted."""

FEW_ITEMS = 100
"""So many items, or less than half of all, are marked as deleted without asking."""


class SnapshotSweep:
    """The state ``sweeping`` of a table's snapshots. ``blocked`` is told why it cannot go on, and None once it can."""

    def __init__(
        self,
        orphan_rows: OrphanRows,
        journal: Journal,
        coverage: Coverage,
        instruments: Instruments,
        blocked: Callable[[CorruptSnapshotError | None, TaskProgress], None],
    ) -> None:
        self._orphan_rows = orphan_rows
        self._journal = journal
        self._coverage = coverage
        self._instruments = instruments
        self._blocked = blocked

    async def run(self, snapshot: Snapshot, task: TaskProgress, superseded: Callable[[], bool]) -> bool:
        """Mark as deleted what the snapshot does not hold. Only after every file of it is persisted as finished.

        False when it would be most of the items, no one has said that it may, and another snapshot is ``superseded``
        by a wish for another one.

        A change older than the snapshot must not arrive after the sweep, so the stream is read past it first.
        """
        while not self._coverage.read_past(snapshot.version / 1_000_000):
            task.moved()
            task.waiting_for("the stream to be read up to the snapshot")
            await asyncio.sleep(STREAM_POLL_SECONDS)
        await self._no_dead_letters(snapshot, task)
        if not await self._allowed(snapshot, task, superseded):
            return False
        rows = 0
        after: tuple[str, ...] | None = ()
        while after is not None:
            task.waiting_for("ClickHouse to mark deleted items")
            step = partial(self._orphan_rows.sweep, snapshot.table, snapshot.version, after)
            swept = await self._journal.retry(step)
            rows, after = rows + swept.rows, swept.upto
            task.moved()
        self._instruments.health.log_info("deleted items swept", table=snapshot.table, rows=rows, id=snapshot.id)
        return True

    async def _allowed(self, snapshot: Snapshot, task: TaskProgress, superseded: Callable[[], bool]) -> bool:
        """Wait for a person before most items are marked as deleted: the wrong source, or an emptied one, looks so."""
        if await self._accepted(snapshot):
            return True
        live, orphans = await self._count(snapshot, task)
        if orphans <= FEW_ITEMS or 2 * orphans <= live:
            return True
        error = CorruptSnapshotError(
            f"loading {snapshot.table}: its snapshot lacks {orphans:,} of the {live:,} items in the destination, and"
            f" nothing is marked as deleted until `dyncdc snapshot {snapshot.table} --accept-deletes` says so",
            hint=f"if they are not to go, fix the table in DynamoDB and run `dyncdc snapshot {snapshot.table}`",
        )
        self._blocked(error, task)
        allowed = False
        while not allowed and not superseded():
            await asyncio.sleep(LETTERS_POLL_SECONDS)
            allowed = await self._accepted(snapshot)
        self._blocked(None, task)
        return allowed

    async def _accepted(self, snapshot: Snapshot) -> bool:
        return await self._journal.retry(lambda: self._orphan_rows.accepted(SourceId(snapshot.id), snapshot.request))

    async def _count(self, snapshot: Snapshot, task: TaskProgress) -> tuple[int, int]:
        live = orphans = 0
        after: tuple[str, ...] | None = ()
        while after is not None:
            task.waiting_for("ClickHouse to count deleted items")
            step = partial(self._orphan_rows.count, snapshot.table, snapshot.version, after)
            counted = await self._journal.retry(step)
            live, orphans, after = live + counted.live, orphans + counted.orphans, counted.upto
            task.moved()
        return live, orphans

    async def _no_dead_letters(self, snapshot: Snapshot, task: TaskProgress) -> None:
        """Wait until no item of the snapshot is a dead letter: its key would look deleted."""
        told = False
        while dead_letters := await self._journal.retry(
            lambda: self._orphan_rows.open_dead_letters(SourceId(snapshot.id))
        ):
            if not told:
                error = CorruptSnapshotError(
                    f"loading {snapshot.table}: {dead_letters:,} items of its snapshot are dead letters, so nothing is"
                    " taken for deleted yet",
                    hint="replay them, or drop them: an item that was dropped then counts as deleted (`dyncdc"
                    " dead-letters list`); the snapshot completes by itself",
                )
                self._blocked(error, task)
                told = True
            await asyncio.sleep(LETTERS_POLL_SECONDS)
        if told:
            self._blocked(None, task)

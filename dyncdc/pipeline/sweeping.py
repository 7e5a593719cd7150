"""Sweeping: the end of a later snapshot, when what it does not hold counts as deleted. Never before its last file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from ..errors import CorruptSnapshotError
from ..model import Snapshot, SourceId
from ..telemetry.progress import TaskProgress
from .ports import Ghosts
from .pump import Engine
from .snapshot_plan import Coverage, Journal

STREAM_POLL_SECONDS = 0.5
LETTERS_POLL_SECONDS = 5.0
"""Pause between two looks at a snapshot's dead letters."""


class Sweeping:
    """The state ``sweeping`` of a table's snapshots. ``blocked`` is told why it cannot go on, and None once it can."""

    def __init__(
        self,
        ghosts: Ghosts,
        journal: Journal,
        coverage: Coverage,
        engine: Engine,
        blocked: Callable[[CorruptSnapshotError | None, TaskProgress], None],
    ) -> None:
        self._ghosts = ghosts
        self._journal = journal
        self._coverage = coverage
        self._engine = engine
        self._blocked = blocked

    async def run(self, snapshot: Snapshot, task: TaskProgress) -> None:
        """Mark as deleted what the snapshot does not hold. Only after every file of it is persisted as finished.

        A change older than the snapshot must not arrive after the sweep, so the stream is read past it first.
        """
        while not self._coverage.read_past(snapshot.version / 1_000_000):
            task.moved()
            task.waiting_for("the stream to be read up to the snapshot")
            await asyncio.sleep(STREAM_POLL_SECONDS)
        await self._no_letters(snapshot, task)
        rows = 0
        after: tuple[str, ...] | None = ()
        while after is not None:
            task.waiting_for("ClickHouse to mark deleted items")
            step = partial(self._ghosts.sweep, snapshot.table, snapshot.version, after)
            swept = await self._journal.retry(step)
            rows, after = rows + swept.rows, swept.upto
            task.moved()
        self._engine.progress.tell("deleted items swept", table=snapshot.table, rows=rows, id=snapshot.id)

    async def _no_letters(self, snapshot: Snapshot, task: TaskProgress) -> None:
        """Wait until no item of the snapshot is a dead letter: its key would look deleted."""
        told = False
        while letters := await self._journal.retry(lambda: self._ghosts.open_letters(SourceId(snapshot.id))):
            if not told:
                error = CorruptSnapshotError(
                    f"loading {snapshot.table}: {letters:,} items of its snapshot are dead letters, so nothing is"
                    " taken for deleted yet",
                    hint="replay them, or drop them: an item that was dropped then counts as deleted (`dyncdc"
                    " dead-letters list`); the snapshot completes by itself",
                )
                self._blocked(error, task)
                told = True
            await asyncio.sleep(LETTERS_POLL_SECONDS)
        if told:
            self._blocked(None, task)

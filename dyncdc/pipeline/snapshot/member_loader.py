"""Loads a member's part of the snapshots that member 0 begins. It follows their states and writes none."""

from __future__ import annotations

import asyncio

from dyncdc.errors import CorruptSnapshotError, DyncdcError
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.session.services import Services, SnapshotTask
from dyncdc.telemetry.task_health import TaskProgress

from .load import Loaded, SnapshotLoad
from .next_snapshot import choose

NOTHING_LOADED = Loaded(0, 0, 0, ())
LOOK_SECONDS = 1.0
"""Pause between two looks at the snapshots of a table: one small query."""


class MemberLoader:
    """What ``SnapshotLoader`` is for member 0, for all others and one table."""

    def __init__(
        self,
        task: SnapshotTask,
        load: SnapshotLoad,
        readers: ReaderPool,
        services: Services,
    ) -> None:
        self._plan = task.plan
        self._stream = task.stream.id
        self._journal = load.journal
        self._load = load
        self._readers = readers
        self._instruments = services.instruments
        self._checkpointer = services.checkpointer
        self._recovery = services.recovery
        self._membership = services.membership
        self.ended = asyncio.Event()
        """Set while nothing is left to load, as far as can be seen, or when our part failed: see ``failure``."""
        self.failure: DyncdcError | None = None

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return self._plan.task

    @property
    def idle(self) -> bool:
        """Whether nothing is left to load."""
        return self.ended.is_set()

    async def run(self) -> None:
        """Load this member's files of one snapshot after the other, until cancelled."""
        with self._instruments.health.task(self.name) as task:
            while True:
                task.waiting_for("ClickHouse to show the snapshots")
                newest = await self._look()
                task.moved()
                if newest is not None and newest.state == "loading":
                    await self._help(newest, task)
                    continue
                if newest is not None and newest.state == "sweeping":
                    self._checkpointer.heartbeat(self._stream)  # it waits for the stream to be read past the snapshot
                task.waiting_for("member 0 to begin a snapshot", for_seconds=LOOK_SECONDS)
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> Snapshot | None:
        known = await self._journal.load(self._plan)
        choice = choose(known, self._recovery.gaps(self._plan.table), self._recovery.request(self._plan.table))
        if choice.done:
            self._instruments.metrics.snapshot_progress(self._plan.table, 1.0)
            self.ended.set()
        else:
            self.ended.clear()
        return known[-1] if known else None

    async def _help(self, snapshot: Snapshot, task: TaskProgress) -> None:
        """Read our files until member 0 has gone on: to the next state, or to another snapshot."""
        source = SourceId(snapshot.id)

        async def over(loaded: Loaded) -> bool:
            if loaded.broken and not loaded.mine:
                self._fail(snapshot, loaded.broken[0], task)
            newest = await self._look()
            return newest is None or (newest.id, newest.state) != (snapshot.id, "loading")

        try:
            await self._load.run(snapshot, task, over)
        except CorruptSnapshotError as error:
            self._fail(snapshot, error, task)
            while not await over(NOTHING_LOADED):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(LOOK_SECONDS)
        self._readers.abandon(source)
        if self.failure is not None:
            self._membership.report(source, "")
            self.failure = None
            task.failed("")

    def _fail(self, snapshot: Snapshot, error: CorruptSnapshotError, task: TaskProgress) -> None:
        """Say what is wrong once: to health, to the log, and to member 0."""
        self.ended.set()
        if self.failure is not None:
            return
        self.failure = error
        self._instruments.metrics.error("snapshot", error)
        self._instruments.health.log_retry(self.name, error, None)
        task.failed(str(error))
        self._membership.report(SourceId(snapshot.id), str(error))

"""SnapshotLoader: loads one table, and again when that is wanted, one snapshot after the other.

Every step is durable before the next. Which snapshot is wanted is decided in ``choice``. In member 0 only; what the
others do is in ``member_loader``.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

from dyncdc.errors import CorruptSnapshotError, DyncdcError
from dyncdc.model.gaps import Gap, Request
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.orphan_rows import OrphanRows
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.session.services import Services, SnapshotTask
from dyncdc.telemetry.task_health import TaskProgress

from .export import SnapshotExport
from .load import Loaded, SnapshotLoad
from .next_snapshot import choose, version_floor
from .plan import Coverage, SnapshotPlan
from .sweep import SnapshotSweep

__all__ = ["SnapshotLoader", "SnapshotPlan"]


class SnapshotLoader:
    """Loads one table, and again when that is wanted. Runs beside the stream; files are shards without parents."""

    def __init__(
        self,
        task: SnapshotTask,
        load: SnapshotLoad,
        readers: ReaderPool,
        coverage: Coverage,
        orphan_rows: OrphanRows,
        services: Services,
    ) -> None:
        self._plan = task.plan
        self._load = load
        self._readers = readers
        self._instruments = services.instruments
        self._recovery = services.recovery
        self._membership = services.membership
        self._export = SnapshotExport(task.plan, task.origin, load.journal, coverage, services.recovery)
        self._sweep = SnapshotSweep(orphan_rows, load.journal, coverage, services.instruments, self._blocked)
        self._version_floor = 0
        self._known_reasons: set[Request | Gap] = set()
        self.ended = asyncio.Event()
        """Set while nothing is left to load, or when that failed: then ``failure`` says why."""
        self.failure: DyncdcError | None = None

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return self._plan.task

    @property
    def idle(self) -> bool:
        """Whether nothing is left to load, as far as is known, or it has failed."""
        return self.ended.is_set() and not self._recovery.wanted(self._plan.table).is_set()

    async def run(self) -> None:
        """Load the table whenever that is wanted, from wherever a former session left it, until cancelled.

        A snapshot that fails for good stays unfinished, named by health, until someone asks for another, or more is
        lost.
        """
        wanted = self._recovery.wanted(self._plan.table)
        while True:
            wanted.clear()
            with self._instruments.health.task(self.name) as task:
                try:
                    await self._serve(task)
                except CorruptSnapshotError as error:
                    self._fail(error, task)
                    await self._asked_again(wanted)  # the stream goes on
                    continue
            self.ended.set()
            await wanted.wait()
            self.ended.clear()

    def _fail(self, error: CorruptSnapshotError, task: TaskProgress) -> None:
        self.failure = error
        self._instruments.metrics.error("snapshot", error)
        self._instruments.health.log_retry(self.name, error, None)
        task.failed(str(error))
        self.ended.set()

    def _blocked(self, error: CorruptSnapshotError | None, task: TaskProgress) -> None:
        """The snapshot cannot be completed until a person acts; or, with None, that has happened."""
        if error is not None:
            self._fail(error, task)
            return
        if self.failure is None:
            return
        self.failure = None
        self.ended.clear()
        task.failed("")

    async def _asked_again(self, wanted: asyncio.Event) -> None:
        """Wait for a reason for another snapshot than the one that has failed had, and give that one up."""
        before = self._reasons()
        while self._reasons() <= before:
            await wanted.wait()
            wanted.clear()
        for snapshot in (await self._load.journal.load(self._plan))[-1:]:
            if snapshot.state != "complete":
                await self._load.journal.save(replace(snapshot, state="failed"))
            self._readers.abandon(SourceId(snapshot.id))
        self.failure = None
        self.ended.clear()

    def _reasons(self) -> set[Request | Gap]:
        request = self._recovery.request(self._plan.table)
        return {*self._recovery.gaps(self._plan.table), *([request] if request is not None else ())}

    async def _serve(self, task: TaskProgress) -> None:
        """Bring one snapshot after the other to its end, until no other is wanted."""
        while True:
            snapshot = await self._next()
            if snapshot is None:
                self._instruments.metrics.snapshot_progress(self._plan.table, 1.0)
                return
            brought = await self._bring_to_end(snapshot, task)
            if brought is not None:
                await self._recovery.completed(brought)

    async def _next(self) -> Snapshot | None:
        """Return the snapshot to go on with, begun if need be; None when the table has all that is wanted."""
        table, known = self._plan.table, await self._known()
        request, gaps = self._recovery.request(table), self._recovery.gaps(table)
        choice = choose(known, gaps, request)
        if choice.complete is not None:
            await self._recovery.completed(choice.complete)  # a session may have ended between the two
            request = self._recovery.request(table)
            choice = choose(known, self._recovery.gaps(table), request)
        if choice.done:
            return None
        if choice.superseded is not None:
            await self._load.journal.save(replace(choice.superseded, state="failed"))
        snapshot = choice.go_on
        if snapshot is None:
            # Rows that came from the stream since this pipeline began, through any member, are no rows of before.
            had_rows = self._plan.had_rows and not self._recovery.was_empty(table, self._plan.destination_uuid)
            had_rows = had_rows or bool(known) or bool(gaps) or self._recovery.was_followed(table)
            snapshot = Snapshot(uuid.uuid4().hex, table, "waiting", self._plan.destination_uuid, had_rows=had_rows)
            if request is not None:
                snapshot = replace(snapshot, had_rows=True, request=request.id)
        if snapshot not in known:
            await self._load.journal.save(snapshot)
        self._version_floor = version_floor(known, snapshot)
        return snapshot

    async def _known(self) -> list[Snapshot]:
        """All snapshots of the destination, the oldest first, each as far as it surely is."""
        known = await self._load.journal.load(self._plan)
        if known and (checked := self._load.checked(known[-1])) != known[-1]:
            await self._load.journal.save(checked)
            known[-1] = checked
        self._load.journal.judged(self._plan)
        return known

    async def _bring_to_end(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot | None:
        """Return the complete snapshot; None when it was given up for another."""
        snapshot = await self._export.run(snapshot, self._version_floor, task)
        if snapshot.state == "loading":
            if not await self._load_files(snapshot, task):
                await self._load.journal.save(replace(snapshot, state="failed"))
                self._readers.abandon(SourceId(snapshot.id))
                return None
            # An empty destination has no orphan rows: what is in it came from the snapshot or from changes after it.
            sweeps = self._plan.sweeps and snapshot.had_rows
            snapshot = replace(snapshot, state="sweeping" if sweeps else "complete")
            await self._load.journal.save(snapshot)
        if snapshot.state == "sweeping":
            known = self._reasons()
            if not await self._sweep.run(snapshot, task, lambda: not self._reasons() <= known):
                await self._load.journal.save(replace(snapshot, state="failed"))
                self._readers.abandon(SourceId(snapshot.id))
                return None
            snapshot = replace(snapshot, state="complete")
            await self._load.journal.save(snapshot)
        return snapshot

    async def _load_files(self, snapshot: Snapshot, task: TaskProgress) -> bool:
        """Load every file that is not persisted as finished; return when all are, of all members.

        False when this snapshot cannot be completed by another member, and someone has asked for another.
        """
        complete = False

        async def is_done(loaded: Loaded) -> bool:
            nonlocal complete
            complete = loaded.done == loaded.files
            if loaded.broken and not loaded.mine:
                raise loaded.broken[0]
            return complete or (not loaded.mine and self._given_up(snapshot, task))

        try:
            await self._load.run(snapshot, task, is_done)
        except CorruptSnapshotError:
            if not self._readers.failed_of(SourceId(snapshot.id)):  # the manifests, not a file
                await self._load.journal.save(replace(snapshot, state="failed"))
            raise
        self._blocked(None, task)
        return complete

    def _given_up(self, snapshot: Snapshot, task: TaskProgress) -> bool:
        """Say what keeps other members from finishing their files; whether there is a reason for another snapshot."""
        errors = self._membership.peers.errors(SourceId(snapshot.id))
        if not errors:
            self._blocked(None, task)
            return False
        if self.failure is None:
            self._known_reasons = self._reasons()
            who = self._membership.assignment.members
            words = "; ".join(f"member {member}/{who}: {error}" for member, error in sorted(errors.items()))
            self._blocked(CorruptSnapshotError(words), task)
        return not self._reasons() <= self._known_reasons

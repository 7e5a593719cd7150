"""SnapshotLoader: loads one table, and again when that is wanted, one snapshot after the other.

Every step is durable before the next. Which snapshot is wanted is decided in ``choice``.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

from ..errors import CorruptSnapshotError, DyncdcError
from ..model import HORIZON, Export, Gap, Mark, RawChunk, Request, Shard, ShardId, Snapshot, SourceId
from ..telemetry.progress import TaskProgress
from .checkpointer import Checkpointer
from .choice import choose, version_floor
from .exporting import Exporting
from .ports import Ghosts, Origin, SnapshotDecoders, SnapshotStore, Source
from .pump import Engine
from .readers import Readers
from .recovery import Recovery
from .snapshot_plan import Coverage, Journal, SnapshotPlan
from .sweeping import Sweeping

__all__ = ["SnapshotLoader", "SnapshotPlan"]

FILES_AT_ONCE = 4
"""Export files read at the same time. More would not be faster on one core, and each holds an open download."""


class SnapshotLoader:
    """Loads one table, and again when that is wanted. Runs beside the stream; files are shards without parents."""

    def __init__(
        self,
        plan: SnapshotPlan,
        origin: Origin,
        store: SnapshotStore,
        decoders: SnapshotDecoders,
        readers: Readers,
        checkpointer: Checkpointer,
        engine: Engine,
        coverage: Coverage,
        recovery: Recovery,
        ghosts: Ghosts,
        *,
        patient: bool = True,
    ) -> None:
        self._plan = plan
        self._origin = origin
        self._decoders = decoders
        self._readers = readers
        self._checkpointer = checkpointer
        self._engine = engine
        self._recovery = recovery
        self._patient = patient
        self._journal = Journal(store, engine, self.name, epoch=checkpointer.epoch, patient=patient)
        self._exporting = Exporting(plan, origin, self._journal, coverage, recovery)
        self._sweeping = Sweeping(ghosts, self._journal, coverage, engine, self._blocked)
        self._version_floor = 0
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()
        """Set while nothing is left to load, or when that failed: then ``failure`` says why."""
        self.failure: DyncdcError | None = None
        checkpointer.on_saved(self._wake.set)

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return f"snapshot:{self._plan.table}"

    @property
    def idle(self) -> bool:
        """Whether nothing is left to load, as far as is known, or it has failed."""
        return self.ended.is_set() and not self._recovery.wanted(self._plan.table).is_set()

    async def run(self) -> None:
        """Load the table whenever that is wanted, from wherever a former life left it, until cancelled.

        A snapshot that fails for good stays unfinished, named by health, until somebody asks for another, or more is
        lost.
        """
        wanted = self._recovery.wanted(self._plan.table)
        while True:
            wanted.clear()
            with self._engine.progress.task(self.name) as task:
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
        self._engine.metrics.error("snapshot", error)
        self._engine.progress.report(self.name, error, None)
        task.failed(str(error))
        self.ended.set()

    def _blocked(self, error: CorruptSnapshotError | None, task: TaskProgress) -> None:
        """The snapshot cannot be completed until a person acts; or, with None, that has happened."""
        if error is not None:
            self._fail(error, task)
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
        for snapshot in (await self._journal.load(self._plan))[-1:]:
            if snapshot.state != "complete":
                await self._journal.save(replace(snapshot, state="failed"))
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
                self._engine.metrics.snapshot_progress(self._plan.table, 1.0)
                return
            snapshot = await self._bring_to_end(snapshot, task)
            await self._recovery.completed(snapshot)

    async def _next(self) -> Snapshot | None:
        """Return the snapshot to go on with, begun if need be; None when the table has all that is wanted."""
        table, known = self._plan.table, await self._journal.load(self._plan)
        request, gaps = self._recovery.request(table), self._recovery.gaps(table)
        choice = choose(known, gaps, request)
        if choice.complete is not None:
            await self._recovery.completed(choice.complete)  # a life may have ended between the two
            request = self._recovery.request(table)
            choice = choose(known, self._recovery.gaps(table), request)
        if choice.done:
            return None
        if choice.superseded is not None:
            await self._journal.save(replace(choice.superseded, state="failed"))
        snapshot = choice.go_on
        if snapshot is None:
            had_rows = self._plan.had_rows or bool(known) or bool(gaps)
            snapshot = Snapshot(uuid.uuid4().hex, table, "waiting", self._plan.destination_uuid, had_rows=had_rows)
            if request is not None:
                snapshot = replace(snapshot, had_rows=True, request=request.id)
        if snapshot not in known:
            await self._journal.save(snapshot)
        self._version_floor = version_floor(known, snapshot)
        return snapshot

    async def _bring_to_end(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        snapshot = await self._exporting.run(snapshot, self._version_floor, task)
        if snapshot.state == "loading":
            source = await self._open(snapshot, task)
            try:
                await self._load(source, snapshot, task)
            finally:
                await source.close()
            # An empty destination has no ghosts: what is in it came from the snapshot or from changes after it.
            sweeps = self._plan.sweeps and snapshot.had_rows
            snapshot = replace(snapshot, state="sweeping" if sweeps else "complete")
            await self._journal.save(snapshot)
        if snapshot.state == "sweeping":
            await self._sweeping.run(snapshot, task)
            snapshot = replace(snapshot, state="complete")
            await self._journal.save(snapshot)
        return snapshot

    async def _open(self, snapshot: Snapshot, task: TaskProgress) -> Source:
        export = Export(snapshot.export_arn, "COMPLETED", snapshot.export_time)
        try:
            # Filed under the snapshot's id: the same export may be loaded again, into a table that was made anew.
            return await self._journal.ask(lambda: self._origin.open_export(export, SourceId(snapshot.id)), task)
        except CorruptSnapshotError:
            await self._journal.save(replace(snapshot, state="failed"))
            raise

    async def _files(self, source: Source) -> dict[ShardId, Shard]:
        return {shard.id: shard async for page in source.list_shards() for shard in page}

    async def _load(self, source: Source, snapshot: Snapshot, task: TaskProgress) -> None:
        """Read every file that is not persisted as finished; return when all are."""
        files = await self._journal.retry(lambda: self._files(source))
        decoder = self._decoders.for_snapshot(self._plan.table, snapshot.version)
        saved = self._checkpointer.saved(source.id)
        todo = [shard for shard in files.values() if shard.id not in self._checkpointer.finished(source.id)]
        for shard in todo:
            self._readers.follow(shard, saved.get(shard.id, Mark(HORIZON)))

        def ended(_: RawChunk | None) -> None:
            self._wake.set()

        while True:
            self._wake.clear()
            done = len(self._checkpointer.finished(source.id))
            self._engine.metrics.snapshot_progress(self._plan.table, done / len(files) if files else 1.0)
            task.moved()
            if done == len(files):
                return
            broken = [error for (owner, _), error in self._readers.failed.items() if owner == source.id]
            if broken and done + len(broken) == len(files):
                raise broken[0]
            free = FILES_AT_ONCE - sum(1 for owner, _ in self._readers.pumps if owner == source.id)
            for shard in todo[: max(0, free)]:
                self._readers.start(source, shard, decoder, ended, patient=self._patient)
            del todo[: max(0, free)]
            task.waiting_for("its files")
            await self._wake.wait()

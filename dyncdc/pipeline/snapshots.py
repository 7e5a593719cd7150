"""SnapshotLoader: the life of one table's snapshot, from waiting for coverage to the last file.

Every step is durable before the next.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import CorruptSnapshotError, DyncdcError, FatalError, RetryableError
from ..model import HORIZON, Export, Mark, RawChunk, Shard, ShardId, Snapshot, SourceId
from ..telemetry.progress import TaskProgress
from .checkpointer import Checkpointer
from .ports import Origin, SnapshotDecoders, SnapshotStore, Source
from .pump import Engine
from .readers import Readers
from .retry import Backoff, retry_for_ever

T = TypeVar("T")

FILES_AT_ONCE = 4
"""Export files read at the same time. More would not be faster on one core, and each holds an open download."""

POLL_FIRST_SECONDS = 0.5
POLL_CEILING_SECONDS = 20.0
"""Pauses between two looks at an export: AWS takes minutes, a local one less than a second."""


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """What is to be loaded, and under which rules (SEMANTICS: export time is fuzzy by a minute either way).

    ``table`` is the DynamoDB table's name. ``destination_uuid`` and ``had_rows``: see Snapshot.
    """

    table: str
    destination_uuid: str
    had_rows: bool
    margin_seconds: float
    settle_seconds: float
    export_arn: str = ""
    accept_gap: bool = False


class SnapshotLoader:
    """Loads one table once. Runs beside the stream; the pipeline treats its files as shards without parents."""

    def __init__(
        self,
        plan: SnapshotPlan,
        origin: Origin,
        store: SnapshotStore,
        decoders: SnapshotDecoders,
        readers: Readers,
        checkpointer: Checkpointer,
        engine: Engine,
        held: Callable[[], Awaitable[object]],
    ) -> None:
        self._plan = plan
        self._origin = origin
        self._store = store
        self._decoders = decoders
        self._readers = readers
        self._checkpointer = checkpointer
        self._engine = engine
        self._held = held
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the snapshot is complete, or when it failed: then ``failure`` says why."""
        self.failure: DyncdcError | None = None
        checkpointer.on_saved(self._wake.set)

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return f"snapshot:{self._plan.table}"

    async def run(self) -> None:
        """Bring the table's snapshot to its end, from wherever a former life left it.

        Returns when it is complete, or when it failed for good: then ``failure`` says why and health stays red.
        """
        with self._engine.progress.task(self.name) as task:
            try:
                await self._run(task)
            except CorruptSnapshotError as error:
                self.failure = error
                self._engine.metrics.error("snapshot", error)
                self._engine.progress.report(self.name, error, None)
                task.failed(str(error))
                self.ended.set()
                await asyncio.Event().wait()  # named by health until a person acts; the stream goes on

    async def _run(self, task: TaskProgress) -> None:
        snapshot = await self._present()
        if snapshot.state == "complete":
            self._done()
            return
        if snapshot.state == "waiting":
            snapshot = await self._ask(await self._cover(snapshot, task))
        if snapshot.state == "exporting":
            snapshot = await self._exported(snapshot, task)
        source = await self._open(snapshot)
        try:
            await self._load(source, snapshot, task)
        finally:
            await source.close()
        await self._save(replace(snapshot, state="complete"))
        self._done()

    def _done(self) -> None:
        self._engine.metrics.snapshot_progress(self._plan.table, 1.0)
        self.ended.set()

    async def _present(self) -> Snapshot:
        """Return the unfinished or complete snapshot of this destination, or begin one."""
        known = [
            snapshot
            for snapshot in await self._retry(self._store.load)
            if snapshot.table == self._plan.table and snapshot.destination_uuid == self._plan.destination_uuid
        ]
        if known and known[-1].state != "failed":
            return known[-1]
        fresh = Snapshot(
            uuid.uuid4().hex, self._plan.table, "waiting", self._plan.destination_uuid, had_rows=self._plan.had_rows
        )
        await self._save(fresh)
        return fresh

    async def _cover(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        """Wait until an export asked for now shows nothing older than what the stream brings."""
        task.waiting_for("positions in the stream")
        await self._held()
        if self._plan.export_arn:
            return await self._seen_active(snapshot, task)
        while True:
            snapshot = await self._seen_active(snapshot, task)
            now = await self._retry(self._origin.covered_at)
            if now is None:  # switched off in between: what was covered has a hole now
                snapshot = replace(snapshot, covered_from=0.0)
                await self._save(snapshot)
                continue
            missing = snapshot.covered_from + self._needed_seconds(snapshot) - now
            if missing <= 0:
                return snapshot
            task.waiting_for(f"{missing:.0f} s of stream before the export", for_seconds=missing)
            await asyncio.sleep(min(missing, 5.0))

    def _needed_seconds(self, snapshot: Snapshot) -> float:
        """How far the export must lie behind the start of coverage; rows from elsewhere may be as old as the margin."""
        return self._plan.settle_seconds + (self._plan.margin_seconds if snapshot.had_rows else 0.0)

    async def _seen_active(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        while not snapshot.covered_from:
            seen = await self._retry(self._origin.covered_at)
            if seen is None:
                task.waiting_for("the table's streaming destination to become ACTIVE")
                await asyncio.sleep(1.0)
                continue
            snapshot = replace(snapshot, covered_from=seen)
            await self._save(snapshot)
        return snapshot

    async def _ask(self, snapshot: Snapshot) -> Snapshot:
        """Make AWS export the table, once: the row is durable before the call, and the call carries its id."""
        if not self._plan.export_arn:
            snapshot = replace(snapshot, state="exporting")
            await self._save(snapshot)
            return snapshot
        export = await self._retry(lambda: self._origin.describe_export(self._plan.export_arn))
        missing = snapshot.covered_from + self._needed_seconds(snapshot) - export.export_time
        if missing > 0:
            if not self._plan.accept_gap:
                raise FatalError(
                    f"loading {self._plan.table}: the given export is {missing:.0f} s too old: what changed between it"
                    " and the first position in the stream would be missing",
                    hint="make an export now, while dyncdc runs, or set snapshot.accept_gap = true to take the gap",
                )
            begin, end = export.export_time - self._plan.margin_seconds, snapshot.covered_from
            await self._retry(lambda: self._store.record_gap(self._plan.table, export.arn, begin, end))
        snapshot = replace(snapshot, state="exporting", export_arn=export.arn)
        await self._save(snapshot)
        return snapshot

    async def _exported(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        """Wait for AWS to finish the export."""
        export = await self._retry(
            (lambda: self._origin.describe_export(snapshot.export_arn))
            if snapshot.export_arn
            else (lambda: self._origin.request_export(snapshot.id))
        )
        snapshot = replace(
            snapshot,
            export_arn=export.arn,
            export_time=export.export_time,
            version=int((export.export_time - self._plan.margin_seconds) * 1_000_000),
        )
        await self._save(snapshot)
        pause_seconds = POLL_FIRST_SECONDS
        while export.status == "IN_PROGRESS":
            task.moved()
            task.waiting_for("AWS to export the table")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, POLL_CEILING_SECONDS)
            export = await self._retry(lambda: self._origin.describe_export(snapshot.export_arn))
        if export.status == "FAILED":
            await self._save(replace(snapshot, state="failed"))
            raise CorruptSnapshotError(
                f"exporting {self._plan.table}: AWS gave up: {export.failure}",
                hint="mend the cause and restart; a restart asks for a new export",
            )
        snapshot = replace(snapshot, state="loading")
        await self._save(snapshot)
        return snapshot

    async def _open(self, snapshot: Snapshot) -> Source:
        export = Export(snapshot.export_arn, "COMPLETED", snapshot.export_time)
        try:
            # Filed under the snapshot's id: the same export may be loaded again, into a table that was made anew.
            return await self._retry(lambda: self._origin.open_export(export, SourceId(snapshot.id)))
        except CorruptSnapshotError:
            await self._save(replace(snapshot, state="failed"))
            raise

    async def _files(self, source: Source) -> dict[ShardId, Shard]:
        return {shard.id: shard async for page in source.list_shards() for shard in page}

    async def _load(self, source: Source, snapshot: Snapshot, task: TaskProgress) -> None:
        """Read every file that is not persisted as finished; return when all are."""
        files = await self._retry(lambda: self._files(source))
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
                self._readers.start(source, shard, decoder, ended)
            del todo[: max(0, free)]
            task.waiting_for("its files")
            await self._wake.wait()

    async def _save(self, snapshot: Snapshot) -> None:
        await self._retry(lambda: self._store.save(snapshot))
        self._engine.progress.tell("snapshot saved", table=snapshot.table, state=snapshot.state, id=snapshot.id)

    async def _retry(self, operation: Callable[[], Awaitable[T]]) -> T:
        def on_retry(error: RetryableError, pause_seconds: float) -> None:
            self._engine.metrics.retry("snapshot", error)
            self._engine.progress.report(self.name, error, pause_seconds)

        return await retry_for_ever(operation, backoff=Backoff(first_seconds=0.5), on_retry=on_retry)

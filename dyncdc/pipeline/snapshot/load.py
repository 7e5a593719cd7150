"""Load: reads this member's files of one snapshot, and reports how far all members are. Decides nothing about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from dyncdc.errors import CorruptSnapshotError
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, RawChunk, Shard, ShardId, SourceId
from dyncdc.model.snapshots import Export, Snapshot
from dyncdc.pipeline.ports.decoder import SnapshotDecoders
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.shard.shard_reader import ReadOptions
from dyncdc.pipeline.session.services import Services, SnapshotTask
from dyncdc.telemetry.task_health import TaskProgress

from .plan import Journal

FILES_AT_ONCE = 4
"""Export files read at the same time. More would not be faster on one core, and each holds an open download."""

OTHERS_SECONDS = 1.0
"""Pause between two looks at what the others do. Their files are looked for elsewhere, and wake who waits here."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How far a snapshot is. ``mine``: files of this member that are neither durable nor broken."""

    done: int
    files: int
    mine: int
    broken: tuple[CorruptSnapshotError, ...]


class SnapshotLoad:
    """Reads files of one table's snapshots, as many at once as are worth it. Files are shards without parents."""

    def __init__(
        self,
        task: SnapshotTask,
        journal: Journal,
        decoders: SnapshotDecoders,
        readers: ReaderPool,
        services: Services,
    ) -> None:
        self._table = task.plan.table
        self._origin = task.origin
        self.journal = journal
        self._decoders = decoders
        self._readers = readers
        self._instruments = services.instruments
        self._progress = services.checkpointer.progress
        self._peers = services.checkpointer.peers
        self._membership = membership = services.membership
        self._wake = asyncio.Event()
        self._progress.on_saved(self._wake.set)
        membership.on_seen(self._wake.set)

    def checked(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot that was brought as far as its state says, or less far where ClickHouse may have lost some.

        Of a state that was saved in the doubtful seconds that is all: a file whose row went with its items has none.
        """
        if snapshot.state not in ("sweeping", "complete"):
            return snapshot
        source = SourceId(snapshot.id)
        if not self._progress.saved(source).keys() <= set(self._progress.finished(source)):
            return replace(snapshot, state="loading")  # a file is read again
        if self._progress.rewind.touches(snapshot.saved_at, snapshot.epoch):
            return replace(snapshot, state="loading")
        return snapshot

    async def run(self, snapshot: Snapshot, task: TaskProgress, over: Callable[[Loaded], Awaitable[bool]]) -> None:
        """Read what is ours and not durable, until ``over`` says so; it is asked whenever something has changed.

        Raises CorruptSnapshotError when the manifests are not what was exported, and whatever ``over`` raises.
        """
        export = Export(snapshot.export_arn, "COMPLETED", snapshot.export_time)
        # Filed under the snapshot's id: the same export may be loaded again, into a table that was recreated.
        source = await self.journal.call_aws(lambda: self._origin.open_export(export, SourceId(snapshot.id)), task)
        self._peers.watched.add(source.id)
        try:
            files = await self.journal.retry(lambda: self._files(source))
            await self._read(source, snapshot, files, task, over)
        finally:
            for shard in self._readers.running(source.id):
                await self._readers.stop(source.id, shard)
            self._peers.watched.discard(source.id)
            await source.close()

    async def _files(self, source: Source) -> dict[ShardId, Shard]:
        return {shard.id: shard async for page in source.list_shards() for shard in page}

    async def _read(
        self,
        source: Source,
        snapshot: Snapshot,
        files: dict[ShardId, Shard],
        task: TaskProgress,
        over: Callable[[Loaded], Awaitable[bool]],
    ) -> None:
        decoder = self._decoders.for_snapshot(self._table, snapshot.version)
        saved, finished = self._progress.saved(source.id), self._progress.finished
        assignment = self._membership.assignment
        owners = assignment.owners(source.id, files)
        mine = [shard for shard in files.values() if owners[shard.id] == assignment.member]
        todo = [shard for shard in mine if shard.id not in finished(source.id)]
        for shard in todo:
            self._readers.follow(shard, saved.get(shard.id, Mark(HORIZON)))

        def ended(_: RawChunk | None) -> None:
            self._wake.set()

        options = ReadOptions(wait_for_fix=self.journal.wait_for_fix)
        while True:
            self._wake.clear()
            loaded = self._loaded(source.id, files, mine)
            self._instruments.metrics.snapshot_progress(self._table, loaded.done / loaded.files if files else 1.0)
            task.moved()
            if await over(loaded):
                return
            free = FILES_AT_ONCE - sum(1 for owner, _ in self._readers.shard_readers if owner == source.id)
            for shard in todo[: max(0, free)]:
                self._readers.start(source, shard, decoder, options, ended)
            del todo[: max(0, free)]
            task.waiting_for("its files", for_seconds=OTHERS_SECONDS if assignment.shared else 0.0)
            with suppress(TimeoutError):  # the others may have changed their minds without a file
                async with asyncio.timeout(OTHERS_SECONDS if assignment.shared else None):
                    await self._wake.wait()

    def _loaded(self, source: SourceId, files: dict[ShardId, Shard], mine: list[Shard]) -> Loaded:
        done = self._progress.finished(source)
        failed = {shard: error for (owner, shard), error in self._readers.failed.items() if owner == source}
        left = sum(1 for shard in mine if shard.id not in done and shard.id not in failed)
        return Loaded(len(done & files.keys()), len(files), left, tuple(failed.values()))

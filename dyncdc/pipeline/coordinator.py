"""Coordinator: lets streams and snapshots run side by side, and knows when ``run --once`` has done its work."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from dyncdc.errors import DyncdcError
from dyncdc.model import SourceId
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.peer_checkpoints import PeerCheckpoints
from dyncdc.pipeline.checkpoint.watermarks import INTERVAL_SECONDS, STREAM_DELAY_SECONDS, WatchedTable, Watermarks
from dyncdc.pipeline.destinations.bindings import DestinationStore, Target
from dyncdc.pipeline.destinations.destination_monitor import DestinationMonitor
from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor, monitor_seconds
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.stream_reader import StreamReader
from dyncdc.pipeline.recovery.recovery import Policy, Recovery
from dyncdc.pipeline.snapshot.load import SnapshotLoad
from dyncdc.pipeline.snapshot.loader import SnapshotLoader
from dyncdc.pipeline.snapshot.member_loader import MemberLoader
from dyncdc.pipeline.snapshot.plan import Journal, SnapshotPlan

from .ports import Decoder, Origin, OrphanRows, RecoveryStore, SnapshotDecoders, SnapshotStore, Source, WatermarkStore

TIP_POLL_SECONDS = 0.1
TIP_MARGIN_SECONDS = 5.0
"""Under a load that never lets a shard reach its tip, ``--once`` reads what arrived up to so long after its aim: the
source's clock is known as of its last answer only."""


@dataclass(frozen=True, slots=True)
class StreamTask:
    """One stream to follow, with the decoder of all tables on it.

    ``tables``: DynamoDB's names of them. ``created``: when it made each, in seconds since the epoch. ``targets``: where
    the changes of each go. ``unusable``: those of ``tables`` that can not be used now: the decoder leaves
    them out, and no position moves past a change of theirs.
    """

    source: Source
    decoder: Decoder
    tables: Sequence[str] = ()
    created: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    unusable: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class SnapshotTask:
    """One table to load, and the stream that carries its changes."""

    plan: SnapshotPlan
    origin: Origin
    stream: Source


class Coordinator:
    """Owns every reader. Cancel ``run`` to make the readers leave; what they had read stays with the writer."""

    def __init__(
        self,
        streams: Sequence[StreamTask],
        snapshots: Sequence[SnapshotTask],
        *,
        store: SnapshotStore,
        decoders: SnapshotDecoders,
        checkpointer: Checkpointer,
        resources: ReadResources,
        recovery: RecoveryStore,
        orphan_rows: OrphanRows,
        membership: Membership,
        on_lost_position: Literal["resnapshot", "stop"],
        watermarks: WatermarkStore | None = None,
        stream_delay_seconds: float = STREAM_DELAY_SECONDS,
        watermark_interval_seconds: float = INTERVAL_SECONDS,
        pipeline: str = "",
        destinations: DestinationStore | None = None,
    ) -> None:
        self._gaps = recovery
        self._marks = watermarks
        self._mark_seconds = stream_delay_seconds, watermark_interval_seconds
        self.watermarks: Watermarks | None = None
        """Once ``run`` has begun, where they are wanted."""
        self._streams = streams
        self._snapshots = snapshots
        self._store = store
        self._decoders = decoders
        self._checkpointer = checkpointer
        self._resources = resources
        self._instruments = instruments = resources.instruments
        self._orphan_rows = orphan_rows
        self._membership = membership
        policy = self._policy(on_lost_position)
        self._recovery = Recovery(recovery, policy, instruments, membership)
        self._targets = {table: target for stream in streams for table, target in stream.targets.items()}
        by_table = {table: stream.source for stream in streams for table in stream.targets}
        self._target_watch = (
            DestinationMonitor(pipeline, self._targets, by_table, destinations, store, self._recovery, instruments)
            if destinations is not None
            else None
        )

    def _policy(self, on_lost_position: Literal["resnapshot", "stop"]) -> Policy:
        plans = {snapshot.plan.table: snapshot.plan for snapshot in self._snapshots}
        tables = {stream.source.id: tuple(stream.tables) for stream in self._streams}
        unrepeatable = {}
        unusable = {table for stream in self._streams for table in stream.unusable}
        for table in (table for names in tables.values() for table in names if table not in unusable):
            if table not in plans:
                unrepeatable[table] = 'its snapshot.method is "none"'
            elif plans[table].export_arn:
                unrepeatable[table] = "its snapshot.export_arn names one export forever"
        destinations = {table: plan.destination_uuid for table, plan in plans.items()}
        created = {table: at for stream in self._streams for table, at in stream.created.items()}
        # One process knows what it has written itself; of several, each may find rows of another.
        shared = self._membership.assignment.shared
        empty = {table for table, plan in plans.items() if shared and not plan.had_rows}
        return Policy(on_lost_position, tables, unrepeatable, destinations, created, empty)

    async def run(self, *, once: bool = False) -> None:
        """Read forever, or, with ``once``, until the snapshots are complete and every shard was read to its tip.

        Raises FatalError (SourceLostError when a stream is gone and another session may read what replaced it);
        with ``once`` also what made a snapshot fail.
        """
        await self._recovery.begin([stream.source for stream in self._streams], self._store, self._checkpointer)
        leads = self._membership.assignment.is_leader
        if self._target_watch is not None:
            await self._target_watch.begin(self._checkpointer, leads=leads)
        async with asyncio.TaskGroup() as tasks:
            readers = ReaderPool(self._resources, self._checkpointer, tasks)
            stream_readers = self._stream_readers(readers)
            self._watch(readers, stream_readers)
            loaders = self._loaders(readers, stream_readers, patient=not once)
            watches = self._watches() if leads else []
            others = PeerCheckpoints(self._checkpointer, self._instruments)
            self.watermarks = self._watermarks(stream_readers)
            if self.watermarks is not None:  # before a position is saved: who comes next finds nothing to rewind
                await self.watermarks.take_back(self._checkpointer.rewind)
            running = [
                *(tasks.create_task(f.run(), name=f"discovery:{f.source.label}") for f in stream_readers.values()),
                *(tasks.create_task(loader.run(), name=loader.name) for loader in loaders),
                *(tasks.create_task(watch.run(), name=watch.name) for watch in watches),
                *([tasks.create_task(self._recovery.poll(), name="requests")] if loaders else ()),
                *([tasks.create_task(others.run(), name="others")] if self._membership.assignment.shared else ()),
                *([tasks.create_task(self.watermarks.run(), name="watermarks")] if self.watermarks else ()),
            ]
            if once:
                await self._until_done(stream_readers, loaders)
                for task in running:
                    task.cancel()
                readers.cancel()

    def _watch(self, readers: ReaderPool, stream_readers: Mapping[str, StreamReader]) -> None:
        watch, ledgers = self._instruments.metrics.watch_shards, self._checkpointer.ledgers
        watch("reading", lambda: len(readers.shard_readers))
        watch("waiting", lambda: len(ledgers.keys() - readers.shard_readers.keys() - readers.failed.keys()))
        watch("failed", lambda: len(readers.failed))
        unowned = self._membership.unowned
        watch("unowned", lambda: sum(unowned(stream_reader.elsewhere()) for stream_reader in stream_readers.values()))

    def _stream_readers(self, readers: ReaderPool) -> Mapping[str, StreamReader]:
        return {
            stream.source.id: StreamReader(
                stream.source,
                stream.decoder,
                readers,
                self._checkpointer,
                self._instruments,
                self._recovery,
                self._membership,
                stream.tables,
                unusable=stream.unusable,
            )
            for stream in self._streams
        }

    def _loaders(
        self, readers: ReaderPool, stream_readers: Mapping[str, StreamReader], *, patient: bool
    ) -> list[SnapshotLoader | MemberLoader]:
        return [self._loader(task, readers, stream_readers[task.stream.id], patient) for task in self._snapshots]

    def _loader(
        self, task: SnapshotTask, readers: ReaderPool, stream_reader: StreamReader, patient: bool
    ) -> SnapshotLoader | MemberLoader:
        """Member 0 begins snapshots and ends them, the others lend it a hand."""
        plan, instruments, recovery, membership = task.plan, self._instruments, self._recovery, self._membership
        journal = Journal(
            self._store,
            instruments,
            plan.task,
            epoch=self._checkpointer.epoch,
            patient=patient,
            still_there=partial(self._checkpointer.check_ownership, ()),
        )
        loading = SnapshotLoad(
            plan.table,
            task.origin,
            journal,
            self._decoders,
            readers,
            self._checkpointer,
            instruments,
            membership,
            patient=patient,
        )
        if membership.assignment.is_leader:
            return SnapshotLoader(
                plan,
                task.origin,
                journal,
                loading,
                readers,
                instruments,
                stream_reader,
                recovery,
                self._orphan_rows,
                membership,
            )
        return MemberLoader(
            plan, task.stream.id, journal, loading, readers, self._checkpointer, instruments, recovery, membership
        )

    def _watches(self) -> list[StreamingMonitor | DestinationMonitor]:
        pause_seconds = monitor_seconds(len(self._snapshots))
        watches: list[StreamingMonitor | DestinationMonitor] = [
            StreamingMonitor(
                task.plan.table,
                task.stream,
                task.origin,
                self._recovery,
                self._instruments,
                table_id=self._targets[task.plan.table].table_id if task.plan.table in self._targets else "",
                pause_seconds=pause_seconds,
            )
            for task in self._snapshots
        ]
        return [*watches, self._target_watch] if self._target_watch is not None else watches

    def _watermarks(self, stream_readers: Mapping[str, StreamReader]) -> Watermarks | None:
        if self._marks is None or not any(stream.tables for stream in self._streams):
            return None
        destinations = {task.plan.table: task.plan.destination_uuid for task in self._snapshots}
        delay_seconds, interval_seconds = self._mark_seconds
        return Watermarks(
            [
                WatchedTable(
                    table,
                    stream.source.id,
                    stream_readers[stream.source.id].complete_until,
                    partial(self._delay, stream.source.id),
                    destinations.get(table),
                )
                for stream in self._streams
                for table in stream.tables
                if table not in stream.unusable
            ],
            self._membership.assignment,
            self._marks,
            self._store,
            self._gaps,
            self._instruments,
            before_look=self._heartbeat,
            still_there=self._checkpointer.check_durable,
            delay_seconds=delay_seconds,
            interval_seconds=interval_seconds,
        )

    def _delay(self, source: SourceId) -> float:
        return self._resources.delays.longest(source, asyncio.get_running_loop().time())

    def _heartbeat(self) -> None:
        """Other members' watermarks wait for how far our idle shards are."""
        if self._membership.assignment.shared:
            for stream in self._streams:
                self._checkpointer.heartbeat(stream.source.id)

    async def _until_done(
        self, stream_readers: Mapping[str, StreamReader], loaders: Sequence[SnapshotLoader | MemberLoader]
    ) -> None:
        """Return when all that was wanted is loaded and the tip that came after it is reached.

        A loss may be noticed at any time until then; it takes both back.
        """
        while True:
            for stream_reader in stream_readers.values():
                await stream_reader.held.wait()
            for loader in loaders:
                await loader.ended.wait()
                if loader.failure is not None:
                    raise loader.failure
            begun = asyncio.get_running_loop().time()
            instants = {stream_reader: stream_reader.source.server_time for stream_reader in stream_readers.values()}
            if self._membership.assignment.shared:  # what other members' shards have left to us, only a list tells
                for stream_reader in stream_readers.values():
                    stream_reader.relist()
            # The tip is a state of many shard readers, not an event: look now and then.
            while not all(self._at_tip(stream_reader, begun, instant) for stream_reader, instant in instants.items()):  # noqa: ASYNC110
                await asyncio.sleep(TIP_POLL_SECONDS)
            if all(loader.idle for loader in loaders) and all(
                stream_reader.held.is_set() for stream_reader in stream_readers.values()
            ):
                return
            await asyncio.sleep(TIP_POLL_SECONDS)

    def _at_tip(self, stream_reader: StreamReader, begun: float, instant: float) -> bool:
        """Whether every shard of a stream was read up to the instant at which the tip was taken."""
        if self._membership.assignment.shared and stream_reader.listed_at < begun:
            return False
        return not stream_reader.pending() and all(
            shard_reader.tip_seen_at >= begun or shard_reader.put_until >= instant + TIP_MARGIN_SECONDS
            for shard_reader in stream_reader.shard_readers()
        )


def root_cause(error: BaseException) -> BaseException:
    """Return the error inside nested exception groups that says most: ours before anybody else's."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [root_cause(inner) for inner in error.exceptions]
    return next((inner for inner in found if isinstance(inner, DyncdcError)), found[0])

"""Coordinator: lets streams and snapshots run side by side, and knows when ``run --once`` has done its work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from dyncdc.model.shards import SourceId
from dyncdc.pipeline.checkpoint.watermarks import (
    WatchedTable,
    WatermarkChecks,
    Watermarks,
    WatermarkStores,
    WatermarkTiming,
)
from dyncdc.pipeline.destinations.destination_monitor import DestinationMonitor, MonitoredTable
from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor, monitor_seconds
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.stream_reader import StreamReader
from dyncdc.pipeline.snapshot.load import SnapshotLoad
from dyncdc.pipeline.snapshot.loader import SnapshotLoader
from dyncdc.pipeline.snapshot.member_loader import MemberLoader
from dyncdc.pipeline.snapshot.plan import Journal

from .services import Destination, Services, Settings, SnapshotTask, StreamTask

TIP_POLL_SECONDS = 0.1
TIP_MARGIN_SECONDS = 5.0
"""Under a load that never lets a shard reach its tip, ``--once`` reads what arrived up to so long after its aim: the
source's clock is known as of its last answer only."""


class Coordinator:
    """Owns every reader. Cancel ``run`` to make the readers leave; what they had read stays with the writer."""

    def __init__(
        self,
        streams: Sequence[StreamTask],
        snapshots: Sequence[SnapshotTask],
        destination: Destination,
        settings: Settings,
        services: Services,
        resources: ReadResources,
    ) -> None:
        self.watermarks: Watermarks | None = None
        """Once ``run`` has begun, where they are wanted."""
        self._streams = streams
        self._snapshots = snapshots
        self._destination = destination
        self._settings = settings
        self._services = services
        self._checkpointer = services.checkpointer
        self._assignment = services.membership.assignment
        self._resources = resources
        self._targets = {table: target for stream in streams for table, target in stream.targets.items()}
        self._target_watch = (
            DestinationMonitor(
                settings.pipeline,
                [
                    MonitoredTable(table, target, stream.source)
                    for stream in streams
                    for table, target in stream.targets.items()
                ],
                destination.destinations,
                destination.snapshots,
                services.recovery,
                services.instruments,
            )
            if destination.destinations is not None
            else None
        )

    async def run(self, *, once: bool = False) -> None:
        """Read forever, or, with ``once``, until the snapshots are complete and every shard was read to its tip.

        Raises FatalError (SourceLostError when a stream is gone and another session may read what replaced it);
        with ``once`` also what made a snapshot fail.
        """
        await self._services.recovery.begin(
            [stream.source for stream in self._streams], self._destination.snapshots, self._checkpointer
        )
        leads, peers = self._assignment.is_leader, self._checkpointer.peers
        if self._target_watch is not None:
            await self._target_watch.begin(self._checkpointer.progress, leads=leads)
        async with asyncio.TaskGroup() as tasks:
            readers = ReaderPool(self._resources, self._checkpointer.progress, tasks)
            stream_readers = self._stream_readers(readers)
            self._watch(readers, stream_readers)
            loaders = self._loaders(readers, stream_readers, wait_for_fix=not once)
            watches = self._watches() if leads else []
            self.watermarks = self._watermarks(stream_readers)
            if self.watermarks is not None:  # before a position is saved: who comes next finds nothing to rewind
                await self.watermarks.take_back(self._checkpointer.progress.rewind)
            running = [
                *(tasks.create_task(f.run(), name=f.name) for f in stream_readers.values()),
                *(tasks.create_task(loader.run(), name=loader.name) for loader in loaders),
                *(tasks.create_task(watch.run(), name=watch.name) for watch in watches),
                *([tasks.create_task(self._services.recovery.poll(), name="requests")] if loaders else ()),
                *([tasks.create_task(peers.run(), name="others")] if self._assignment.shared else ()),
                *([tasks.create_task(self.watermarks.run(), name="watermarks")] if self.watermarks else ()),
            ]
            if once:
                await self._until_done(stream_readers, loaders)
                for task in running:
                    task.cancel()
                readers.cancel()

    def _watch(self, readers: ReaderPool, stream_readers: Mapping[str, StreamReader]) -> None:
        watch, ledgers = self._services.instruments.metrics.watch_shards, self._checkpointer.progress.ledgers
        watch("reading", lambda: len(readers.shard_readers))
        watch("waiting", lambda: len(ledgers.keys() - readers.shard_readers.keys() - readers.failed.keys()))
        watch("failed", lambda: len(readers.failed))
        unowned = self._services.membership.peers.unowned
        watch(
            "unowned",
            lambda: sum(unowned(stream_reader.listing.elsewhere()) for stream_reader in stream_readers.values()),
        )

    def _stream_readers(self, readers: ReaderPool) -> Mapping[str, StreamReader]:
        return {stream.source.id: StreamReader(stream, readers, self._services) for stream in self._streams}

    def _loaders(
        self, readers: ReaderPool, stream_readers: Mapping[str, StreamReader], *, wait_for_fix: bool
    ) -> list[SnapshotLoader | MemberLoader]:
        return [self._loader(task, readers, stream_readers[task.stream.id], wait_for_fix) for task in self._snapshots]

    def _loader(
        self, task: SnapshotTask, readers: ReaderPool, stream_reader: StreamReader, wait_for_fix: bool
    ) -> SnapshotLoader | MemberLoader:
        """Member 0 begins snapshots and ends them, the others lend it a hand."""
        services, destination = self._services, self._destination
        journal = Journal(
            destination.snapshots,
            services.instruments,
            task.plan.task,
            epoch=services.checkpointer.ownership.epoch,
            wait_for_fix=wait_for_fix,
            still_there=partial(services.checkpointer.ownership.check, ()),
        )
        load = SnapshotLoad(task, journal, destination.decoders, readers, services)
        if services.membership.assignment.is_leader:
            return SnapshotLoader(task, load, readers, stream_reader.completeness, destination.orphan_rows, services)
        return MemberLoader(task, load, readers, services)

    def _watches(self) -> list[StreamingMonitor | DestinationMonitor]:
        pause_seconds = monitor_seconds(len(self._snapshots))
        watches: list[StreamingMonitor | DestinationMonitor] = [
            StreamingMonitor(
                task,
                self._services.recovery,
                self._services.instruments,
                table_id=self._targets[task.plan.table].table_id if task.plan.table in self._targets else "",
                pause_seconds=pause_seconds,
            )
            for task in self._snapshots
        ]
        return [*watches, self._target_watch] if self._target_watch is not None else watches

    def _watermarks(self, stream_readers: Mapping[str, StreamReader]) -> Watermarks | None:
        destination, settings, services = self._destination, self._settings, self._services
        if destination.watermarks is None or not any(stream.tables for stream in self._streams):
            return None
        destinations = {task.plan.table: task.plan.destination_uuid for task in self._snapshots}
        return Watermarks(
            [
                WatchedTable(
                    table,
                    stream.source.id,
                    stream_readers[stream.source.id].completeness.complete_until,
                    partial(self._delay, stream.source.id),
                    destinations.get(table),
                )
                for stream in self._streams
                for table in stream.tables
                if table not in stream.unusable
            ],
            services.membership.assignment,
            WatermarkStores(destination.watermarks, destination.snapshots, destination.recovery),
            services.instruments,
            WatermarkChecks(self._heartbeat, services.checkpointer.ownership.check_durable),
            WatermarkTiming(settings.stream_delay_seconds, settings.watermark_interval_seconds),
        )

    def _delay(self, source: SourceId) -> float:
        return self._resources.delays.longest(source, asyncio.get_running_loop().time())

    def _heartbeat(self) -> None:
        """Other members' watermarks wait for how far our idle shards are."""
        if self._assignment.shared:
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
                await stream_reader.completeness.held.wait()
            for loader in loaders:
                await loader.ended.wait()
                if loader.failure is not None:
                    raise loader.failure
            begun = asyncio.get_running_loop().time()
            instants = {stream_reader: stream_reader.source.server_time for stream_reader in stream_readers.values()}
            if self._assignment.shared:  # what other members' shards have left to us, only a list tells
                for stream_reader in stream_readers.values():
                    stream_reader.listing.relist()
            # The tip is a state of many shard readers, not an event: look now and then.
            while not all(self._at_tip(stream_reader, begun, instant) for stream_reader, instant in instants.items()):  # noqa: ASYNC110
                await asyncio.sleep(TIP_POLL_SECONDS)
            if all(loader.idle for loader in loaders) and all(
                stream_reader.completeness.held.is_set() for stream_reader in stream_readers.values()
            ):
                return
            await asyncio.sleep(TIP_POLL_SECONDS)

    def _at_tip(self, stream_reader: StreamReader, begun: float, instant: float) -> bool:
        """Whether every shard of a stream was read up to the instant at which the tip was taken."""
        if self._assignment.shared and stream_reader.listing.listed_at < begun:
            return False
        return not stream_reader.completeness.pending() and all(
            reading.tip_seen_at >= begun or reading.put_until >= instant + TIP_MARGIN_SECONDS
            for reading in (shard_reader.progress for shard_reader in stream_reader.shard_readers())
        )

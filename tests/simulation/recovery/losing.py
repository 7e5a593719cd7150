"""Sessions that lose positions: streams with a short memory, shards that vanish, streams that are recreated.

The same pipeline, faults and judge as in ``simulate``; here AWS forgets what no one has read in time.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from dyncdc.errors import PositionLostError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.shards import Position, RawChunk, Shard, SourceId
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, SnapshotTask, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.snapshot.loader import SnapshotPlan
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation import simulate
from simulation.fakes.aws import FakeOrigin, FakeSnapshotDecoders, FakeStream, StreamDecoder
from simulation.fakes.clickhouse import CheckpointClient, ClickHouse, DeadLetterClient, SinkClient, SnapshotClient
from simulation.fakes.orphan_rows import OrphanRowsClient
from simulation.process_run import Life, server_time
from simulation.simulate import MARGIN_SECONDS, SETTLE_SECONDS, Simulation
from simulation.world import EPOCH, Entry, ShardLog, StreamScript, World

RECOVERY_POINTS = ("gap saved", "gap recovered", "followed saved", "while sweeping", "snapshot sweeping")
WIDE_MARGIN_SECONDS = MARGIN_SECONDS + 3.0
"""Changes whose time is told in steps of three seconds may be late, and exports are fuzzy, both at once."""

STREAMLESS_SECONDS = 0.5
"""From the end of a stream to the first change that its successor gets."""


class Reborn(StreamScript):
    """A stream recreated under its old name."""

    @property
    def id(self) -> str:
        return f"arn:stream/{self.name}@2"


@dataclass(slots=True)
class Losses:
    """How AWS forgets in one seed, and what ``dyncdc_gaps`` and its like hold."""

    retention_seconds: float
    reborn_at: dict[str, float] = field(default_factory=dict)
    reborn: dict[str, Reborn] = field(default_factory=dict)
    open: dict[tuple[str, str, str, int], Gap] = field(default_factory=dict)
    recovered: dict[tuple[str, str, str, int], float] = field(default_factory=dict)
    """Up to when each was."""
    followed: dict[str, TableSource] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)

    def present(self, script: StreamScript) -> StreamScript | None:
        """The stream of that name as it is now; None while there is none."""
        now = asyncio.get_running_loop().time()
        if now < self.reborn_at.get(script.name, float("inf")):
            return script
        reborn = self.reborn[script.name]
        return reborn if now >= self.reborn_at[script.name] + STREAMLESS_SECONDS else None

    def lost_until(self, table: str) -> float:
        """Until when changes of a table are known to be lost."""
        return max((gap.end for gap in self.open.values() if gap.table == table), default=0.0)


class ForgetfulStream(FakeStream):
    """A stream that keeps what it holds for some seconds only."""

    def __init__(self, server: ClickHouse, session: Life, script: StreamScript, start: str, losses: Losses) -> None:
        super().__init__(server, session, script, start)
        self._losses = losses

    @property
    def retention_seconds(self) -> float | None:
        return self._losses.retention_seconds

    @property
    def horizon(self) -> float:
        return asyncio.get_running_loop().time() - self._losses.retention_seconds

    def expired(self, log: ShardLog) -> bool:
        return log.closed < self.horizon and all(arrival < self.horizon for arrival in log.arrivals)

    @property
    def _gone(self) -> bool:
        return self._losses.present(self._script) is not self._script

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        async for page in super().list_shards():
            yield page
        if self._gone:
            raise PositionLostError("listing shards: the stream was deleted")

    def _visible(self) -> list[ShardLog]:
        return [log for log in super()._visible() if not self.expired(log)]

    def _probe(self, log: ShardLog) -> None:
        session = self._session
        if log.id in self._reading:
            raise session.violated(f"{log.id} is fetched twice at a time")
        if log.id in self._finished_at_start:
            raise session.violated(f"{log.id} is fetched though it was finished before this session")
        missing = {parent for parent in log.parents if parent in self._script.shards}
        missing = {parent for parent in missing if not self.expired(self._script.shards[parent])}
        if missing - self._server.finished(self._script.id):
            raise session.violated(f"{log.id} is fetched before its parents are persisted as finished")

    def _answer(self, shard: Shard, log: ShardLog, after: Position, want_bytes: int) -> RawChunk:
        if self._gone or self.expired(log):
            raise PositionLostError(f"reading {log.id}: it was deleted")
        trimmed = bisect_left(log.arrivals, self.horizon)
        if trimmed and (not after.isdecimal() or int(after) < log.sequences[trimmed - 1]):
            after = Position(str(log.sequences[trimmed - 1]))  # without a word, as Kinesis does
        return super()._answer(shard, log, after, want_bytes)


class LossyCheckpoints(CheckpointClient):
    """Positions may pass what AWS has forgotten, and nothing else."""

    def __init__(self, server: ClickHouse, session: Life, losses: Losses) -> None:
        super().__init__(server, session)
        self._losses = losses

    def _probe(self, row: Checkpoint) -> None:
        """What a position may pass depends on what AWS has forgotten; the end tells whether it did too much."""


class RecoveryClient:
    """``dyncdc_gaps``, ``dyncdc_requests`` and ``dyncdc_table_sources`` as one session sees them."""

    def __init__(self, losses: Losses, session: Life) -> None:
        self._losses = losses
        self._session = session

    async def _call(self) -> None:
        await self._session.ask("asking for gaps")

    async def server_time(self) -> float:
        await self._call()
        return server_time()

    async def open_gaps(self) -> Sequence[Gap]:
        await self._call()
        return list(self._losses.open.values())

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        await self._call()
        for gap in gaps:
            recovered = self._losses.recovered
            before = self._losses.open.get(gap.key)
            if recovered_at is None and recovered.get(gap.key, float("-inf")) < gap.end:
                self._losses.open[gap.key] = gap
            elif recovered_at is not None:
                if before is None or before.end <= gap.end:
                    self._losses.open.pop(gap.key, None)
                recovered[gap.key] = max(recovered.get(gap.key, float("-inf")), gap.end)
        if gaps:
            await self._session.reach("gap saved" if recovered_at is None else "gap recovered")

    async def open_requests(self) -> Sequence[Request]:
        await self._call()
        return list(self._losses.requests.values())

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        await self._call()
        for request in requests:
            self._losses.requests.pop(request.id, None)

    async def table_sources(self) -> Sequence[TableSource]:
        await self._call()
        return list(self._losses.followed.values())

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        await self._call()
        self._losses.followed.update((row.table, row) for row in tables)
        await self._session.reach("followed saved")


class AgainOrigin(FakeOrigin):
    """Exports of a table that is loaded more than once."""

    def __init__(self, simulation: Simulation, losses: Losses, table: str, script: StreamScript, session: Life) -> None:
        super().__init__(simulation.exports[table], session, settle_seconds=SETTLE_SECONDS)
        self._losses = losses
        self._script = script

    async def covered_at(self) -> float | None:
        found = await super().covered_at()
        return found if self._losses.present(self._script) is self._script else None

    def _probe(self, token: str) -> None:
        session, exports = self._session, self._exports
        row = exports.server.snapshots.get(token)
        if row is None or row.state != "exporting":
            raise session.violated("an export is asked for before its row is durable")
        if server_time() < row.covered_from + SETTLE_SECONDS:
            raise session.violated("an export is asked for before the stream covers the table")
        first = min(exports.started, default=token, key=lambda other: exports.started[other][0].export_time)
        if token != first and not row.had_rows:
            raise session.violated("a later snapshot takes the destination for empty")


class LossyGhosts(OrphanRowsClient):
    """The sweep of any later snapshot."""

    def _probe(self, table: str, version: int) -> None:
        server = self._server
        snapshot = next(
            (one for one in server.snapshots.values() if (one.table, one.version) == (table, version)), None
        )
        if snapshot is None or snapshot.state != "sweeping" or not snapshot.had_rows:
            raise self._session.violated(f"{table} is swept for no snapshot of its own")
        if len(server.finished(snapshot.id)) != server.export_files.get(snapshot.export_arn):
            raise self._session.violated(f"{table} is swept before the last file of its snapshot")


def forget(world: World) -> Losses:
    """Decide what AWS forgets in this world."""
    rng = random.Random(f"losses of {world.seed}")
    losses = Losses(rng.choice([6.0, 9.0, 15.0]))
    for stream in world.streams:
        if rng.random() < 0.35:
            at = losses.reborn_at[stream.name] = rng.uniform(1.0, world.ends_at)
            losses.reborn[stream.name] = _rebirth(world, stream, at + STREAMLESS_SECONDS, rng)
    for number in range(rng.choice([0, 0, 1, 2])):
        table = rng.choice(list(world.snapshots))
        losses.requests[f"r{number}"] = Request(f"r{number}", table, EPOCH + number)
    return losses


def _rebirth(world: World, old: StreamScript, at: float, rng: random.Random) -> Reborn:
    reborn = Reborn(old.name, old.tables)
    log = reborn.shards[f"{old.name}-000"] = ShardLog(f"{old.name}-000", frozenset(), at, frozenset(), False)
    changes = sorted(
        (change for table in old.tables for change in world.history[table] if change.at >= at),
        key=lambda change: change.number,
    )
    log.entries = [Entry(change.at + 0.1, 0, change, change.encoded()) for change in changes]
    log.seal(5, rng)
    return reborn


def run(seed: int) -> Counter[str] | None:
    """Run one seed. None where a table is not loaded by snapshots: what it loses is lost. Raises Violation."""
    with pytest.MonkeyPatch.context() as patch:
        prepared: list[Losses] = []
        prepare = simulate._prepare

        def prepare_losses(seed: int, cut_point: str | None) -> Simulation:
            simulation = prepare(seed, cut_point)
            # A stream that forgets within seconds outruns whoever has to wait for memory.
            simulation.budget_bytes = 8 * 2**20
            for exports in simulation.exports.values():
                exports.corrupt = False
            prepared.append(forget(simulation.world))
            return simulation

        async def process(
            simulation: Simulation, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
        ) -> None:
            await _process(simulation, prepared[-1], session, draining, metrics, once=once)

        world = simulate.build(seed)
        if not all(table in world.snapshots for stream in world.streams for table in stream.tables):
            return None
        patch.setattr(simulate, "_prepare", prepare_losses)
        patch.setattr(simulate, "_process", process)
        differences = simulate._differences
        patch.setattr(simulate, "_differences", lambda simulation: [*differences(simulation), *unsettled(prepared[-1])])
        patch.setattr(simulate, "_check_once", lambda simulation, born: None)
        patch.setattr(simulate, "SNAPSHOT_POINTS", (*simulate.SNAPSHOT_POINTS, *RECOVERY_POINTS))
        counted = simulate.run(seed)
        losses = prepared[-1]
        counted["gaps"] = len(losses.recovered)
        counted["reborn"] = len(losses.reborn)
        return counted


def unsettled(losses: Losses) -> list[str]:
    """What is left to recover."""
    return [f"open: {gap}" for gap in losses.open.values()] + [f"open: request {name}" for name in losses.requests]


async def _process(
    simulation: Simulation, losses: Losses, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
) -> None:
    """Start the pipeline as the application does, and once more when its stream was recreated."""
    while True:
        try:
            await _session(simulation, losses, session, draining, metrics, once=once)
        except SourceLostError:
            if draining.is_set():
                return
            await asyncio.sleep(1.0)
            continue
        return


async def _session(
    simulation: Simulation, losses: Losses, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
) -> None:
    server = simulation.server
    scripts = []
    for stream in simulation.world.streams:
        while (script := losses.present(stream)) is None:  # noqa: ASYNC110  # as the application polls
            await asyncio.sleep(0.2)
        scripts.append(script)
    streams = {script.id: ForgetfulStream(server, session, script, simulation.start, losses) for script in scripts}
    snapshots = [
        SnapshotTask(
            SnapshotPlan(table, "uuid", table in server.had_rows, WIDE_MARGIN_SECONDS, SETTLE_SECONDS),
            AgainOrigin(simulation, losses, table, script, session),
            streams[script.id],
        )
        for script in scripts
        for table in script.tables
    ]
    await run_session(
        [StreamTask(streams[script.id], StreamDecoder(script.tables, session), script.tables) for script in scripts],
        snapshots,
        Destination(
            SinkClient(server, session, statement_bytes=simulation.batch.statement_bytes),
            LossyCheckpoints(server, session, losses),
            SnapshotClient(server, session),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            recovery=RecoveryClient(losses, session),
            orphan_rows=LossyGhosts(server, session),
        ),
        Settings("sim", simulation.batch, simulation.budget_bytes, once=once, on_lost_position="resnapshot"),
        Instruments(metrics, TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(draining),
    )


__all__ = ["SourceId", "run"]

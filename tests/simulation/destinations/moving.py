"""Lives under which names change hands: destinations exchanged for a while or emptied, source tables recreated.

The same pipeline, faults and judge as in ``simulate``; AWS forgets nothing here.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from dyncdc.errors import CorruptSnapshotError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.destinations.bindings import Binding, DestinationState, Partition, Target
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.pipeline.ports.orphan_rows import Swept
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, SnapshotTask, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.snapshot import sweep
from dyncdc.pipeline.snapshot.loader import SnapshotPlan
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation import simulate
from simulation.fakes.aws import FakeSnapshotDecoders, StreamDecoder
from simulation.fakes.clickhouse import DEAD, ClickHouse, DeadLetterClient, Row, SinkClient, SnapshotClient
from simulation.process_run import Life, server_time
from simulation.recovery.losing import (
    WIDE_MARGIN_SECONDS,
    AgainOrigin,
    ForgetfulStream,
    Losses,
    LossyCheckpoints,
    LossyGhosts,
    RecoveryClient,
    unsettled,
)
from simulation.simulate import SETTLE_SECONDS, Simulation
from simulation.world import World

FOR_EVER_SECONDS = 1e9
FEW_ITEMS = 3
ASKED_BEFORE_ACCEPTED = 2
MOVE_POINTS = ("gap saved", "gap recovered", "bindings saved", "while sweeping")


@dataclass(slots=True)
class Stored:
    """One ClickHouse table, whatever its name is now."""

    uuid: str
    rows: dict[str, Row] = field(default_factory=dict)
    first: int = 1
    last: int = 0
    """The blocks that its parts are of: those before ``first`` were taken away."""


@dataclass(slots=True)
class Moves:
    """What happens to names in one seed, and ``dyncdc_destinations``."""

    world: World
    losses: Losses
    stored: dict[str, Stored] = field(default_factory=dict)
    aside: dict[str, Stored] = field(default_factory=dict)
    bindings: dict[tuple[int, str, str], Binding] = field(default_factory=dict)
    at: list[tuple[float, str, str]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    """How often someone looked whether deletes of a snapshot are accepted."""
    armed: bool = False

    def arm(self, server: ClickHouse) -> None:
        """Let it happen, whoever lives at that time."""
        if not self.armed:
            self.armed = True
            loop = asyncio.get_running_loop()
            for at, what, table in self.at:
                loop.call_at(at, getattr(self, what), server, table)

    def now_stands(self, server: ClickHouse, table: str) -> Stored:
        """What stands under a name; its rows are those that the server shows."""
        if table not in self.stored:
            rows = server.tables.setdefault(table, {})
            self.stored[table] = Stored(f"{table}-0", rows, last=int(bool(rows)))
        server.tables[table] = self.stored[table].rows
        return self.stored[table]

    def exchange(self, server: ClickHouse, table: str) -> None:
        here = self.now_stands(server, table)
        self.stored[table] = self.aside.pop(table, None) or Stored(f"{table}-1")
        self.aside[table] = here
        server.tables[table] = self.stored[table].rows
        self.done["exchange"] += 1

    def truncate(self, server: ClickHouse, table: str) -> None:
        stored = self.now_stands(server, table)
        written = [row for row in self.bindings.values() if row.target.uuid == stored.uuid and row.held.live]
        if written:  # of what was never seen to be there no one can say that it is gone
            stored.rows.clear()
            stored.last += 1
            stored.first = stored.last + 1
            self.done["truncate"] += 1

    def made_again(self, server: ClickHouse, table: str) -> None:
        """DynamoDB sends no deletes for it."""
        at = asyncio.get_running_loop().time()
        self.world.history[table] = [change for change in self.world.history[table] if change.at >= at]
        self.ids[table] = "second"
        self.done["recreated"] += 1


class MovingSink(SinkClient):
    """Looks after each insert whether the table is still the one that the rows were made for."""

    def __init__(self, server: ClickHouse, session: Life, moves: Moves, uuids: Mapping[str, str], size: int) -> None:
        super().__init__(server, session, statement_bytes=size)
        self._moves = moves
        self._uuids = uuids

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        await super().insert(block, token, past_views=past_views)
        if block.table != DEAD and block.table in self._uuids:
            if self._moves.now_stands(self._server, block.table).uuid != self._uuids[block.table]:
                raise DestinationChangedError(f"inserting into {block.table}: it was recreated")


class MovingServer(ClickHouse):
    """Counts blocks."""

    moves: Moves

    def apply(self, block: Block, token: str) -> None:
        if block.table != DEAD and token not in self.tokens and block.table in self.moves.world.snapshots:
            self.moves.now_stands(self, block.table).last += 1
        super().apply(block, token)


class DestinationsClient:
    """``dyncdc_destinations`` and the destinations as one session sees them."""

    def __init__(self, server: ClickHouse, moves: Moves, session: Life) -> None:
        self._server = server
        self._moves = moves
        self._session = session

    async def _call(self) -> None:
        await self._session.ask("asking for destinations")

    async def bindings(self) -> Sequence[Binding]:
        await self._call()
        return [row for _, row in sorted(self._moves.bindings.items())]

    async def save_bindings(self, rows: Sequence[Binding]) -> None:
        await self._call()
        for row in rows:
            key = row.number, row.target.table, row.target.uuid
            if key not in self._moves.bindings or self._moves.bindings[key].revision <= row.revision:
                self._moves.bindings[key] = replace(row, saved_at=server_time())
        if rows:
            await self._session.reach("bindings saved")

    async def read_state(self, destinations: Collection[str]) -> Mapping[str, DestinationState]:
        await self._call()
        found = {}
        for name in destinations:
            stored = self._moves.now_stands(self._server, name)
            parts = {"all": Partition(stored.first, stored.last, len(stored.rows))} if stored.rows else {}
            found[name] = DestinationState(stored.uuid, server_time(), parts)
        return found

    async def caught_up(self, destination: str) -> bool:
        await self._call()
        return True

    async def any_live(self, destination: str) -> bool:
        await self._call()
        return bool(self._server.final(destination))


class MovingOrigin(AgainOrigin):
    """A table that may be another one by now."""

    def __init__(self, simulation: Simulation, moves: Moves, table: str, session: Life) -> None:
        script = next(stream for stream in simulation.world.streams if table in stream.tables)
        super().__init__(simulation, moves.losses, table, script, session)
        self._moves = moves

    async def identity(self) -> str:
        await self._call()
        return self._moves.ids.get(self._exports.table, "first")

    def _probe(self, token: str) -> None:
        row = self._exports.server.snapshots.get(token)
        if row is None or row.state != "exporting":
            raise self._session.violated("an export is asked for before its row is durable")


class AskingGhosts(LossyGhosts):
    """Someone accepts deletes once a session has waited for that a little."""

    def __init__(self, server: ClickHouse, session: Life, moves: Moves) -> None:
        super().__init__(server, session)
        self._moves = moves

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        await super().accepted(snapshot, request)
        self._moves.asked[snapshot] += 1
        return self._moves.asked[snapshot] > ASKED_BEFORE_ACCEPTED

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        (id_,) = (x.id for x in self._server.snapshots.values() if (x.table, x.version) == (table, version))
        rows = [row for row in self._server.tables.get(table, {}).values() if not row.deleted]
        orphan_rows = sum(row.version < version for row in rows)
        word = self._moves.asked[id_] > ASKED_BEFORE_ACCEPTED
        if orphan_rows > FEW_ITEMS and orphan_rows == len(rows) and not word:
            raise self._session.violated(f"all of {table} is swept without a word")
        self._moves.done["swept at a word"] += word
        return await super().sweep(table, version, after)


def plan_moves(world: World) -> Moves:
    """Decide what happens in this world."""
    rng = random.Random(f"moves of {world.seed}")
    moves = Moves(world, Losses(FOR_EVER_SECONDS))
    for table in world.snapshots:
        if rng.random() < 0.5:
            begin, end = sorted(rng.uniform(1.0, world.ends_at) for _ in range(2))
            moves.at += [(begin, "exchange", table), (end, "exchange", table)]
        if rng.random() < 0.4:
            moves.at.append((rng.uniform(4.0, world.ends_at), "truncate", table))
        if rng.random() < 0.3:
            moves.at.append((rng.uniform(1.0, world.ends_at), "made_again", table))
    return moves


def run(seed: int) -> Counter[str] | None:
    """Run one seed. None where a table is not loaded by snapshots. Raises Violation."""
    world = simulate.build(seed)
    if not all(table in world.snapshots for stream in world.streams for table in stream.tables):
        return None
    prepared: list[Moves] = []
    prepare, differences = simulate._prepare, simulate._differences

    def prepare_moves(seed: int, cut_point: str | None) -> Simulation:
        simulation = prepare(seed, cut_point)
        simulation.budget_bytes = 8 * 2**20
        server = MovingServer(simulation.world, simulation.server.tables, had_rows=simulation.server.had_rows)
        simulation.server = server
        for exports in simulation.exports.values():
            exports.corrupt, exports.server = False, server
        server.moves = plan_moves(simulation.world)
        prepared.append(server.moves)
        return simulation

    async def process(
        simulation: Simulation, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
    ) -> None:
        prepared[-1].arm(simulation.server)
        while True:
            try:
                await _session(simulation, prepared[-1], session, draining, metrics, once=once)
            except (SourceLostError, DestinationChangedError, CorruptSnapshotError) as error:
                if isinstance(error, CorruptSnapshotError) and "--accept-deletes" not in str(error):
                    raise
                if draining.is_set():
                    metrics.watch_budget(lambda: 0, 1)  # what it held is read again, as after a crash
                    return
                await asyncio.sleep(1.0)
                continue
            return

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "FEW_ITEMS", FEW_ITEMS)
        patch.setattr(simulate, "_prepare", prepare_moves)
        patch.setattr(simulate, "_process", process)
        patch.setattr(simulate, "_differences", lambda one: [*differences(one), *unsettled(prepared[-1].losses)])
        patch.setattr(simulate, "_check_once", lambda simulation, born: None)
        patch.setattr(simulate, "SNAPSHOT_POINTS", (*simulate.SNAPSHOT_POINTS, *MOVE_POINTS * 4))
        counted = simulate.run(seed)
    return counted + prepared[-1].done + Counter(gaps=len(prepared[-1].losses.recovered))


async def _session(
    simulation: Simulation, moves: Moves, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
) -> None:
    server, scripts = simulation.server, simulation.world.streams
    streams = {
        script.id: ForgetfulStream(server, session, script, simulation.start, moves.losses) for script in scripts
    }
    tables = [table for script in scripts for table in script.tables]
    stand = {table: moves.now_stands(server, table) for table in tables}
    targets = {
        table: Target(table, table, stand[table].uuid, f"arn:{table}", moves.ids.get(table, "first"))
        for table in tables
    }
    uuids = {table: stand[table].uuid for table in tables}
    snapshots = [
        SnapshotTask(
            SnapshotPlan(table, uuids[table], bool(stand[table].rows), WIDE_MARGIN_SECONDS, SETTLE_SECONDS),
            MovingOrigin(simulation, moves, table, session),
            streams[script.id],
        )
        for script in scripts
        for table in script.tables
    ]
    await run_session(
        [
            StreamTask(
                streams[script.id],
                StreamDecoder(script.tables, session),
                script.tables,
                targets={table: targets[table] for table in script.tables},
            )
            for script in scripts
        ],
        snapshots,
        Destination(
            MovingSink(server, session, moves, uuids, simulation.batch.statement_bytes),
            LossyCheckpoints(server, session, moves.losses),
            SnapshotClient(server, session),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            recovery=RecoveryClient(moves.losses, session),
            orphan_rows=AskingGhosts(server, session, moves),
            destinations=DestinationsClient(server, moves, session),
        ),
        Settings("sim", simulation.batch, simulation.budget_bytes, once=once, on_lost_position="resnapshot"),
        Instruments(metrics, TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(draining),
    )

"""Lives over a ClickHouse that goes back: restored from an older copy, or started again without its newest rows.

The same pipeline, faults and judge as in ``simulate``; here the server ends at some instants, with every call that is
under way, and has lost something when it is there again.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from dyncdc.errors import RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.checkpoints import Checkpoint, Proof
from dyncdc.model.gaps import Gap, TableSource
from dyncdc.pipeline.checkpoint import save_schedule
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.recovery import rewind
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, SnapshotTask, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.snapshot.loader import SnapshotPlan
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation import simulate
from simulation.fakes.aws import FakeOrigin, FakeSnapshotDecoders, FakeStream, StreamDecoder
from simulation.fakes.clickhouse import CheckpointClient, ClickHouse, DeadLetterClient, SinkClient, SnapshotClient
from simulation.fakes.watermarks import STREAM_DELAY_SECONDS, WatermarksClient
from simulation.process_run import Life, server_time
from simulation.simulate import SETTLE_SECONDS, Simulation
from simulation.world import ShardLog

from .losing import WIDE_MARGIN_SECONDS, Losses, LossyGhosts, RecoveryClient, unsettled

REPLAY_SECONDS = 6.0
"""What is written so shortly before the end of a server may be gone."""

HISTORY_SECONDS = 1.5
HEARTBEAT_SECONDS = 3.0
COPY_SECONDS = 0.5
KEPT_COPIES = 40

Loss = Literal["nothing", "everything", "destination", "checkpoints"]
"""What goes back: all that the server holds to an older copy, or only some of it."""


@dataclass(slots=True)
class Copy:
    """What the server held at an instant. Rows are never changed in place."""

    at: float
    tables: dict[str, dict[str, Any]]
    lists: dict[str, Any]
    gaps: dict[tuple[str, str, str, int], Gap]
    recovered: dict[tuple[str, str, str, int], float]
    followed: dict[str, TableSource]


@dataclass(slots=True)
class Power:
    """Whether the server runs, since when, and the calls that end with it."""

    server: ClickHouse
    losses: Losses
    rng: random.Random
    up: bool = True
    starts: int = 0
    calls: set[asyncio.Task[Any]] = field(default_factory=set)
    copies: list[Copy] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    parts_at: list[float] = field(default_factory=list)
    """When replicas are to lose parts, loop time."""
    memory: bool = True
    """Whether a process outlives what it notices, and knows of it by itself."""

    def lose_parts(self, last: Checkpoint) -> None:
        """Lose the newest rows, the last save among them, if it is time: in a look that is about to notice it."""
        now = asyncio.get_running_loop().time()
        young = [copy for copy in self.copies if copy.at > now - REPLAY_SECONDS]
        older = [copy for copy in young if not _holds(copy, last)]
        if older and self.parts_at and self.parts_at[0] <= now < self.server.world.ends_at:
            del self.parts_at[0]
            self._go_back("destination", older[0])
            self._go_back("checkpoints", older[-1])
            self.copies.clear()
            self.counted["lost: parts"] += 1

    async def call(self, session: Connected, operation: Callable[[], Awaitable[Any]]) -> Any:
        """Call the server, over a new connection if it was started again meanwhile."""
        if not self.up:
            await asyncio.sleep(self.rng.uniform(0.01, 0.3))
            raise RetryableError("connecting: refused")
        session.connect(self.starts)
        task = asyncio.ensure_future(operation())
        self.calls.add(task)
        starts = self.starts
        try:
            return await task
        except asyncio.CancelledError:
            if self.starts == starts:
                raise
            raise RetryableError("the connection was reset") from None
        finally:
            self.calls.discard(task)

    async def copy_now_and_then(self) -> None:
        """Keep copies of the last seconds."""
        while True:
            if self.up:
                self.copies = [*self.copies[-KEPT_COPIES:], self._copy()]
            await asyncio.sleep(COPY_SECONDS)

    def _copy(self) -> Copy:
        server, losses = self.server, self.losses
        return Copy(
            asyncio.get_running_loop().time(),
            {name: dict(rows) for name, rows in server.tables.items()},
            {
                "dead_letters": dict(server.dead_letters),
                "checkpoints": list(server.checkpoints),
                "past": list(server.past),
                "rollbacks": list(server.rollbacks),
                "snapshots": dict(server.snapshots),
                "watermarks": list(server.watermarks),
                "first_positions": dict(server.first_positions),
            },
            dict(losses.open),
            dict(losses.recovered),
            dict(losses.followed),
        )

    async def end(self, loss: Loss, down_seconds: float) -> None:
        """End the server, lose something, and start it again."""
        self.up = False
        self.starts += 1
        for task in list(self.calls):
            task.cancel()
        await asyncio.sleep(0.01)
        now = asyncio.get_running_loop().time()
        young = [copy for copy in self.copies if copy.at > now - REPLAY_SECONDS]
        # Of the destination all that may be lost; of everything any copy.
        found = young[0] if loss == "destination" and young else self.rng.choice(self.copies or [self._copy()])
        if loss == "destination" and not young:
            loss = "nothing"
        self._go_back(loss, found)
        self.counted[f"lost: {loss}"] += 1
        await asyncio.sleep(down_seconds)
        if loss == "everything" and self.rng.random() < 0.3:
            self.server.id += "+"  # the copy was put on another server
        self.server.started_at = server_time()
        self.copies.clear()
        self.up = True

    def _go_back(self, loss: Loss, copy: Copy) -> None:
        server, losses = self.server, self.losses
        if loss in ("everything", "destination"):
            server.tables = {name: dict(rows) for name, rows in copy.tables.items()}
            server.dead_letters = dict(copy.lists["dead_letters"])
        if loss in ("everything", "checkpoints"):
            server.checkpoints = list(copy.lists["checkpoints"])
            server.past = list(copy.lists["past"])
        if loss == "everything":
            server.snapshots = dict(copy.lists["snapshots"])
            server.watermarks = list(copy.lists["watermarks"])
            server.rollbacks = list(copy.lists["rollbacks"])
            server.first_positions = dict(copy.lists["first_positions"])
            losses.open, losses.recovered = dict(copy.gaps), dict(copy.recovered)
            losses.followed = dict(copy.followed)


def _holds(copy: Copy, last: Checkpoint) -> bool:
    rank = last.source, last.shard, last.epoch, last.ordinal
    return any((row.source, row.shard, row.epoch, row.ordinal) == rank for row in copy.lists["checkpoints"])


@dataclass(slots=True)
class Connected:
    """The connection of one session."""

    connects: int = 0
    seen: int = -1

    def connect(self, starts: int) -> None:
        """Connect again where the server was started since."""
        if self.seen != starts:
            self.connects, self.seen = self.connects + 1, starts


class Over:
    """A client whose calls end with the server."""

    def __init__(self, client: Any, power: Power, connected: Connected) -> None:
        self._client = client
        self._power = power
        self._connected = connected

    @property
    def connects(self) -> int:
        return self._connected.connects

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def called(*arguments: Any, **options: Any) -> Any:
            return await self._power.call(self._connected, lambda: method(*arguments, **options))

        return called


class MortalSink(SinkClient):
    """What was on its way to a server ends with it."""

    def __init__(self, server: ClickHouse, session: Life, power: Power, *, statement_bytes: int) -> None:
        super().__init__(server, session, statement_bytes=statement_bytes)
        self._power = power

    def _probe(self, block: Block, token: str) -> None:
        self._in_flight = [table for table in self._in_flight if self._power.up]
        super()._probe(block, token)

    def _lands_later(self, block: Block, token: str, delay: float) -> None:
        starts = self._power.starts

        def land() -> None:
            if self._power.starts == starts and not (self._session.dead and self._server.world.ties):
                self._server.apply(block, token)

        asyncio.get_running_loop().call_later(delay, land)


class MortalCheckpoints(CheckpointClient):
    """Positions may go back; the end tells whether they passed too much."""

    def __init__(self, server: ClickHouse, session: Life, power: Power) -> None:
        super().__init__(server, session)
        self._power = power
        self._starts = self._began = power.starts
        self._watermarks = WatermarksClient(server, session, ())

    async def save(self, rows: Sequence[Any]) -> None:
        self._starts = self._power.starts
        await super().save(rows)

    async def proof(self, shards: Any, last: Checkpoint | None) -> Proof:
        found = await super().proof(shards, last)
        if last is None or not found.held or self._session.dead:
            return found
        self._power.lose_parts(last)
        held = any(
            (row.source, row.shard, row.epoch) == (last.source, last.shard, last.epoch) and row.ordinal >= last.ordinal
            for row in self._server.checkpoints
        )
        return replace(found, held=held)

    def _apply(self, rows: Sequence[Any]) -> None:
        if self._power.starts == self._starts:
            super()._apply(rows)
            self._probe_watermarks()

    def _probe(self, row: Any) -> None:
        """See above."""

    def _probe_watermarks(self) -> None:
        """Once a session has saved a position, no instant is named that what a loss left does not reach."""
        if self._began == self._power.starts:
            for row in {row.table: row for row in self._server.watermarks}.values():
                self._watermarks._probe(row)


class PatientStream(FakeStream):
    """A stream that still has all that it ever held, as the retention is longer than any outage."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._fetched: set[str] = set()

    def _visible(self) -> list[ShardLog]:
        now = asyncio.get_running_loop().time()
        return [log for log in self._script.shards.values() if log.opened <= now]

    def _probe(self, log: ShardLog) -> None:
        session = self._session
        if log.id in self._reading:
            raise session.violated(f"{log.id} is fetched twice at a time")
        if self._fetched & set(log.children):
            raise session.violated(f"{log.id} is fetched after its child")
        self._fetched.add(log.id)


class AnyOrigin(FakeOrigin):
    """A snapshot that ClickHouse forgot is asked for once more; its row may be gone as soon as it was saved."""

    def _probe(self, token: str) -> None:
        """See above."""


def run(seed: int, *, losses: Sequence[Loss] = (), parts: bool = False) -> Counter[str] | None:
    """Run one seed. None where a table is not loaded by snapshots. Raises Violation.

    ``parts``: replicas lose their newest rows and no server is started again; who notices is often killed at once.
    """
    world = simulate.build(seed)
    if not all(table in world.snapshots for stream in world.streams for table in stream.tables):
        return None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewind, "HISTORY_SECONDS", HISTORY_SECONDS)
        patch.setattr(save_schedule, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
        made: list[Power] = []
        prepare, live, differences = simulate._prepare, simulate._simulate, simulate._differences

        def prepared(seed: int, cut_point: str | None) -> Simulation:
            simulation = prepare(seed, cut_point)
            for exports in simulation.exports.values():
                exports.corrupt = False
            rng = random.Random(f"power of {seed}")
            made.append(Power(simulation.server, Losses(86_400.0), rng))
            return simulation

        async def simulated(simulation: Simulation) -> Counter[str]:
            power = made[-1]
            tasks = [
                asyncio.create_task(power.copy_now_and_then(), name="copies"),
            ]
            if parts:
                power.memory = False
                power.parts_at = sorted(power.rng.uniform(2.0, 20.0) for _ in range(power.rng.choice([1, 2, 3])))
            else:
                tasks.append(asyncio.create_task(_disturb(power, simulation, losses), name="power"))
            try:
                counted = await live(simulation)
            finally:
                for task in tasks:
                    task.cancel()
            return counted + power.counted

        async def process(
            simulation: Simulation, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
        ) -> None:
            await _process(simulation, made[-1], session, draining, metrics, once=once)

        patch.setattr(simulate, "_prepare", prepared)
        patch.setattr(simulate, "_simulate", simulated)
        patch.setattr(simulate, "_process", process)
        patch.setattr(
            simulate, "_differences", lambda simulation: [*differences(simulation), *unsettled(made[-1].losses)]
        )
        return simulate.run(seed)


async def _disturb(power: Power, simulation: Simulation, losses: Sequence[Loss]) -> None:
    """End the server now and then, while the script lasts."""
    rng = power.rng
    kinds: Sequence[Loss] = losses or (
        "nothing",
        "everything",
        "everything",
        "destination",
        "destination",
        "checkpoints",
    )
    for _ in range(rng.choice([1, 1, 2, 3])):
        await asyncio.sleep(rng.uniform(2.0, 9.0))
        if asyncio.get_running_loop().time() > simulation.world.ends_at:
            return
        await power.end(rng.choice(kinds), rng.choice([0.2, 1.0, 4.0]))


async def _process(
    simulation: Simulation, power: Power, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
) -> None:
    """Start the pipeline as the application does, and once more when ClickHouse has gone back."""
    went_back = False
    while True:
        try:
            await _session(simulation, power, session, draining, metrics, once=once, went_back=went_back)
        except WentBackError:
            # a process that is killed as soon as it has noticed leaves to the next one what is durable, no more
            went_back = power.memory or power.rng.random() < 0.3
            power.counted["noticed"] += 1
            if draining.is_set():
                session.dead = True  # ends at once: whoever comes next reads it all again
                return
            continue
        return


async def _session(
    simulation: Simulation,
    power: Power,
    session: Life,
    draining: asyncio.Event,
    metrics: Metrics,
    *,
    once: bool,
    went_back: bool,
) -> None:
    server, losses, connected = simulation.server, power.losses, Connected()

    def over(client: Any) -> Any:
        return Over(client, power, connected)

    scripts = simulation.world.streams
    streams = {script.id: PatientStream(server, session, script, simulation.start) for script in scripts}
    snapshots = [
        SnapshotTask(
            SnapshotPlan(table, "uuid", table in server.had_rows, WIDE_MARGIN_SECONDS, SETTLE_SECONDS),
            AnyOrigin(simulation.exports[table], session, settle_seconds=SETTLE_SECONDS),
            streams[script.id],
        )
        for script in scripts
        for table in script.tables
    ]
    await run_session(
        [StreamTask(streams[script.id], StreamDecoder(script.tables, session), script.tables) for script in scripts],
        snapshots,
        Destination(
            over(MortalSink(server, session, power, statement_bytes=simulation.batch.statement_bytes)),
            over(MortalCheckpoints(server, session, power)),
            over(SnapshotClient(server, session)),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            recovery=over(RecoveryClient(losses, session)),
            orphan_rows=over(LossyGhosts(server, session)),
            watermarks=over(WatermarksClient(server, session, set(simulation.exports))),
        ),
        Settings(
            "sim",
            simulation.batch,
            simulation.budget_bytes,
            replay_seconds=REPLAY_SECONDS,
            went_back=went_back,
            once=once,
            on_lost_position="resnapshot",
            stream_delay_seconds=STREAM_DELAY_SECONDS,
            watermark_interval_seconds=1.6,
        ),
        Instruments(metrics, TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(draining),
    )

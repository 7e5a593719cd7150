"""Several members over the same fakes: some are killed, replaced or frozen out, and their number changes.

Nothing is ever lost in these worlds, so a gap that anybody notices is a violation, as is a shard that two members read.
"""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from support.pipeline import virtual_time

from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.members import Member
from dyncdc.model.shards import Position, RawChunk, Shard
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.succession import Succession
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation import simulate
from simulation.fakes.aws import FakeSnapshotDecoders, FakeStream, StreamDecoder
from simulation.fakes.clickhouse import CheckpointClient, ClickHouse, DeadLetterClient, SinkClient, SnapshotClient
from simulation.fakes.orphan_rows import OrphanRowsClient
from simulation.members.endings import check_endings, run_sessions
from simulation.process_run import Life, Violation, server_time
from simulation.recovery.losing import Losses, RecoveryClient
from simulation.simulate import LONGEST_LIFE_SECONDS, Simulation
from simulation.world import ShardLog, StreamScript

CALM_SECONDS = 8.0
"""What is read again after a kill passes through older states of an item where versions tie."""

BEGIN_SECONDS = 20.0
"""A member may wait until rows of a former assignment are old before it takes its epoch."""

TOOK_OVER = "took over"
STRAY = "members of another assignment are alive"


@dataclass(slots=True)
class Shared:
    """What outlives every process, beside the server of ``simulate``."""

    losses: Losses = field(default_factory=lambda: Losses(86_400.0))
    members: dict[tuple[int, int, int], Member] = field(default_factory=dict)
    reading: dict[str, Process] = field(default_factory=dict)


@dataclass(slots=True)
class Process:
    """One session of one member."""

    assignment: Assignment
    session: Life
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    may_say: str = ""
    """Part of the error that it may end with."""
    stray: bool = False
    takes_over: bool = False
    born: float = field(default_factory=server_time)

    @property
    def label(self) -> str:
        return f"member {self.assignment}"

    @property
    def task(self) -> asyncio.Task[None]:
        assert self.session.task is not None
        return self.session.task


class MemberStream(FakeStream):
    """A stream of which each shard is read by one member at a time."""

    def __init__(self, server: ClickHouse, script: StreamScript, process: Process, shared: Shared) -> None:
        super().__init__(server, process.session, script, "TRIM_HORIZON")
        self._process = process
        self._shared = shared

    def _visible(self) -> list[ShardLog]:
        """No stream forgets what was finished while someone works who may not know it yet."""
        now = asyncio.get_running_loop().time()
        forgotten = {name for name in self._finished_at_start if zlib.crc32(name.encode()) % 3 == 0}
        return [log for log in self._script.shards.values() if log.opened <= now and log.id not in forgotten]

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        process, other = self._process, self._shared.reading.get(shard.id)
        if process.stray:
            raise process.session.violated("a stray member reads")
        same = other is not None and other.assignment.member == process.assignment.member
        if other is not None and not other.session.dead and not other.task.done() and not same:
            raise process.session.violated(f"{shard.id} is read by members {other.assignment} and {process.assignment}")
        self._shared.reading[shard.id] = process
        try:
            return await super().fetch(shard, after, want_bytes)
        finally:
            if self._shared.reading.get(shard.id) is process:
                del self._shared.reading[shard.id]


class MembersClient:
    """``dyncdc_members`` as one session sees it."""

    def __init__(self, shared: Shared, session: Life) -> None:
        self._shared = shared
        self._session = session

    async def members(self) -> Sequence[Member]:
        await self._session.ask("asking for members")
        newest: dict[tuple[int, int], Member] = {}
        for (members, member, _), row in sorted(self._shared.members.items()):
            newest[members, member] = replace(row, age_seconds=server_time() - row.seen_at)
        return list(newest.values())

    async def save_member(self, member: Member) -> None:
        await self._session.ask("asking for members")
        key = member.members, member.member, member.epoch
        self._shared.members[key] = replace(member, seen_at=server_time())


class NothingLost(RecoveryClient):
    """Gaps, requests and followed tables, where no gap is right."""

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        if gaps:
            raise self._session.violated(f"a loss that was none: {gaps[0].reason}")

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        await self._session.ask("asking for members")
        for row in tables:
            before = self._losses.followed.get(row.table)
            if before is None or (row.epoch, row.held) > (before.epoch, before.held):
                self._losses.followed[row.table] = row


def run(seed: int) -> Counter[str]:
    """Run one seed in virtual time. Raises Violation; returns what was counted."""
    random.seed(seed)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        simulation = simulate._prepare(seed, None)
        simulation.start = "TRIM_HORIZON"
        for exports in simulation.exports.values():
            exports.corrupt = False
        return virtual_time.run(_simulate(simulation, Shared()))
    except Violation as error:
        raise Violation(f"seed {seed}: {error}") from error
    finally:
        structlog.reset_defaults()


async def _simulate(simulation: Simulation, shared: Shared) -> Counter[str]:
    rng = random.Random(f"members of {simulation.seed}")
    for _ in range(rng.choice([1, 1, 2, 3])):
        await _term(simulation, shared, rng, rng.randint(1, 4))
    divided = rng.randint(2, 4)
    await asyncio.sleep(max(0.0, simulation.world.ends_at + 1.0 - asyncio.get_running_loop().time()))
    once = rng.random() < 0.5
    last = [_start(simulation, shared, rng, Assignment(number, divided), once=once) for number in range(divided)]
    loop = asyncio.get_running_loop()
    end = loop.time() + LONGEST_LIFE_SECONDS
    equal_since = loop.time()
    while not all(one.task.done() for one in last) if once else loop.time() < equal_since + CALM_SECONDS:
        _check(simulation, last)
        await asyncio.sleep(0.5)
        different = simulate._differences(simulation)
        equal_since = loop.time() if different else equal_since
        if loop.time() > end:
            raise Violation(f"never done, once={once}: {different[:3]}")
    await _drain(simulation, last)
    simulation.counted["once" if once else "converged"] += 1
    await asyncio.sleep(3.0)
    simulate._judge(simulation)
    return simulation.counted


async def _term(simulation: Simulation, shared: Shared, rng: random.Random, divided: int) -> None:
    """One assignment, until all of it has ended: members are killed and come back, or are replaced while they live."""
    simulation.counted[f"members: {divided}"] += 1
    present = [_start(simulation, shared, rng, Assignment(number, divided)) for number in range(divided)]
    gone: list[Process] = []
    for _ in range(rng.randint(0, 4)):
        await asyncio.sleep(rng.uniform(0.2, 3.0))
        number = rng.randrange(divided)
        happening = rng.choice(["killed", "killed", "drained", "replaced", "stray"])
        if happening == "replaced" and simulation.world.ties:
            happening = "killed"  # two at once may turn a tie: DESIGN names that limit
        simulation.counted[happening] += 1
        old = present[number]
        if happening == "stray":
            await _stray(simulation, shared, rng, divided, present)
            continue
        if happening == "killed":
            old.session.power_cut()
        elif happening == "drained":
            await _drain(simulation, [old])
        else:
            old.may_say = TOOK_OVER
        gone.append(old)
        await asyncio.sleep(0.0 if happening == "replaced" else rng.uniform(0.0, 4.0))
        present[number] = _start(simulation, shared, rng, old.assignment, takes_over=happening == "replaced")
        if happening == "replaced" and server_time() < old.born + BEGIN_SECONDS:
            present[number].may_say = TOOK_OVER  # of two that begin together, either takes the later epoch
    await asyncio.sleep(rng.uniform(0.5, 6.0))
    _check(simulation, [*gone, *present])
    if rng.random() < 0.5:
        await _drain(simulation, [*gone, *present])
        return
    for one in (*gone, *present):
        one.session.power_cut()
    await asyncio.wait({one.task for one in (*gone, *present)})


async def _stray(
    simulation: Simulation, shared: Shared, rng: random.Random, divided: int, present: Sequence[Process]
) -> None:
    """A member of another assignment, where a whole one has been working."""
    if not any(one.assignment.members == divided and _joined(shared, one) for one in present):
        return
    stray = _start(simulation, shared, rng, Assignment(0, divided + 1), stray=True)
    await asyncio.wait({stray.task}, timeout=60.0)
    if not stray.task.done() or STRAY not in str(stray.task.exception()):
        raise Violation(f"a stray member was not refused: {stray.task}")


def _joined(shared: Shared, process: Process) -> bool:
    rows = [
        row
        for (members, member, _), row in shared.members.items()
        if (members, member) == (process.assignment.members, process.assignment.member) and row.seen_at > process.born
    ]
    return not process.session.dead and not process.task.done() and any(not row.left for row in rows[-1:])


async def _drain(simulation: Simulation, processes: Sequence[Process]) -> None:
    for one in processes:
        one.draining.set()
    await asyncio.wait({one.task for one in processes}, timeout=LONGEST_LIFE_SECONDS)
    if not all(one.task.done() for one in processes):
        raise Violation("a drain never ended")
    _check(simulation, processes)


def _check(simulation: Simulation, processes: Sequence[Process]) -> None:
    check_endings(simulation, processes, lambda one, text: bool(one.may_say) and one.may_say in text)


def _start(
    simulation: Simulation,
    shared: Shared,
    rng: random.Random,
    assignment: Assignment,
    *,
    once: bool = False,
    stray: bool = False,
    takes_over: bool = False,
) -> Process:
    session = Life(f"{simulation.seed} {rng.random()}", simulation.faults, simulation.violations)
    process = Process(assignment, session, stray=stray, takes_over=takes_over, may_say=STRAY if stray else "")
    name = f"member:{assignment}"
    sessions = run_sessions(simulation, partial(_run_session, simulation, shared, process, once=once))
    session.task = asyncio.create_task(sessions, name=name)
    return process


async def _run_session(simulation: Simulation, shared: Shared, process: Process, *, once: bool) -> None:
    server, session, world = simulation.server, process.session, simulation.world
    streams = {script.id: MemberStream(server, script, process, shared) for script in world.streams}
    await run_session(
        [
            StreamTask(streams[script.id], StreamDecoder(script.tables, session), script.tables)
            for script in world.streams
        ],
        simulate.snapshot_tasks(simulation, session, streams),
        Destination(
            SinkClient(server, session, statement_bytes=simulation.batch.statement_bytes),
            CheckpointClient(server, session),
            SnapshotClient(server, session),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            recovery=NothingLost(shared.losses, session),
            orphan_rows=OrphanRowsClient(server, session),
            members=MembersClient(shared, session),
        ),
        Settings(
            "sim",
            simulation.batch,
            simulation.budget_bytes,
            checkpoint_interval_seconds=simulation.checkpoint_seconds,
            assignment=process.assignment,
            once=once,
            succession=Succession(take_over=process.takes_over or once),
        ),
        Instruments(Metrics(), TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(process.draining),
    )

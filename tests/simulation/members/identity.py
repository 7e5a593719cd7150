"""One member, started again and again, or twice at once, while ClickHouse's clock is ahead, behind, or put right.

No epoch is taken twice, no deduplication token stands for rows of two sessions, of two processes one ends, and a
process that is at work is not evicted by one that was not told to.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from support.pipeline import virtual_time

from dyncdc.model.members import Process
from dyncdc.pipeline.members.succession import Succession
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation import simulate
from simulation.fakes.aws import FakeSnapshotDecoders, StreamDecoder
from simulation.fakes.clickhouse import DeadLetterClient, SinkClient, SnapshotClient
from simulation.fakes.orphan_rows import OrphanRowsClient
from simulation.members.endings import check_endings, run_sessions
from simulation.process_run import Life, PowerCut, Violation, server_time
from simulation.simulate import LONGEST_LIFE_SECONDS, Simulation

from .fake_sessions import ClockedCheckpoints, Kept, KeptClient, LastingStream, One
from .membering import NothingLost

STEPS_SECONDS = (0.0, 0.0, 0.02, -0.02, 3600.0, -3600.0)
"""How far ahead of the true time ClickHouse's clock may be."""

BEGIN_SECONDS = 60.0
"""More than a start may take: it waits for a dead process of another host, and for an outage."""

STEADY_SECONDS = 5.0
"""A destination stays equal for so long in the end: one with nothing in it may be equal before all is read."""

TOOK_OVER, AT_WORK = "took over", "is at work"


def run(seed: int) -> Counter[str]:
    """Run one seed in virtual time. Raises Violation; returns what was counted."""
    random.seed(seed)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        simulation = _simple(seed)
        simulation.start = "TRIM_HORIZON"
        return virtual_time.run(_simulate(simulation, Kept()))
    except Violation as error:
        raise Violation(f"seed {seed}: {error}") from error
    finally:
        structlog.reset_defaults()


def _simple(seed: int) -> Simulation:
    """A world in which two at once turn no tie, which DESIGN names, and do not begin a snapshot each."""
    for number in itertools.count(seed * 1_000):
        simulation = simulate._prepare(number, None)
        if not simulation.world.ties and not simulation.world.snapshots:
            return simulation
    raise AssertionError


async def _simulate(simulation: Simulation, kept: Kept) -> Counter[str]:
    rng = random.Random(f"identity of {simulation.seed}")
    for _ in range(rng.randint(2, 4)):
        kept.ahead_seconds = rng.choice(STEPS_SECONDS)
        await _term(simulation, kept, rng)
        if rng.random() < 0.3:
            kept.forgetful = True
            del kept.sessions[rng.randint(0, len(kept.sessions)) :]
            kept.members.clear()
            simulation.counted["sessions lost"] += 1
    kept.ahead_seconds = rng.choice(STEPS_SECONDS)
    await asyncio.sleep(max(0.0, simulation.world.ends_at + 1.0 - asyncio.get_running_loop().time()))
    last = _start(simulation, kept, rng)
    loop = asyncio.get_running_loop()
    end = loop.time() + LONGEST_LIFE_SECONDS
    equal_since = end
    while loop.time() < equal_since + STEADY_SECONDS:
        if simulate._differences(simulation) or not last.ready:
            equal_since = end
        equal_since = min(equal_since, loop.time())
        _check(simulation, [last])
        if loop.time() > end:
            raise Violation(f"never equal, ready={last.ready}: {simulate._differences(simulation)[:3]}")
        await asyncio.sleep(0.5)
    await _drain(simulation, last)
    await asyncio.sleep(3.0)
    simulate._judge(simulation)
    return simulation.counted


async def _term(simulation: Simulation, kept: Kept, rng: random.Random) -> None:
    """A process, or two that start together, or one and another that comes later; in the end no one is left."""
    happening = rng.choice(["alone", "together", "together", "newcomer", "refused", "takes over", "frozen"])
    simulation.counted[happening] += 1
    first = _start(simulation, kept, rng, frozen=happening == "frozen")
    if rng.random() < 0.4:
        first.session.cut = PowerCut("before save", 1)  # rows are there, and no position
    others: list[One] = []
    if happening == "together":
        others.append(_start(simulation, kept, rng))
    elif happening != "alone":
        await _until(lambda: first.ready or not first.running or first.asks_until_frozen == 0)
        taken_over = happening in ("takes over", "frozen")
        others.append(_start(simulation, kept, rng, take_over=taken_over, patient=happening != "refused"))
    if happening == "frozen":
        await _until(lambda: others[0].ready or not others[0].running)
        first.woken.set()
    await asyncio.sleep(rng.uniform(1.0, 8.0))
    if others:
        await _compare(simulation, kept, happening, first, others[0])
    _check(simulation, [first, *others])
    for one in (first, *others):
        if one.running and rng.random() < 0.3:
            await _drain(simulation, one)
        one.session.power_cut()
    await asyncio.wait({one.task for one in (first, *others)})


async def _compare(simulation: Simulation, kept: Kept, happening: str, first: One, other: One) -> None:
    """Say what must not become of two processes."""
    steady = not simulation.faults.outages and abs(kept.ahead_seconds) < 1.0
    if happening in ("newcomer", "refused"):
        if first.running and first.ready and other.ready and steady:
            raise Violation("a process that is at work was not waited for")
        if first.ended_by(TOOK_OVER) and steady:
            raise Violation("a process that is at work was evicted")
        return
    if happening == "frozen" and other.ended_by(TOOK_OVER) and steady:
        raise Violation("a process that took over was evicted by one that was frozen at its start")
    await _until(lambda: not _both_work(first, other))
    if _both_work(first, other):
        raise Violation("two processes of one member go on")


def _both_work(first: One, other: One) -> bool:
    return all(one.running and one.ready for one in (first, other))


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(int(BEGIN_SECONDS * 2)):
        if condition():
            return
        await asyncio.sleep(0.5)


async def _drain(simulation: Simulation, one: One) -> None:
    one.draining.set()
    await asyncio.wait({one.task}, timeout=LONGEST_LIFE_SECONDS)
    if not one.task.done():
        raise Violation("a drain never ended")
    _check(simulation, [one])


def _check(simulation: Simulation, processes: Sequence[One]) -> None:
    def may_say(one: One, text: str) -> bool:
        drained = text.startswith("draining") and bool(simulation.faults.refusals)
        return TOOK_OVER in text or (AT_WORK in text and not one.patient) or drained

    check_endings(simulation, processes, may_say)


def _start(
    simulation: Simulation,
    kept: Kept,
    rng: random.Random,
    *,
    take_over: bool = False,
    patient: bool = True,
    frozen: bool = False,
) -> One:
    session = Life(f"{simulation.seed} {rng.random()}", simulation.faults, simulation.violations)
    one = One(session, take_over, patient)
    one.asks_until_frozen = rng.randint(1, 6) if frozen else None
    here = rng.random() < 0.5
    session.task = asyncio.create_task(_process(simulation, kept, one, here=here), name="process")
    return one


async def _process(simulation: Simulation, kept: Kept, one: One, *, here: bool) -> None:
    """Sessions until one ends for good. ``here``: whether others of its machine can see that it has died."""
    mark = f"{'here' if here else 'there'} {len(kept.processes)}"
    kept.processes[mark] = one
    await run_sessions(simulation, partial(_run_session, simulation, kept, one, mark))


def _ready(kept: Kept, one: One, epoch: int) -> None:
    one.ready = True
    other = kept.epochs.setdefault(epoch, one)
    if other is not one and not kept.forgetful:
        raise one.session.violated(f"epoch {epoch} was taken twice")


async def _run_session(simulation: Simulation, kept: Kept, one: One, mark: str) -> None:
    server, session, world = simulation.server, one.session, simulation.world
    streams = {script.id: LastingStream(server, session, script, "TRIM_HORIZON") for script in world.streams}
    keeper = KeptClient(kept, one)
    await run_session(
        [
            StreamTask(streams[script.id], StreamDecoder(script.tables, session), script.tables)
            for script in world.streams
        ],
        (),
        Destination(
            SinkClient(server, session, statement_bytes=simulation.batch.statement_bytes),
            ClockedCheckpoints(server, session, kept),
            SnapshotClient(server, session),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            recovery=NothingLost(kept.losses, session),
            orphan_rows=OrphanRowsClient(server, session),
            members=keeper,
            sessions=keeper,
        ),
        Settings(
            "sim",
            simulation.batch,
            simulation.budget_bytes,
            checkpoint_interval_seconds=simulation.checkpoint_seconds,
            succession=Succession(
                Process("host", mark),
                lambda other: other.startswith("here") and not kept.processes[other].running,
                one.take_over,
                one.patient,
            ),
        ),
        Instruments(Metrics(), TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(one.draining, on_ready=lambda epoch: _ready(kept, one, epoch)),
    )

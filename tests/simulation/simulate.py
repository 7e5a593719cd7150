"""One seed: a few lives of the real pipeline over the fakes, each ended somehow, and the verdict on what is left."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from support.pipeline import virtual_time

from dyncdc.errors import CorruptSnapshotError, FatalError
from dyncdc.model.shards import HORIZON, SourceId
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, SnapshotTask, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.snapshot.loader import SnapshotPlan
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation.fakes.aws import Exports, FakeOrigin, FakeSnapshotDecoders, FakeStream, StreamDecoder, garbage_id
from simulation.fakes.clickhouse import (
    CheckpointClient,
    ClickHouse,
    DeadLetterClient,
    Row,
    SinkClient,
    SnapshotClient,
    position_index,
    refused_id,
)
from simulation.fakes.orphan_rows import OrphanRowsClient
from simulation.fakes.watermarks import STREAM_DELAY_SECONDS, WatermarksClient

from .process_run import Faults, Life, PowerCut, Violation, server_time
from .world import EPOCH, Change, World, build

STREAM_POINTS = ("after fetch", "after insert", "before save", "while saving", "after save", "before release")
SWEEP_POINTS = ("snapshot sweeping", "while sweeping")
SNAPSHOT_POINTS = (
    "after file fetch",
    "export requested",
    "snapshot waiting",
    "snapshot exporting",
    "snapshot loading",
    *SWEEP_POINTS,
    "snapshot complete",
)
SETTLE_SECONDS = 4.0
MARGIN_SECONDS = 6.0
QUIET_SECONDS = 25.0
LONGEST_PAUSE_SECONDS = 2.0
"""Of a quiet session, between a shard's end and its children: a few inserts and saves, never an interval."""

LONGEST_LIFE_SECONDS = 600.0
"""Of virtual time. Whoever is not done by then never will be."""


@dataclass(slots=True)
class Simulation:
    """What one seed is made of, and what it counted."""

    seed: int
    world: World
    rng: random.Random
    server: ClickHouse
    exports: dict[str, Exports]
    faults: Faults
    start: str
    batch: BatchLimits
    budget_bytes: int
    cut_point: str | None = None
    checkpoint_seconds: float = 1.0
    longest_pause_seconds: float = float("inf")
    violations: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)


def run(seed: int, *, cut_point: str | None = None, quiet: bool = False) -> Counter[str]:
    """Run one seed in virtual time. Raises Violation; returns what was counted.

    ``cut_point``: let every session but the last end there. ``quiet``: no faults, and so little hurry by itself that
    only what is done at once at a shard's end keeps its children from waiting.
    """
    random.seed(seed)  # the jitter of the code under test
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        simulation = _prepare(seed, cut_point)
        if quiet:
            _calm(simulation)
        return virtual_time.run(_simulate(simulation))
    except Violation as error:
        raise Violation(f"seed {seed}: {error}") from error
    finally:
        structlog.reset_defaults()


def _prepare(seed: int, cut_point: str | None) -> Simulation:
    world = build(seed)
    rng = random.Random(f"lives of {seed}")
    server = ClickHouse(world)
    corrupt = rng.random() < 0.06
    exports = {table: Exports(world, server, table, corrupt=corrupt) for table in world.snapshots}
    _leave_rows(world, server)
    everything_loaded = all(table in world.snapshots for stream in world.streams for table in stream.tables)
    starts = ["TRIM_HORIZON", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP:1699999990.0"]
    outages = [(begin, begin + rng.uniform(2.0, 15.0)) for begin in (rng.uniform(0.0, 25.0),) if rng.random() < 0.3]
    broken = random.Random(f"refusals of {seed}")
    refusals = [(begin, begin + broken.uniform(2.0, 20.0)) for begin in (broken.uniform(0.0, 25.0),)]
    outages_and_refusals = {"outages": tuple(outages), "refusals": tuple(refusals) if broken.random() < 0.3 else ()}
    return Simulation(
        seed,
        world,
        rng,
        server,
        exports,
        Faults(**outages_and_refusals) if rng.random() < 0.85 else _no_faults(),
        rng.choice(starts) if everything_loaded else "TRIM_HORIZON",
        BatchLimits(
            max_rows=rng.choice([7, 40, 100_000]),
            max_bytes=rng.choice([2_000, 32 * 2**20]),
            max_age_seconds=rng.choice([0.2, 1.0]),
            statement_bytes=rng.choice([3_000, 4 * 2**20]),
        ),
        rng.choice([64 * 2**10, 256 * 2**10, 8 * 2**20]),
        cut_point,
    )


def _calm(simulation: Simulation) -> None:
    """Nothing fails, nothing is full, and nothing is written for its age for a long time."""
    simulation.faults = _no_faults()
    simulation.batch = BatchLimits(max_rows=100_000, max_bytes=32 * 2**20, max_age_seconds=QUIET_SECONDS)
    simulation.budget_bytes = 32 * 2**20
    simulation.checkpoint_seconds = QUIET_SECONDS
    simulation.longest_pause_seconds = LONGEST_PAUSE_SECONDS


def _leave_rows(world: World, server: ClickHouse) -> None:
    """Put old rows into the destinations of some tables that are to be loaded: stale items, and orphan rows."""
    rng = random.Random(f"rows of {world.seed}")
    for table, active_at in world.snapshots.items():
        if rng.random() < 0.6:
            continue
        server.had_rows.add(table)
        rows = server.tables.setdefault(table, {})
        for change in world.history[table]:
            if change.at < active_at and not change.deleted and rng.random() < 0.5:
                rows[change.key] = Row(change.version, change.number, change.payload, False)
        for number in range(rng.randint(0, 12)):
            version = int((EPOCH - 9000.0 + number) * 1_000_000)
            rows[f"orphan row{number}"] = Row(version, -1, "gone", False)


def _no_faults() -> Faults:
    return Faults(0, 0, 0, 0, 0, 0, 0, 0, 0)


async def _simulate(simulation: Simulation) -> Counter[str]:
    rng = simulation.rng
    for _ in range(rng.choice([0, 1, 2, 3, 4, 6]) if simulation.cut_point is None else 6):
        end = rng.choice(["power cut", *["power cut at a point"] * 4, "drain", "drain", "once"])
        if simulation.cut_point is not None:
            end = "power cut at a point"
        await _live(simulation, end)
        await asyncio.sleep(rng.uniform(0.0, rng.choice([0.1, 2.0])))
    corrupt = any(exports.corrupt for exports in simulation.exports.values())
    if not corrupt and rng.random() < 0.75:
        await asyncio.sleep(max(0.0, simulation.world.ends_at + 1.0 - asyncio.get_running_loop().time()))
        await _live(simulation, "once")
    else:
        await _live(simulation, "converge")
    await asyncio.sleep(3.0)  # what is still on its way to the server lands
    _judge(simulation)
    return simulation.counted


async def _live(simulation: Simulation, end: str) -> None:
    """Run one session and end it in the way named by ``end``."""
    rng = simulation.rng
    session = Life(f"{simulation.seed} {rng.random()}", simulation.faults, simulation.violations)
    if end == "power cut at a point":
        session.cut = _power_cut(simulation)
    session.longest_pause_seconds = simulation.longest_pause_seconds
    draining = asyncio.Event()
    metrics = Metrics()
    born = asyncio.get_running_loop().time()
    work = _process(simulation, session, draining, metrics, once=end == "once")
    session.task = asyncio.create_task(work, name="session")
    try:
        async with asyncio.timeout(LONGEST_LIFE_SECONDS):
            await _end(simulation, session, draining, end)
            await asyncio.wait({session.task})
    except TimeoutError:
        session.task.cancel()
        await asyncio.wait({session.task})
        raise Violation(f"a session never ended ({end}); {_differences(simulation)[:3]}") from None
    if simulation.violations:
        error = None if session.task.cancelled() else session.task.exception()
        raise Violation(simulation.violations[0]) from error
    _check_death(simulation, session, end, metrics, born)


def _power_cut(simulation: Simulation) -> PowerCut:
    rng = simulation.rng
    if simulation.cut_point is None and simulation.exports and rng.random() < 0.4:
        sweeps = simulation.server.had_rows and rng.random() < 0.3
        return PowerCut(rng.choice(SWEEP_POINTS if sweeps else SNAPSHOT_POINTS), 1)
    return PowerCut(simulation.cut_point or rng.choice(STREAM_POINTS), rng.randint(1, 6))


async def _end(simulation: Simulation, session: Life, draining: asyncio.Event, end: str) -> None:
    if end == "once":
        return
    if end == "converge":
        while asyncio.get_running_loop().time() < simulation.world.ends_at + 1.0 or _differences(simulation):
            if session.task is None or session.task.done():
                return
            await asyncio.sleep(0.5)
        draining.set()
        return
    longest_seconds = 20.0 if end == "power cut at a point" else 9.0
    if session.task is not None:
        await asyncio.wait({session.task}, timeout=simulation.rng.uniform(0.05, longest_seconds))
    if end == "drain":
        draining.set()
    elif not session.dead:
        session.power_cut()


def _check_death(simulation: Simulation, session: Life, end: str, metrics: Metrics, born: float) -> None:
    """See that the session ended as it must."""
    task = session.task
    if task is None or not task.done():
        raise Violation("a session that was never lived")
    if session.dead:
        point = session.cut.point if session.cut is not None and session.cut.countdown == 0 else "any time"
        simulation.counted[f"cut: {point}"] += 1
        return
    error = None if task.cancelled() else task.exception()
    if (
        isinstance(error, FatalError)
        and str(error).startswith("draining")
        and (simulation.faults.outages or simulation.faults.refusals)
    ):
        simulation.counted["drain cut short"] += 1
        return
    corrupt = any(exports.corrupt for exports in simulation.exports.values())
    if isinstance(error, CorruptSnapshotError) and corrupt and end == "once":
        simulation.counted["corrupt snapshot"] += 1
        return
    if task.cancelled() or error is not None:
        raise Violation(f"a session ended by {error!r} ({end})") from error
    held_bytes = metrics.registry.get_sample_value("dyncdc_budget_used_bytes")
    if held_bytes != 0:
        raise Violation(f"{held_bytes} bytes are held after a clean end ({end})")
    simulation.counted[f"ended: {end}"] += 1
    if end == "once":
        _check_once(simulation, born)


def _check_once(simulation: Simulation, born: float) -> None:
    """``--once`` has saved everything that had arrived when it began."""
    winners = simulation.server.winners()
    saved = {(str(source), str(shard)): row.mark.position for (source, shard), row in winners.items()}
    for stream, log, entry in simulation.world.entries():
        if entry.arrival <= born:
            position = saved.get((stream.id, log.id), HORIZON)
            if position_index(log.sequences, log.arrivals, position) <= log.entries.index(entry):
                raise Violation(f"--once ended at {position} of {log.id}, before {entry.sequence}")


def snapshot_tasks(simulation: Simulation, session: Life, streams: Mapping[SourceId, FakeStream]) -> list[SnapshotTask]:
    """The snapshots of all tables that have one, as the application makes them."""
    tasks = []
    for stream in simulation.world.streams:
        for table in stream.tables:
            if table in simulation.exports:
                plan = SnapshotPlan(table, "uuid", table in simulation.server.had_rows, MARGIN_SECONDS, SETTLE_SECONDS)
                needed = SETTLE_SECONDS + (MARGIN_SECONDS if plan.had_rows else 0.0)
                origin = FakeOrigin(simulation.exports[table], session, settle_seconds=needed)
                tasks.append(SnapshotTask(plan, origin, streams[stream.id]))
    return tasks


async def _process(
    simulation: Simulation, session: Life, draining: asyncio.Event, metrics: Metrics, *, once: bool
) -> None:
    """Start the pipeline as the application does."""
    server = simulation.server
    streams = {stream.id: FakeStream(server, session, stream, simulation.start) for stream in simulation.world.streams}
    await run_session(
        [
            StreamTask(streams[stream.id], StreamDecoder(stream.tables, session), stream.tables)
            for stream in simulation.world.streams
        ],
        snapshot_tasks(simulation, session, streams),
        Destination(
            SinkClient(server, session, statement_bytes=simulation.batch.statement_bytes),
            CheckpointClient(server, session),
            SnapshotClient(server, session),
            FakeSnapshotDecoders(session),
            DeadLetterClient(),
            orphan_rows=OrphanRowsClient(server, session),
            watermarks=WatermarksClient(server, session, set(simulation.exports)),
        ),
        Settings(
            "sim",
            simulation.batch,
            simulation.budget_bytes,
            checkpoint_interval_seconds=simulation.checkpoint_seconds,
            once=once,
            stream_delay_seconds=STREAM_DELAY_SECONDS,
            watermark_interval_seconds=1.6,
        ),
        Instruments(metrics, TaskHealth(clock=asyncio.get_running_loop().time), server_time),
        SessionControl(draining),
    )


def _judge(simulation: Simulation) -> None:
    """Compare the destination with the truth."""
    if simulation.violations:
        raise Violation(simulation.violations[0])
    simulation.counted["watermarks"] += sum(row.complete_until is not None for row in simulation.server.watermarks)
    differences = _differences(simulation)
    if differences:
        raise Violation(f"{len(differences)} differences, first: {differences[0]}")


def _differences(simulation: Simulation) -> list[str]:
    visible = _visible(simulation)
    found = _letters_missing(simulation)
    complete = {x.table for x in simulation.server.snapshots.values() if x.state == "complete"}
    for table, history in simulation.world.history.items():
        last: dict[str, Change] = {change.key: change for change in history}
        final = simulation.server.final(table)
        if table in simulation.exports and table not in complete and not simulation.exports[table].corrupt:
            found.append(f"the snapshot of {table} is not complete")
        for key, change in last.items():
            if change.kind == "poison" or (table not in complete and change.number not in visible):
                continue
            row = final.get(key)
            want = None if change.deleted else (change.number, change.payload)
            if (None if row is None else (row.number, row.payload)) != want:
                found.append(f"{table}.{key} is {row}, should be {change}")
        if table in complete or table not in simulation.server.had_rows:
            found += [f"{table}.{key} never existed" for key in final.keys() - last.keys()]
    return found


def _visible(simulation: Simulation) -> set[int]:
    """Changes that lie behind the first position that was ever saved for their stream."""
    numbers: set[int] = set()
    for stream in simulation.world.streams:
        position = simulation.server.first_positions.get(stream.id, "TRIM_HORIZON")
        for log in stream.shards.values():
            begin = position_index(log.sequences, log.arrivals, position)
            numbers.update(entry.change.number for entry in log.entries[begin:])
    return numbers


def _letters_missing(simulation: Simulation) -> list[str]:
    """Every record that cannot be decoded is a dead letter, under one id; nothing else is."""
    want: set[str] = set()
    may: set[str] = set()
    for stream, log, entry in simulation.world.entries():
        change = entry.change
        if change.kind == "garbage":
            want.add(garbage_id(stream.id, log.id, str(entry.sequence), change.number))
        elif change.kind == "poison":
            may.add(refused_id(change.table, change.key, change.number))
    for history in simulation.world.history.values():
        for change in {change.key: change for change in history}.values():
            if change.kind == "poison":
                want.add(refused_id(change.table, change.key, change.number))
    have = simulation.server.dead_letters.keys()
    return [f"no dead letter {identity}" for identity in sorted(want - have)] + [
        f"a dead letter {identity} without reason" for identity in sorted(have - want - may)
    ]

"""A streaming destination that is switched off and on again within a minute, while lives of a daemon come and go.

The real DestinationWatch and Recovery over a DynamoDB that keeps no record of what its destination was. The judge knows
when changes reached no stream: once a session could see it, a gap must tell of all of it, whatever is killed meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from support.pipeline.pipeline_parts import MemoryCheckpoints, ScriptedSource, checkpointer_of, sole_member
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run as run_virtual

from dyncdc.errors import RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.shards import Position, ShardId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import SnapshotTask
from dyncdc.pipeline.snapshot.plan import SnapshotPlan
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation.process_run import Violation

EPOCH = 1_000_000.0
TABLE = "orders"
SEEN_SECONDS = 12.0
"""Whoever lives so long while the destination is off has looked, even if one look in two failed."""
WRITTEN_SECONDS = 2.0
"""From a look to its gap, at most."""


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class Stream(ScriptedSource):
    """Its clock goes on."""

    @property
    def server_time(self) -> float:  # type: ignore[override]
        return now()

    @server_time.setter
    def server_time(self, value: float) -> None:
        """The clock takes no orders."""


class LoadedBefore(NoSnapshots):
    """One complete snapshot, from before everything."""

    async def load(self) -> list[Snapshot]:
        return [Snapshot("s", TABLE, "complete", "uuid", "arn", covered_from=EPOCH - 100.0)]


@dataclass(slots=True)
class Off:
    """One time without delivery. ``begin`` and ``end`` in seconds since the epoch."""

    begin: float
    end: float


@dataclass(slots=True)
class Life:
    """From its first look to its end."""

    begin: float
    end: float


class Switch:
    """Answers as the destination is; never fails twice in a row."""

    def __init__(self, offs: list[Off], rng: random.Random) -> None:
        self._offs = offs
        self._rng = rng
        self._failed = False

    def is_off(self, at: float) -> bool:
        return any(off.begin <= at < off.end for off in self._offs)

    async def covered_at(self) -> float | None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.2))
        self._failed = not self._failed and self._rng.random() < 0.2
        if self._failed:
            raise RetryableError("describing the destination: timed out")
        return None if self.is_off(now()) else now()

    async def identity(self) -> str:
        return "one"


async def _live(seed: int, counted: Counter[str]) -> None:
    rng = random.Random(f"switching {seed}")
    offs: list[Off] = []
    at = EPOCH + rng.uniform(20.0, 60.0)
    for _ in range(rng.randint(1, 4)):
        offs.append(Off(at, at + rng.uniform(SEEN_SECONDS, 60.0)))
        at = offs[-1].end + rng.uniform(20.0, 90.0)
    switch, store, source = Switch(offs, rng), MemoryRecovery(), Stream()

    async def slow() -> None:
        await asyncio.sleep(rng.uniform(0.0, WRITTEN_SECONDS / 4))

    store.answer = slow
    sessions: list[Life] = []
    while now() < at + 30.0:
        if switch.is_off(now()) and not sessions:
            await asyncio.sleep(1.0)
            continue
        begin = now()
        await _one_session(switch, source, store, sessions, rng.choice([rng.uniform(3.0, 40.0), 400.0]), at + 30.0)
        sessions.append(Life(begin, now()))
        await asyncio.sleep(rng.uniform(0.5, 20.0))
    gaps = list(store.gaps.values())
    for off in offs:
        _judge(off, sessions, gaps, counted)
    counted["gaps"] += len(gaps)
    for gap in gaps:
        if not any(off.begin < gap.end and gap.begin < off.end for off in offs):
            raise Violation(f"nothing was missed from {gap.begin:.1f} to {gap.end:.1f}")


async def _one_session(
    switch: Switch, source: Stream, store: MemoryRecovery, sessions: list[Life], seconds: float, until: float
) -> None:
    """Watch until someone kills it."""
    instruments = Instruments(Metrics(), TaskHealth(clock=lambda: asyncio.get_running_loop().time()), now)
    policy = Policy("resnapshot", {source.id: [TABLE]}, destinations={TABLE: "uuid"})
    recovery = Recovery(store, policy, instruments, sole_member())
    if sessions:
        store.tables[TABLE] = TableSource(TABLE, source.id, 1, EPOCH - 50.0, held=True)
        mark = Mark(Position("1"), sessions[-1].end)
        checkpointer = checkpointer_of(MemoryCheckpoints([Checkpoint(source.id, ShardId("shard-0"), mark, 1)]))
        await checkpointer.load()
        await recovery.begin([source], LoadedBefore(), checkpointer)
    watched = SnapshotTask(SnapshotPlan(TABLE, "uuid", False, 0.0, 0.0), switch, source)
    watch = StreamingMonitor(watched, recovery, instruments, table_id="one")  # type: ignore[arg-type]
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(min(seconds, max(0.0, until - now())))
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _judge(off: Off, sessions: list[Life], gaps: list[Gap], counted: Counter[str]) -> None:
    """Raise Violation unless gaps tell of a time without delivery, as far as anybody could see it."""
    for number, session in enumerate(sessions):
        first, last = max(session.begin, off.begin), min(session.end, off.end)
        if last - first < SEEN_SECONDS - 0.5 + WRITTEN_SECONDS and not (
            session.begin < off.begin and session.end > off.end
        ):
            continue
        # who is killed meanwhile leaves an open gap: no snapshot closes it whose coverage began before the end
        told_until = off.end if session.end > off.end + SEEN_SECONDS else first
        counted["seen off and on" if session.end > off.end else "killed while off"] += 1
        counted["seen by a later session"] += number > 0 and session.begin > off.begin
        if not any(gap.begin <= off.begin and gap.end >= told_until for gap in gaps):
            raise Violation(
                f"no change from {off.begin:.1f} to {off.end:.1f} reached the stream, which session {number} could see"
                f" from {first:.1f} on, and no gap tells of it: {[(gap.begin, gap.end) for gap in gaps]}"
            )


def run(seed: int) -> Counter[str]:
    """Run one seed. Raises Violation."""
    counted: Counter[str] = Counter()
    run_virtual(_live(seed, counted))
    return counted

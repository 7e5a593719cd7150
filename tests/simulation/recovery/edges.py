"""Shards that are read more slowly than they are written, at the edge of a retention that someone changes.

The real follower, shard readers, ledgers and checkpointer over a stream that trims as Kinesis does: without a word. The
judge knows every record: what no one got must lie in a gap, and the gap must be durable before any position behind it
is.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from support.pipeline.pipeline_parts import (
    MemoryCheckpoints,
    MemorySink,
    block,
    checkpointer_of,
    sole_member,
    values,
    writer_of,
)
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run as run_virtual

from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.shard.retention import edge as retention_edge
from dyncdc.pipeline.reading.stream_reader import LIST_INTERVAL_SECONDS, StreamReader
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Services, StreamTask
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth
from simulation.process_run import Violation

EPOCH = 1_000_000.0
SOURCE = SourceId("arn:edge@1")
TABLE = "orders"
LEAST_RETENTION_SECONDS = 5.0


@dataclass(slots=True)
class Trimmed:
    """One shard: everything that came in, what of it is still there, and what was handed out."""

    arrivals: list[float]
    retention_seconds: float
    gone: int = 0
    """Records that have been trimmed: a prefix."""
    got: set[int] = field(default_factory=set)

    def hole_seconds(self, number: int) -> float:
        """From the last record that someone got before ``number`` to the first one behind it."""
        before, behind = number, number
        while before >= 0 and before not in self.got:
            before -= 1
        while behind < len(self.arrivals) - 1 and behind not in self.got:
            behind += 1
        return self.arrivals[behind] - (self.arrivals[before] if before >= 0 else EPOCH)

    def trim(self, now: float) -> None:
        self.gone = max(self.gone, bisect_left(self.arrivals, now - self.retention_seconds))


class EdgeStream:
    """What the pipeline sees of it."""

    id = SOURCE
    label = "stream"
    pause_seconds = 0.2

    def __init__(self, shards: dict[str, Trimmed], rng: random.Random) -> None:
        self.shards = shards
        self._rng = rng
        self.kept = retention_edge.ObservedRetention(self._retention())
        self.slow_seconds = 0.0

    def _retention(self) -> float:
        return next(iter(self.shards.values())).retention_seconds

    @property
    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    @property
    def server_time(self) -> float:
        return float(int(self.now))

    @property
    def retention_seconds(self) -> float | None:
        return self.kept.seconds

    async def look_at_retention(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.1))
        self.kept = self.kept.seen(self._retention(), self.server_time)

    def start_position(self, shard: Shard) -> Position:
        return HORIZON

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        await self.look_at_retention()
        yield [Shard(SOURCE, ShardId(name)) for name in self.shards]

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        await asyncio.sleep(self._rng.uniform(0.01, 0.1) + self.slow_seconds)
        log, now = self.shards[shard.id], self.now
        log.trim(now)
        first = max(log.gone, int(after) if after.isdecimal() else 0)  # without a word
        limit = 0 if self._rng.random() < 0.1 else self._rng.randint(1, 40)
        upto = min(bisect_right(log.arrivals, now), first + limit)
        taken = list(range(first, upto))
        behind = max(0.001, now - log.arrivals[upto]) if upto < bisect_right(log.arrivals, now) else 0.0
        end = Position(str(upto)) if taken else after
        last = log.arrivals[taken[-1]] if taken else 0.0
        read_until = float(int(now)) if behind <= 0 else last or float(int(now)) - behind
        answer = RawChunk(
            shard,
            [f"{shard.id}:{number}".encode() for number in taken],
            [Position(str(number)) for number in taken],
            end,
            100 * len(taken),
            read_until,
            behind,
            first_arrived=log.arrivals[taken[0]] if taken else 0.0,
            answered=float(int(now)),
        )
        await asyncio.sleep(self._rng.uniform(0.0, 0.05))
        return answer

    def forget(self, shard: Shard) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        """Nothing is open."""


class GettingSink(MemorySink):
    """Remembers which records have become rows."""

    def __init__(self, shards: dict[str, Trimmed], rng: random.Random) -> None:
        super().__init__()
        self._shards = shards
        self._rng = rng

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        await super().insert(block, token, past_views=past_views)
        for _, value in values(block):
            name, _, number = value.partition(":")
            self._shards[name].got.add(int(number))


class OneRowForEach:
    """Decodes each record into one row that no other replaces."""

    tables = ("t",)

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        if chunk.records:
            yield Decoded([block("t", *((data.decode(), 1, data.decode()) for data in chunk.records))])


class JudgedCheckpoints(MemoryCheckpoints):
    """Positions may pass what no one got only once a gap tells of it."""

    def __init__(self, shards: dict[str, Trimmed], gaps: MemoryRecovery) -> None:
        super().__init__()
        self._shards = shards
        self._gaps = gaps

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        for row in rows:
            if row.mark.position.isdecimal():
                judge(
                    self._shards[row.shard],
                    row.shard,
                    int(row.mark.position),
                    self._gaps,
                    "a position passed",
                    short=True,
                )
        await super().save(rows)


def judge(log: Trimmed, shard: str, upto: int, gaps: MemoryRecovery, what: str, *, short: bool = False) -> None:
    """Raise Violation for a record before ``upto`` that no one got and no gap tells of."""
    mine = [gap for gap in gaps.gaps.values() if gap.shard == shard]
    for number in range(upto):
        arrived = log.arrivals[number]
        if number not in log.got and not any(gap.begin <= arrived <= gap.end for gap in mine):
            if short and log.hole_seconds(number) <= retention_edge.JUMP_SECONDS:
                continue
            raise Violation(
                f"{what} record {number} of {shard}, which arrived at {arrived:.3f} and is in no gap: {mine}"
            )


async def _live(seed: int, counted: Counter[str]) -> None:
    rng = random.Random(f"edge {seed}")
    retention = rng.uniform(20.0, 40.0)
    shards = {
        f"s{number}": Trimmed(
            sorted(EPOCH + rng.uniform(0.0, 240.0) for _ in range(rng.randint(200, 2_000))), retention
        )
        for number in range(rng.randint(1, 3))
    }
    source, gaps = EdgeStream(shards, rng), MemoryRecovery()
    store, budget = JudgedCheckpoints(shards, gaps), ByteBudget(10**7)
    instruments = Instruments(Metrics(), TaskHealth(), lambda: source.now)
    writer, checkpointer = writer_of(GettingSink(shards, rng), budget), checkpointer_of(store, interval_seconds=0.5)
    recovery = Recovery(gaps, Policy("resnapshot", {SOURCE: [TABLE]}), instruments, sole_member())
    await checkpointer.load()
    async with asyncio.TaskGroup() as tasks:
        readers = ReaderPool(ReadResources(instruments, budget, writer), checkpointer.progress, tasks)
        await recovery.begin([source], NoSnapshots(), checkpointer)
        services = Services(instruments, checkpointer, sole_member(), recovery)
        stream_reader = StreamReader(StreamTask(source, OneRowForEach()), readers, services)
        running = [tasks.create_task(each) for each in (writer.run(), checkpointer.run(), stream_reader.run())]
        await _disturb(source, shards, rng)
        source.slow_seconds = 0.0
        await asyncio.sleep(200.0)
        readers.cancel()
        for task in running:
            task.cancel()
    for name, log in shards.items():
        judge(log, name, len(log.arrivals), gaps, "no one got")
        mine = [gap for gap in gaps.gaps.values() if gap.shard == name]
        for gap in mine:
            counted["gaps without a loss"] += not any(
                number not in log.got and gap.begin <= at <= gap.end for number, at in enumerate(log.arrivals)
            )
        counted["lost"] += len(log.arrivals) - len(log.got)
        counted["gaps"] += len(mine)
        counted["told"] += sum(any(gap.begin <= at <= gap.end for gap in mine) for at in log.arrivals)


async def _disturb(source: EdgeStream, shards: dict[str, Trimmed], rng: random.Random) -> None:
    """For four minutes read slowly for a while, now and then, and change the retention."""
    changed_at = 0.0
    for _ in range(6):
        source.slow_seconds = rng.choice([0.0, rng.uniform(0.5, 12.0), rng.uniform(20.0, 60.0)])
        await asyncio.sleep(rng.uniform(5.0, 60.0))
        # Two changes between two looks cannot be told from none.
        if rng.random() < 0.5 and source.now - changed_at > LIST_INTERVAL_SECONDS + 10.0:
            changed_at = source.now
            changed = rng.uniform(LEAST_RETENTION_SECONDS + 1.0, 60.0)
            for log in shards.values():
                log.trim(source.now)
                log.retention_seconds = changed


def run(seed: int) -> Counter[str]:
    """Run one seed. Raises Violation."""
    counted: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention_edge, "LEAST_RETENTION_SECONDS", LEAST_RETENTION_SECONDS)
        try:
            run_virtual(_live(seed, counted))
        except* Violation as found:
            raise _first(found) from None
    return counted


def _first(group: BaseExceptionGroup[Violation]) -> Violation:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner

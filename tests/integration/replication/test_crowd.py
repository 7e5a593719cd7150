"""Many shards at once, in virtual time: the idle ones cost little, and the busy ones starve no one.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from support.pipeline.pipeline_parts import (
    MemorySink,
    OneRowEach,
    ScriptedSource,
    chunk,
    instruments_of,
    shard,
    writer_of,
)
from support.pipeline.virtual_time import run

from dyncdc.model.blocks import Block
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.shard.polling import IDLE_CALLS_PER_SECOND_AT_MOST
from dyncdc.pipeline.reading.shard.shard_reader import ShardReader
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.telemetry.task_health import TaskHealth


class Crowd:
    """Pumps of many shards over one scripted source."""

    def __init__(self, *, capacity_bytes: int, sink: MemorySink | None = None) -> None:
        self.source = ScriptedSource()
        self.budget = ByteBudget(capacity_bytes)
        self.writer = writer_of(sink or MemorySink(), self.budget, BatchLimits(10**6, 2**20, 0.5))
        health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        self.resources = ReadResources(instruments_of(health=health), self.budget, self.writer)

    async def live(self, shards: list[Shard], seconds: float) -> None:
        """Read them all for so long."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.writer.run(), name="writer")]
            for each in shards:
                shard_reader = ShardReader(
                    self.resources, self.source, OneRowEach(), ShardLedger(each, Mark(HORIZON), persisted=None)
                )
                running.append(tasks.create_task(self._read(shard_reader), name=shard_reader.name))
            await asyncio.sleep(seconds)
            assert not self.resources.instruments.health.stuck()
            for task in running:
                task.cancel()

    async def _read(self, shard_reader: ShardReader) -> None:
        await shard_reader.run()


def test_k16_ten_thousand_idle_shards_take_a_bounded_number_of_calls() -> None:
    """Catches: a loop per shard at the pace of a single one: 10,000 calls a second, and the core is gone."""
    shards, seconds = 10_000, 55.0

    async def work() -> None:
        idle_poll_limiter = Crowd(capacity_bytes=64 * 2**20)
        await idle_poll_limiter.live([shard(f"s{number}") for number in range(shards)], seconds)
        calls = Counter(name for name, _, _ in idle_poll_limiter.source.fetched)
        assert len(calls) == shards
        assert min(calls.values()) >= 2, "no one is forgotten"
        assert sum(calls.values()) <= shards + 1.1 * IDLE_CALLS_PER_SECOND_AT_MOST * seconds
        assert idle_poll_limiter.budget.held_bytes == 0

    run(work())


def test_k16_one_busy_shard_among_thousands_keeps_its_pace() -> None:
    """Catches: a crowd's pause that slows down the shards that have something to say."""

    async def work() -> None:
        idle_poll_limiter = Crowd(capacity_bytes=64 * 2**20)

        async def answer(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            if of.id != "busy":
                return chunk(of, [], after)
            return chunk(of, [b"x"], "1" if after == HORIZON else str(int(after) + 1))

        idle_poll_limiter.source.answer = answer
        await idle_poll_limiter.live([shard(f"s{number}") for number in range(3000)] + [shard("busy")], 20.0)
        assert sum(1 for name, _, _ in idle_poll_limiter.source.fetched if name == "busy") >= 0.8 * 20.0 / 0.26

    run(work())


def test_c15_shards_that_are_always_full_starve_no_other() -> None:
    """Catches: budget or turns for whoever asked last, or asks most: the idle would wait for the backlog of the hot."""
    seconds = 60.0

    async def work() -> None:
        read_at: defaultdict[str, list[float]] = defaultdict(list)

        async def slowly(_: Block) -> None:
            await asyncio.sleep(0.2)

        idle_poll_limiter = Crowd(capacity_bytes=4 * 2**20, sink=MemorySink(slowly))

        async def answer(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            read_at[of.id].append(asyncio.get_running_loop().time())
            if not of.id.startswith("hot"):
                return chunk(of, [], after)
            end = "1" if after == HORIZON else str(int(after) + 1)
            return chunk(of, [b"x" * 250_000] * 4, end, behind_seconds=3600.0)

        idle_poll_limiter.source.answer = answer
        hot, idle = (
            [shard(f"{kind} {number}") for number in range(count)] for kind, count in (("hot", 8), ("idle", 92))
        )
        await idle_poll_limiter.live([*hot, *idle], seconds)
        longest = max(
            after - before
            for name, times in read_at.items()
            if name.startswith("idle")
            for before, after in zip([0.0, *times], [*times, seconds], strict=True)
        )
        assert longest < 5.0, longest
        assert all(len(read_at[each.id]) > 20 for each in hot)

    run(work())

"""Shard reader: bounded by the budget, complete between awaits, and poor while it rests."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support.pipeline.pipeline_parts import (
    MemorySink,
    OneRowEach,
    ScriptedSource,
    chunk,
    instruments_of,
    ledger_of,
    mark,
    shard,
    writer_of,
)
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.blocks import Decoded
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.shard.fetch_memory import DECODE_COST, FETCH_COST
from dyncdc.pipeline.reading.shard.polling import FetchSize, PollInterval
from dyncdc.pipeline.reading.shard.shard_reader import ShardReader
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.telemetry.task_health import TaskHealth

FIRST_FETCH_BYTES = 32 * 1024


class Bench:
    """A shard reader over a scripted source; whoever wants a writer that flushes runs it."""

    def __init__(
        self, *, capacity_bytes: int = 10**6, sink: MemorySink | None = None, fetch_ceiling_bytes: int = 2 * 2**20
    ) -> None:
        self.source = ScriptedSource()
        self.sink = sink or MemorySink()
        self.budget = ByteBudget(capacity_bytes)
        self.writer = writer_of(self.sink, self.budget, BatchLimits(10**6, 2**30, 0.5))
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        self.resources = ReadResources(
            instruments_of(health=self.health), self.budget, self.writer, fetch_ceiling_bytes=fetch_ceiling_bytes
        )
        self.ledger = ledger_of()

    def put(self) -> tuple[int, int]:
        """Rows and bytes that the writer has and that are not durable."""
        batches = [*self.writer._batches._open.values(), *self.writer._batches._flushing.values()]
        return sum(batch.rows for batch in batches), sum(batch.nbytes for batch in batches)

    def shard_reader(self, ledger: ShardLedger | None = None) -> ShardReader:
        return ShardReader(self.resources, self.source, OneRowEach(), ledger or self.ledger)


def counting(bench: Bench, *, records: int, last: int, size: int = 100) -> list[str]:
    """Let the source answer with numbered records until ``last`` closes the shard. Returns where answers ended."""
    ends: list[str] = []

    async def answer(of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.01)
        begin = 0 if after == HORIZON else int(after)
        end = min(begin + records, last)
        ends.append(str(end))
        data = [b"x" * size] * (end - begin)
        return chunk(of, data, str(end), closed=end == last, behind_seconds=0.0 if end == last else 5.0)

    bench.source.answer = answer
    return ends


def test_a_shard_is_read_to_its_end_and_its_last_answer_counts() -> None:
    async def work() -> None:
        bench = Bench()
        ends = counting(bench, records=10, last=25)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(bench.writer.run(), name="writer")
            last = await bench.shard_reader().run()
            await asyncio.sleep(1)
            writing.cancel()
        assert ends == ["10", "20", "25"] and last.closed and not last.records
        assert sum(found.rows for found in bench.sink.inserted) == 25
        assert bench.ledger.frontier.finished and bench.ledger.frontier.position == "25"
        assert bench.budget.held_bytes == 0
        assert bench.source.forgotten == ["s"]

    run(work())


def test_a_pump_goes_on_from_the_frontier() -> None:
    async def work() -> None:
        bench = Bench()
        counting(bench, records=10, last=25)
        await bench.shard_reader(ShardLedger(shard(), mark(20), persisted=mark(20))).run()
        assert [after for _, after, _ in bench.source.fetched] == ["20"]

    run(work())


@pytest.mark.parametrize("steps", range(40))
def test_a_pump_cancelled_anywhere_holds_nothing_and_has_tracked_all_or_nothing(steps: int) -> None:
    async def work() -> None:
        bench = Bench()
        counting(bench, records=3, last=9)
        task = asyncio.create_task(bench.shard_reader().run(), name="shard reader")
        for _ in range(steps):
            await asyncio.sleep(0.0 if steps % 2 else 0.004)
        task.cancel()
        await asyncio.wait({task})
        assert bench.budget.held_bytes == bench.put()[1], "what is held is what was handed over"
        assert bench.budget.waiting == 0 and bench.writer.fetching == 0
        assert bench.health.tasks() == []
        assert bench.ledger.frontier == Mark(HORIZON)

    run(work())


@pytest.mark.parametrize("steps", range(6))
def test_a_pump_cancelled_while_it_waits_for_the_budget_takes_nothing(steps: int) -> None:
    async def work() -> None:
        bench = Bench(capacity_bytes=1_000)
        first = await bench.budget.reserve(1_000)
        task = asyncio.create_task(bench.shard_reader().run(), name="shard reader")
        await asyncio.sleep(0.1)
        first.release()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert bench.budget.held_bytes == 0 and bench.budget.waiting == 0

    run(work())


def test_c9_with_a_stalled_sink_fetching_stops_by_itself_at_the_budget() -> None:
    async def never(_: object) -> None:
        await asyncio.sleep(10**6)

    async def work() -> None:
        bench = Bench(capacity_bytes=1_000_000, sink=MemorySink(never), fetch_ceiling_bytes=1_000_000 // 16)
        counting(bench, records=100, last=10**9, size=300)
        async with asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[Any]] = [tasks.create_task(bench.writer.run(), name="writer")]
            running += [
                tasks.create_task(bench.shard_reader(ledger_of(f"s{n}")).run(), name=f"reader-{n}") for n in range(5)
            ]
            await asyncio.sleep(300)
            fetched, held_bytes = len(bench.source.fetched), bench.budget.held_bytes
            await asyncio.sleep(3_000)
            assert len(bench.source.fetched) == fetched, "no one fetches what has no room"
            assert bench.budget.held_bytes == held_bytes <= bench.budget.capacity_bytes
            assert bench.put() == (fetched * 100, held_bytes), "every byte held is one that was fetched"
            assert bench.budget.peak_bytes <= bench.budget.capacity_bytes + bench.budget.overshoot_bytes_total
            assert bench.budget.waiting == 5
            for task in running:
                task.cancel()

    run(work())


def test_an_answer_beyond_its_estimate_is_counted_and_keeps_others_out() -> None:
    async def work() -> None:
        bench = Bench(capacity_bytes=200_000)

        async def huge(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            return chunk(of, [b"x" * 150_000], "1", behind_seconds=1.0)

        bench.source.answer = huge
        task = asyncio.create_task(bench.shard_reader().run(), name="shard reader")
        await asyncio.sleep(0.05)
        (decoded,) = OneRowEach().decode(await huge(bench.ledger.shard, HORIZON))
        held = 150_000 + decoded.blocks[0].nbytes
        assert held > 150_000 * DECODE_COST, "this decoder makes more of a record than is set aside"
        assert bench.budget.overshoot_bytes_total == held - 200_000
        assert bench.budget.held_bytes <= 200_000, "columns are smaller than records and columns"
        task.cancel()
        await asyncio.wait({task})

    run(work())


def test_no_one_holds_the_records_while_a_shard_rests() -> None:
    class Records(list[bytes]):
        """A list that can be watched."""

    async def work() -> None:
        bench = Bench()
        watched: list[weakref.ref[Records]] = []

        async def answer(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            records = Records([b"x" * 1_000])
            watched.append(weakref.ref(records))
            found = chunk(of, [b"x"], "1")
            return RawChunk(of, records, found.positions, found.end, 1_000, 1_000.0)

        bench.source.answer = answer
        bench.source.pause_seconds = 10.0
        task = asyncio.create_task(bench.shard_reader().run(), name="shard reader")
        await asyncio.sleep(5)
        gc.collect()
        assert len(watched) == 1 and watched[0]() is None
        task.cancel()
        await asyncio.wait({task})

    run(work())


def test_a_shard_that_rests_after_an_error_holds_no_budget_and_does_not_count_as_fetching() -> None:
    async def work() -> None:
        bench = Bench()

        async def fail(of: Shard, after: Position) -> RawChunk:
            raise RetryableError("throttled")

        bench.source.answer = fail
        task = asyncio.create_task(bench.shard_reader().run(), name="shard reader")
        for _ in range(200):
            await asyncio.sleep(0.05)
            assert bench.budget.held_bytes == 0 and bench.writer.fetching == 0
        assert len(bench.source.fetched) > 3
        task.cancel()
        await asyncio.wait({task})

    run(work())


def test_a_fatal_error_gives_back_what_was_reserved() -> None:
    async def work() -> None:
        bench = Bench()

        async def fail(of: Shard, after: Position) -> RawChunk:
            raise FatalError("denied")

        bench.source.answer = fail
        with pytest.raises(FatalError):
            await bench.shard_reader().run()
        assert bench.budget.held_bytes == 0 and bench.writer.fetching == 0

    run(work())


def test_k16_hundreds_of_idle_shards_reserve_little_at_a_time() -> None:
    async def work() -> None:
        bench = Bench(capacity_bytes=100 * 2**20)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(bench.shard_reader(ledger_of(f"s{n}")).run(), name=f"reader-{n}") for n in range(300)
            ]
            await asyncio.sleep(20)
            assert bench.budget.peak_bytes <= 300 * FIRST_FETCH_BYTES * FETCH_COST
            assert {want for _, _, want in bench.source.fetched} == {FIRST_FETCH_BYTES}
            for task in running:
                task.cancel()

    run(work())


def test_fetches_grow_while_answers_are_full_and_shrink_again() -> None:
    size = FetchSize(ceiling_bytes=100_000)
    for _ in range(5):
        size.learn(size.want_bytes, 100)
    assert size.want_bytes == 100_000
    for _ in range(9):
        size.learn(0, 0)
    assert size.want_bytes == FIRST_FETCH_BYTES


def test_a_fetch_reserves_for_a_record_as_large_as_those_before_it() -> None:
    size = FetchSize()
    size.learn(10 * 2**20, 1)
    assert size.expected_bytes == 10 * 2**20 and size.want_bytes <= 2 * 2**20
    size.learn(2**20, 1_000)
    assert size.expected_bytes == 5 * 2**20, "the next one may be large again"
    for _ in range(9):
        size.learn(0, 0)
    assert size.expected_bytes == FIRST_FETCH_BYTES


def test_shards_of_large_records_are_not_fetched_beside_each_other_beyond_the_budget() -> None:
    """Catches: four answers of the largest records in memory at once, whatever ``limits.memory_bytes`` says."""

    async def work() -> None:
        bench = Bench(capacity_bytes=1_000_000)
        fetching = most = 0

        async def answer(of: Shard, after: Position) -> RawChunk:
            nonlocal fetching, most
            number = 1 if after == HORIZON else int(after) + 1
            fetching += number > 1
            most = max(most, fetching)
            await asyncio.sleep(0.01)
            fetching -= number > 1
            return chunk(of, [b"x" * 100_000], str(number), closed=number == 9, behind_seconds=5.0 if number < 9 else 0)

        bench.source.answer = answer
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(bench.writer.run(), name="writer")
            shard_readers = [
                tasks.create_task(bench.shard_reader(ledger_of(f"s{number}")).run()) for number in range(6)
            ]
            await asyncio.wait(shard_readers)
            writing.cancel()
        assert 1 <= most <= 2

    run(work())


class LargeSource(ScriptedSource):
    """A source that says how large its answers may be."""

    largest_answer_bytes = 100_000


def held_while_fetching(bench: Bench, first: int) -> tuple[list[int], int]:
    """Read twelve shards; return what is reserved at the beginning of each fetch, and how many are under way at most.

    ``first``: how many of a shard's first answers are small.
    """
    reserved: list[int] = []
    fetching = most = 0

    async def answer(of: Shard, after: Position) -> RawChunk:
        nonlocal fetching, most
        number = 1 if after == HORIZON else int(after) + 1
        fetching += 1
        most = max(most, fetching)
        reserved.append(bench.budget.held_bytes)
        await asyncio.sleep(0.01)
        fetching -= 1
        size = 10 if number <= first else 100_000
        return chunk(of, [b"x" * size], str(number), closed=number == 4, behind_seconds=5.0 if number < 4 else 0)

    async def work() -> None:
        bench.source.answer = answer
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(bench.writer.run(), name="writer")
            shard_readers = [
                tasks.create_task(bench.shard_reader(ledger_of(f"s{number}")).run()) for number in range(12)
            ]
            await asyncio.wait(shard_readers)
            writing.cancel()

    run(work())
    return reserved, most


@pytest.mark.parametrize("first", [0, 1, 3])
def test_answers_that_may_be_large_are_reserved_before_the_first_of_them_and_fetched_one_by_one(first: int) -> None:
    """Catches: twelve shards whose first answers are large, and only small ones reserved for."""
    bench = Bench(capacity_bytes=1_000_000)
    bench.source = LargeSource()
    _, most = held_while_fetching(bench, first)
    assert most == 1
    assert bench.budget.held_bytes == 0
    assert bench.budget.peak_bytes <= 1_000_000 + 100_000 * FETCH_COST
    assert not bench.resources.alone.locked()


def test_answers_that_may_be_large_are_fetched_beside_each_other_where_there_is_room() -> None:
    bench = Bench(capacity_bytes=4_000_000)
    bench.source = LargeSource()
    reserved, most = held_while_fetching(bench, 0)
    assert most > 1
    assert min(reserved) >= 100_000 * FETCH_COST
    assert bench.budget.overshoot_bytes_total == 0


@pytest.mark.parametrize("steps", range(1, 60, 4))
def test_a_pump_cancelled_while_it_fetches_alone_lets_others_go_on(steps: int) -> None:
    async def work() -> None:
        bench = Bench(capacity_bytes=1_000_000)
        bench.source = LargeSource()
        counting(bench, records=1, last=10**9)
        running = [asyncio.create_task(bench.shard_reader(ledger_of(f"s{n}")).run()) for n in range(3)]
        for _ in range(steps):
            await asyncio.sleep(0.001)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        assert not bench.resources.alone.locked()

    run(work())


def test_a_shard_that_rests_after_an_error_lets_others_fetch_large_answers() -> None:
    async def work() -> None:
        bench = Bench(capacity_bytes=1_000_000)
        bench.source = LargeSource()

        async def answer(of: Shard, after: Position) -> RawChunk:
            if of.id == "broken":
                raise RetryableError("reading: no")
            return chunk(of, [], "1", closed=True)

        bench.source.answer = answer
        broken = asyncio.create_task(bench.shard_reader(ledger_of("broken")).run())
        await asyncio.sleep(0.001)
        assert not bench.resources.alone.locked()
        await bench.shard_reader(ledger_of("other")).run()
        broken.cancel()
        await asyncio.wait({broken})

    run(work())


def test_a_small_ceiling_bounds_the_first_fetch_too() -> None:
    assert FetchSize(ceiling_bytes=1_000).want_bytes == 1_000


def test_k16_an_idle_shard_is_asked_less_and_less_often_and_a_busy_one_at_once_again() -> None:
    pace, empty = PollInterval(0.25), chunk(shard(), [], "1")
    pauses = [pace.after(empty) for _ in range(6)]
    assert pauses == sorted(pauses) and pauses[0] == pytest.approx(0.375) and pauses[-1] == 1.0
    assert pace.after(chunk(shard(), [b"x"], "2")) == 0.25
    assert pace.after(chunk(shard(), [], "2", behind_seconds=3.0)) == 0.25, "empty answers behind the tip mean nothing"


def test_the_tip_is_seen_only_when_what_came_with_it_is_with_the_writer() -> None:
    """Whoever waits for the tip may end the shard reader as soon as it is seen: ``--once`` does."""

    async def work() -> None:
        bench = Bench()

        async def answer(of: Shard, after: Position) -> RawChunk:
            return chunk(of, [b"a"] if after == HORIZON else [], "1")

        bench.source.answer = answer
        shard_reader = bench.shard_reader()
        seen: list[tuple[float, float, int]] = []

        class Watched(OneRowEach):
            def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
                for decoded in super().decode(chunk):
                    seen.append((shard_reader.progress.tip_seen_at, shard_reader.progress.put_until, bench.put()[0]))
                    yield decoded

        shard_reader._decoder._decoder = Watched()
        running = asyncio.create_task(shard_reader.run())
        await asyncio.sleep(0.1)
        assert seen == [(float("-inf"), 0.0, 0)]
        assert shard_reader.progress.tip_seen_at >= 0.0
        assert (shard_reader.progress.put_until, bench.put()[0]) == (1_000.0, 1)
        running.cancel()

    run(work())


def test_headroom_is_that_of_what_was_left_out_and_must_be_read_again() -> None:
    """Catches: a retention that runs out on changes that were held back, and no one is told before."""
    bench = Bench()
    bench.source.server_time = 5_000.0
    ledger = ledger_of()
    shard_reader = bench.shard_reader(ledger)
    ledger.track(mark(1, read_until=1_000.0), 0, lambda: None)
    assert shard_reader._fetcher.headroom_seconds(chunk(shard(), [], "2")) == 86_400.0
    ledger.track(mark(2, read_until=2_000.0), 1, lambda: None, incomplete=True).ack()
    assert shard_reader._fetcher.headroom_seconds(chunk(shard(), [], "2")) == 86_400.0 - 4_000.0

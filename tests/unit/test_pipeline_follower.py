"""StreamFollower: discovery that skips nothing, and lineage that waits for what is persisted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pipeline_parts import (
    SOURCE,
    MemoryCheckpoints,
    MemorySink,
    OneRowEach,
    ScriptedSource,
    checkpointer_of,
    chunk,
    mark,
    shard,
    writer_of,
)
from virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model import HORIZON, Checkpoint, Position, RawChunk, Shard, ShardId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.follower import LIST_INTERVAL_SECONDS, StreamFollower
from dyncdc.pipeline.pump import Engine
from dyncdc.pipeline.readers import Readers
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.progress import Progress


class Bench:
    """A follower with everything below it running."""

    def __init__(self, *pages: list[Shard], saved: tuple[Checkpoint, ...] = ()) -> None:
        self.source = ScriptedSource(pages)
        self.source.answer = self._answer
        self.store = MemoryCheckpoints(saved)
        self.budget = ByteBudget(10**7)
        self.sink = MemorySink()
        self.writer = writer_of(self.sink, self.budget)
        self.checkpointer = checkpointer_of(self.store)
        self.ends: dict[str, tuple[Shard, ...]] = {}
        """Shards that close with their next answer, and the children that it names."""

    async def _answer(self, of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.01)
        if of.id in self.ends:
            return chunk(of, [b"last"], "99", closed=True, children=self.ends[of.id])
        return chunk(of, [], after)

    @property
    def fetched(self) -> set[str]:
        return {name for name, _, _ in self.source.fetched}

    def first_positions(self) -> dict[str, str]:
        return {name: after for name, after, _ in reversed(self.source.fetched)}


@asynccontextmanager
async def following(bench: Bench) -> AsyncIterator[StreamFollower]:
    await bench.checkpointer.load()
    engine = Engine(bench.budget, bench.writer, Metrics(), Progress(), lambda: 1_000.0)
    try:
        async with asyncio.TaskGroup() as tasks:
            readers = Readers(engine, bench.checkpointer, tasks)
            follower = StreamFollower(bench.source, OneRowEach(), readers, bench.checkpointer, engine)
            running = [
                tasks.create_task(bench.writer.run(), name="writer"),
                tasks.create_task(bench.checkpointer.run(), name="checkpointer"),
                tasks.create_task(follower.run(), name="follower"),
            ]
            yield follower
            for task in running:
                task.cancel()
            readers.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


def row(name: str, position: object, *, finished: bool = False, read_until: float = 1_000.0) -> Checkpoint:
    return Checkpoint(SOURCE, ShardId(name), mark(position, finished=finished, read_until=read_until), 1, 1)


def test_children_start_as_soon_as_their_parent_is_persisted_without_a_list() -> None:
    async def work() -> None:
        bench = Bench([shard("p")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.ends["p"] = shard("c", "p"), shard("d", "p")
            await asyncio.sleep(3)
            assert {"c", "d"} <= bench.fetched and bench.first_positions()["c"] == HORIZON

    run(work())


def test_a_shard_that_was_read_to_its_end_is_not_read_again_while_that_waits_to_be_saved() -> None:
    async def never() -> None:
        raise RetryableError("no answer")

    async def work() -> None:
        bench = Bench([shard("p")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.store.answer = never
            bench.ends["p"] = (shard("c", "p"),)
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 3)
            assert sum(len(found.keys) for found in bench.sink.inserted) == 1
            assert "c" not in bench.fetched
            bench.store.answer = None
            await asyncio.sleep(3)
            assert "c" in bench.fetched

    run(work())


def test_the_child_of_a_merge_waits_for_a_parent_that_no_list_has_shown_yet() -> None:
    async def work() -> None:
        bench = Bench([shard("a"), shard("b")])
        async with following(bench):
            await asyncio.sleep(5)
            young, child = shard("young", "b"), shard("c", "a", "young")
            bench.source.pages = [[shard("a"), shard("b"), young, child]]
            bench.ends["a"] = (child,)
            await asyncio.sleep(10)
            assert "c" not in bench.fetched, "the other parent is not expired: it is younger than the last list"
            bench.ends |= {"b": (young,), "young": (child,)}
            await asyncio.sleep(10)
            assert "c" in bench.fetched

    run(work())


def test_a_parent_on_a_later_page_than_its_child_is_waited_for() -> None:
    async def work() -> None:
        bench = Bench([shard("a")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.source.pages = [[shard("c", "young")], [shard("young", "a"), shard("a")]]

            async def slow(number: int) -> None:
                await asyncio.sleep(3)

            bench.source.before_page = slow
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 2)
            assert bench.fetched == {"a"}

    run(work())


def test_the_child_of_an_expired_parent_is_read() -> None:
    async def work() -> None:
        bench = Bench([shard("c", "expired")])
        async with following(bench):
            await asyncio.sleep(3)
            assert bench.fetched == {"c"}

    run(work())


def test_a_page_that_fails_delays_only_what_it_would_have_shown() -> None:
    async def work() -> None:
        bench = Bench([shard("a")], [shard("b")])
        failing = True

        async def fails(number: int) -> None:
            await asyncio.sleep(0.01)
            if number == 1 and failing:
                raise RetryableError("limit exceeded")

        bench.source.before_page = fails
        async with following(bench) as follower:
            await asyncio.sleep(5)
            assert bench.fetched == {"a"} and not follower.held.is_set()
            failing = False
            await asyncio.sleep(LIST_INTERVAL_SECONDS)
            assert bench.fetched == {"a", "b"} and follower.held.is_set()

    run(work())


def test_a_start_at_a_time_is_saved_for_all_shards_before_the_first_read() -> None:
    async def work() -> None:
        bench = Bench([shard("a")], [shard("b")])
        bench.source.start = Position("AT_TIMESTAMP:1000.0")
        order: list[str] = []

        async def slow(number: int) -> None:
            order.append(f"page {number}")
            await asyncio.sleep(1)

        async def saved() -> None:
            await asyncio.sleep(1)
            order.append(f"saved after {len(bench.source.fetched)} reads")

        bench.source.before_page, bench.store.answer = slow, saved
        async with following(bench) as follower:
            await asyncio.sleep(2.5)
            assert not follower.held.is_set()
            await asyncio.sleep(5)
            assert follower.held.is_set()
        assert order[:3] == ["page 0", "page 1", "saved after 0 reads"]
        assert {x.shard for x in bench.store.saves[0]} == {"a", "b"}
        assert set(bench.first_positions().values()) == {"AT_TIMESTAMP:1000.0"}

    run(work())


def test_a_known_source_starts_new_shards_at_their_horizon() -> None:
    async def work() -> None:
        bench = Bench([shard("a"), shard("new")], saved=(row("a", 5),))
        bench.source.start = Position("AT_TIMESTAMP:1000.0")
        async with following(bench):
            await asyncio.sleep(3)
            assert bench.first_positions() == {"a": "5", "new": HORIZON}

    run(work())


def test_finished_shards_are_not_read_and_free_their_children() -> None:
    async def work() -> None:
        bench = Bench([shard("p"), shard("c", "p")], saved=(row("p", 9, finished=True), row("c", 3)))
        async with following(bench):
            await asyncio.sleep(3)
            assert bench.first_positions() == {"c": "3"}

    run(work())


@pytest.mark.parametrize(
    ("saved", "words"),
    [(row("gone", 7), "no longer lists"), (row("a", 7, read_until=1_000.0 - 90_000.0), "25.0 h ago")],
)
def test_a_lost_position_stops_everything_and_says_what_is_missing(saved: Checkpoint, words: str) -> None:
    async def work() -> None:
        bench = Bench([shard("a")], saved=(saved,))
        with pytest.raises(FatalError, match=f"position of {saved.shard} is lost.*{words}.*after position 7"):
            async with following(bench):
                await asyncio.sleep(5)

    run(work())


def test_a_lost_position_is_not_read_while_the_list_is_still_coming_in() -> None:
    async def work() -> None:
        bench = Bench([shard("a")], [shard("b")], saved=(row("a", 7, read_until=1.0), row("b", 1)))
        bench.source.server_time = 100_000.0

        async def slow(number: int) -> None:
            await asyncio.sleep(3)

        bench.source.before_page = slow
        with pytest.raises(FatalError, match="position of a is lost"):
            async with following(bench):
                await asyncio.sleep(10)
        assert "a" not in bench.fetched, "Kinesis would go on at the horizon without a word"

    run(work())


def test_a_child_that_the_list_does_not_show_yet_is_not_lost() -> None:
    async def work() -> None:
        bench = Bench([shard("p")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.ends["p"] = (shard("c", "p"),)
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 3)
            assert "c" in bench.fetched

    run(work())


def test_a_shard_that_expires_between_its_last_answer_and_its_last_save_is_not_lost() -> None:
    async def never() -> None:
        raise RetryableError("no answer")

    async def work() -> None:
        bench = Bench([shard("p"), shard("other")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.store.answer = never
            bench.ends["p"] = ()
            await asyncio.sleep(5)
            bench.source.pages = [[shard("other")]]
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 2)

    run(work())

"""StreamReader: discovery that skips nothing, and lineage that waits for what is persisted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest
from support.pipeline.pipeline_parts import (
    SOURCE,
    MemoryCheckpoints,
    MemorySink,
    OneRowEach,
    ScriptedSource,
    checkpointer_of,
    chunk,
    instruments_of,
    mark,
    shard,
    sole_member,
    values,
    writer_of,
)
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, PositionLostError, RetryableError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.gaps import TableSource
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.stream_reader import LIST_INTERVAL_SECONDS, StreamReader
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery, SourceLostError
from dyncdc.pipeline.session.services import Services, StreamTask
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth


class Bench:
    """A follower with everything below it running."""

    def __init__(
        self,
        *pages: list[Shard],
        saved: tuple[Checkpoint, ...] = (),
        on_lost_position: Literal["resnapshot", "stop"] = "resnapshot",
    ) -> None:
        self.on_lost_position = on_lost_position
        self.metrics = Metrics()
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        self.recovery = MemoryRecovery()
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
async def following(bench: Bench) -> AsyncIterator[StreamReader]:
    await bench.checkpointer.load()
    instruments = instruments_of(bench.metrics, bench.health)
    try:
        async with asyncio.TaskGroup() as tasks:
            readers = ReaderPool(
                ReadResources(instruments, bench.budget, bench.writer), bench.checkpointer.progress, tasks
            )
            policy = Policy(bench.on_lost_position, {SOURCE: ["orders", "accounts"]})
            recovery = Recovery(bench.recovery, policy, instruments_of(bench.metrics), sole_member())
            await recovery.begin([bench.source], NoSnapshots(), bench.checkpointer)
            services = Services(instruments, bench.checkpointer, sole_member(), recovery)
            stream_reader = StreamReader(StreamTask(bench.source, OneRowEach()), readers, services)
            running = [
                tasks.create_task(bench.writer.run(), name="writer"),
                tasks.create_task(bench.checkpointer.run(), name="checkpointer"),
                tasks.create_task(stream_reader.run(), name="follower"),
            ]
            yield stream_reader
            for task in running:
                task.cancel()
            readers.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


def row(name: str, position: object, *, finished: bool = False, read_until: float = 1_000.0) -> Checkpoint:
    return Checkpoint(SOURCE, ShardId(name), mark(position, finished=finished, read_until=read_until), 1, 1)


def test_k5_children_start_as_soon_as_their_parent_is_persisted_without_a_list() -> None:
    async def work() -> None:
        bench = Bench([shard("p")])
        async with following(bench):
            await asyncio.sleep(5)
            bench.ends["p"] = shard("c", "p"), shard("d", "p")
            await asyncio.sleep(3)
            assert {"c", "d"} <= bench.fetched and bench.first_positions()["c"] == HORIZON

    run(work())


def test_a_list_of_shards_that_only_fails_turns_health_red_and_one_that_works_again_green() -> None:
    async def never() -> AsyncIterator[list[Shard]]:
        await asyncio.sleep(30.0)
        raise RetryableError("listing shards: timed out")
        yield []

    async def work() -> None:
        bench = Bench([shard("p")])
        works, bench.source.list_shards = bench.source.list_shards, never  # type: ignore[method-assign]
        async with following(bench):
            await asyncio.sleep(65)
            assert [stuck.reason for stuck in bench.health.stuck()] == [
                "waiting for the list of shards (listing shards: timed out)"
            ]
            bench.source.list_shards = works  # type: ignore[method-assign]
            await asyncio.sleep(65)
            assert bench.health.stuck() == []
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 5)
            assert bench.health.stuck() == []

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


def test_a_child_that_is_finished_stays_so_when_its_parent_is_read_again() -> None:
    """Catches: a finished shard that is followed again, which no one reads and every look at the stream waits for."""

    async def work() -> None:
        bench = Bench([shard("p"), shard("c", "p"), shard("d", "c")], saved=(row("p", 5), row("c", 9, finished=True)))
        async with following(bench) as stream_reader:
            await asyncio.sleep(5)
            bench.ends["p"] = (shard("c", "p"),)
            await asyncio.sleep(5)
            assert {name for _, name in bench.checkpointer.progress.ledgers} == {"d"}
            assert stream_reader.completeness.read_past(1.0) and "d" in bench.fetched

    run(work())


def test_k2_the_child_of_a_merge_waits_for_a_parent_that_no_list_has_shown_yet() -> None:
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


def test_k1_a_parent_on_a_later_page_than_its_child_is_waited_for() -> None:
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


def test_k11_a_page_that_fails_delays_only_what_it_would_have_shown() -> None:
    async def work() -> None:
        bench = Bench([shard("a")], [shard("b")])
        failing = True

        async def fails(number: int) -> None:
            await asyncio.sleep(0.01)
            if number == 1 and failing:
                raise RetryableError("limit exceeded")

        bench.source.before_page = fails
        async with following(bench) as stream_reader:
            await asyncio.sleep(5)
            assert bench.fetched == {"a"} and not stream_reader.completeness.held.is_set()
            failing = False
            await asyncio.sleep(LIST_INTERVAL_SECONDS)
            assert bench.fetched == {"a", "b"} and stream_reader.completeness.held.is_set()

    run(work())


def test_k4_a_start_at_a_time_is_saved_for_all_shards_before_the_first_read() -> None:
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
        async with following(bench) as stream_reader:
            await asyncio.sleep(2.5)
            assert not stream_reader.completeness.held.is_set()
            await asyncio.sleep(5)
            assert stream_reader.completeness.held.is_set()
        assert order[:3] == ["page 0", "page 1", "saved after 0 reads"]
        assert {x.shard for x in bench.store.saves[0]} == {"a", "b"}
        assert set(bench.first_positions().values()) == {"AT_TIMESTAMP:1000.0"}

    run(work())


def test_k4_a_known_source_starts_new_shards_at_their_horizon() -> None:
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


LOST = [(row("gone", 7), "no longer lists"), (row("a", 7, read_until=1_000.0 - 90_000.0), "25.0 h ago")]


@pytest.mark.parametrize(("saved", "words"), LOST)
def test_k8_a_lost_position_stops_everything_and_says_what_is_missing(saved: Checkpoint, words: str) -> None:
    async def work() -> None:
        bench = Bench([shard("a")], saved=(saved,), on_lost_position="stop")
        with pytest.raises(FatalError, match=rf"orders .*after position 7.*shard {saved.shard}.*{words}") as caught:
            async with following(bench):
                await asyncio.sleep(5)
        assert "dyncdc snapshot orders" in caught.value.hint
        assert {(gap.table, gap.shard, gap.position) for gap in bench.recovery.gaps.values()} == {
            ("orders", saved.shard, "7"),
            ("accounts", saved.shard, "7"),
        }
        assert saved.shard not in bench.fetched, "nothing was read from somewhere else"
        assert not any(each.shard == saved.shard for rows in bench.store.saves for each in rows)

    run(work())


@pytest.mark.parametrize(("saved", "words"), LOST)
def test_k7_a_lost_position_is_written_down_before_anything_is_read_elsewhere(saved: Checkpoint, words: str) -> None:
    async def work() -> None:
        bench = Bench([shard("a"), shard("b"), shard("c", "gone")], saved=(saved, row("b", 5)))
        order: list[str] = []

        async def kept() -> None:
            await asyncio.sleep(2)
            order.append(f"gap after reading {sorted(bench.fetched)}")

        async def save() -> None:
            order.append("checkpoint")

        bench.recovery.answer, bench.store.answer = kept, save
        async with following(bench) as stream_reader:
            await asyncio.sleep(1)
            others = {"a", "b"} - {saved.shard}
            assert bench.fetched == others and not stream_reader.completeness.held.is_set(), "the others go on"
            await asyncio.sleep(5)
            assert stream_reader.completeness.held.is_set()
            assert bench.fetched == {"a", "b", "c"}
            assert bench.first_positions() == {"a": HORIZON, "b": "5", "c": HORIZON}
        assert f"gap after reading {sorted(others)}" in order
        (gap,) = [gap for gap in bench.recovery.gaps.values() if gap.table == "orders"]
        assert words in gap.reason and (gap.shard, gap.begin, gap.end) == (
            saved.shard,
            saved.mark.read_until,
            1_000.0,
        )
        last = {each.shard: each.mark for each in bench.store.rows}
        assert last[saved.shard].finished is (saved.shard == "gone")
        assert bench.metrics.registry.get_sample_value("dyncdc_gaps_total", {"table": "orders"}) == 1

    run(work())


@pytest.mark.parametrize("listed", [True, False])
def test_k7_a_shard_whose_position_turns_out_lost_while_it_is_read_is_looked_up(listed: bool) -> None:
    async def work() -> None:
        bench = Bench([shard("a"), shard("b")])
        async with following(bench) as stream_reader:
            await asyncio.sleep(5)
            normal, gone = bench.source.answer, 1

            async def lost(of: Shard, after: Position) -> RawChunk:
                nonlocal gone
                if of.id == "a" and gone:
                    gone -= 1
                    raise PositionLostError("reading shard a: it was deleted")
                assert normal is not None
                return await normal(of, after)

            bench.source.answer = lost
            if not listed:
                bench.source.pages = [[shard("b")]]
            await asyncio.sleep(5)
            assert stream_reader.completeness.held.is_set()
            assert {gap.shard for gap in bench.recovery.gaps.values()} == {"a"}
            assert ("a" in {shard_reader._ledger.shard.id for shard_reader in stream_reader.shard_readers()}) is listed
            assert "b" in {shard_reader._ledger.shard.id for shard_reader in stream_reader.shard_readers()}
        assert [each.mark.finished for each in bench.store.rows if each.shard == "a"][-1] is not listed

    run(work())


def test_a_shard_that_is_lost_over_and_over_is_not_looked_up_all_the_time() -> None:
    async def lost(of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.01)
        raise PositionLostError("reading shard a: it was deleted")

    async def work() -> None:
        bench = Bench([shard("a")])
        bench.source.answer = lost
        async with following(bench):
            await asyncio.sleep(LIST_INTERVAL_SECONDS * 4)
        assert len(bench.source.fetched) < 10

    run(work())


def test_k8_what_expires_while_a_shard_is_read_is_one_gap_before_anything_behind_it_counts() -> None:
    """A record each second, and a stop of 200 s with a retention of 100 s."""

    async def work() -> None:
        bench = Bench([shard("a")])
        bench.source.retention_seconds = 100.0
        arrivals = {number: 1_000.0 + number for number in range(1, 400)}

        async def answer(of: Shard, after: Position) -> RawChunk:
            now = bench.source.server_time = 1_000.0 + asyncio.get_running_loop().time()
            read = int(after) if after.isdecimal() else 0
            there = [number for number in arrivals if number > read and now - 100.0 <= arrivals[number] <= now]
            end, last = (str(there[-1]), arrivals[there[-1]]) if there else (after, now)
            found = chunk(of, [b"%d" % number for number in there], end)
            first = arrivals[there[0]] if there else 0.0
            return replace(found, read_until=last, arrived=last, first_arrived=first, answered=now)

        async def frozen(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(200)
            raise RetryableError("no answer")

        positions_at_gap: list[str] = []

        async def kept() -> None:
            positions_at_gap.append(max(bench.store.rows, key=lambda each: each.ordinal).mark.position)

        bench.source.answer, bench.recovery.answer = answer, kept
        async with following(bench):
            await asyncio.sleep(50)
            bench.source.answer = frozen
            await asyncio.sleep(2)
            last_read = int(bench.source.fetched[-1][1])
            bench.source.answer = answer
            await asyncio.sleep(300)
        (gap,) = [gap for gap in bench.recovery.gaps.values() if gap.table == "orders"]
        assert arrivals[last_read] <= gap.begin < arrivals[last_read + 1] and gap.position == str(last_read)
        rows = [int(value) for each in bench.sink.inserted for _, value in values(each)]
        first_behind = min(number for number in rows if number > last_read)
        assert gap.end == arrivals[first_behind] and first_behind - last_read > 50
        assert int(positions_at_gap[-1]) <= last_read, "the position passed the gap before it was durable"

    run(work())


def test_k13_a_source_that_is_gone_ends_the_session_after_its_positions_are_written_down() -> None:
    async def work() -> None:
        bench = Bench([shard("a")], saved=(row("a", 5), row("old", 9, finished=True)))

        async def gone(number: int) -> None:
            raise PositionLostError("listing shards: the stream was deleted and created again")

        with pytest.raises(SourceLostError, match="created again"):
            async with following(bench):
                await asyncio.sleep(5)
                bench.source.before_page = gone
                await asyncio.sleep(LIST_INTERVAL_SECONDS)
        assert {(gap.table, gap.shard, gap.position) for gap in bench.recovery.gaps.values()} == {
            ("orders", "a", "5"),
            ("accounts", "a", "5"),
        }

    run(work())


@pytest.mark.parametrize("held", [True, False])
def test_k3_a_shard_that_came_and_went_between_two_lives_is_a_loss_once_all_was_held(held: bool) -> None:
    async def work() -> None:
        bench = Bench([shard("new", "lost"), shard("b")], saved=(row("old", 5, finished=True), row("b", 5)))
        for table in ("orders", "accounts"):
            bench.recovery.tables[table] = TableSource(table, SOURCE, 1, 900.0, held)

        async def kept() -> None:
            assert "new" not in {each.shard for each in bench.store.rows}, "else nothing would tell of it any more"

        bench.recovery.answer = kept
        async with following(bench):
            await asyncio.sleep(5)
            assert bench.first_positions()["new"] == HORIZON
        assert {gap.shard for gap in bench.recovery.gaps.values()} == ({"lost"} if held else set())
        assert all(followed.held for followed in bench.recovery.tables.values())
        async with following(bench):
            await asyncio.sleep(5)
        assert len(bench.recovery.gaps) == (2 if held else 0), "and not again"

    run(work())


def test_k3_a_child_that_is_found_long_after_its_parent_ended_has_lost_its_first_records() -> None:
    async def work() -> None:
        ended = row("p", 5, finished=True, read_until=1_000.0 - 90_000.0)
        bench = Bench([shard("c", "p")], saved=(ended,))
        async with following(bench):
            await asyncio.sleep(5)
            assert bench.fetched == {"c"}
        assert {gap.shard for gap in bench.recovery.gaps.values()} == {"c"}

    run(work())


@pytest.mark.parametrize("before", [TableSource("orders", SourceId("stream@0"), 1, 900.0), None])
def test_k13_a_source_that_took_the_place_of_another_is_read_from_its_horizon(before: TableSource | None) -> None:
    async def work() -> None:
        bench = Bench([shard("a")])
        bench.source.start = Position("AT_TIMESTAMP:1000.0")
        if before is not None:
            bench.recovery.tables["orders"] = before
        async with following(bench):
            await asyncio.sleep(5)
            assert bench.first_positions() == {"a": HORIZON if before else "AT_TIMESTAMP:1000.0"}
        assert bench.recovery.tables["orders"].source == SOURCE
        reasons = [gap.reason for gap in bench.recovery.gaps.values()]
        assert reasons == (["the stream was deleted and created again"] if before else [])

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

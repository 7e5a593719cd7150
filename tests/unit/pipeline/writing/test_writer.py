"""Writer: when it flushes, what is in flight at a time, and what becomes of rows that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from support.pipeline.pipeline_parts import WIDE, MemorySink, block, ledger_of, mark, values, writer_of
from support.pipeline.running_writer import running
from support.pipeline.virtual_time import run

from dyncdc.errors import RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.writing.flush_rate import GATHER_SECONDS
from dyncdc.pipeline.writing.open_batch import BatchLimits


class Bench:
    """A running writer over a sink that obeys."""

    def __init__(self, limits: BatchLimits = WIDE, *, capacity_bytes: int = 10**6) -> None:
        self.sink = MemorySink()
        self.budget = ByteBudget(capacity_bytes)
        self.writer = writer_of(self.sink, self.budget, limits)
        self.ledger = ledger_of()
        self.chunks = 0

    def put(self, *blocks: Block, ledger: ShardLedger | None = None) -> None:
        """Hand over one chunk."""
        self.chunks += 1
        receipt = (ledger or self.ledger).track(mark(self.chunks), len(blocks), lambda: None)
        for found in blocks:
            self.writer.put(found, receipt)

    @property
    def statements(self) -> list[list[tuple[str, str]]]:
        return [values(found) for found in self.sink.inserted]


def limits(**changes: int | float) -> BatchLimits:
    return BatchLimits(**{"max_rows": 10**6, "max_bytes": 2**30, "max_age_seconds": 1.0} | changes)  # type: ignore[arg-type]


def test_a_batch_is_flushed_when_it_is_old_enough_and_not_before() -> None:
    async def work() -> None:
        async with running(Bench()) as bench:
            bench.put(block("t", ("a", 1, "1")))
            await asyncio.sleep(0.9)
            bench.put(block("t", ("b", 1, "2")))
            assert bench.statements == []
            await asyncio.sleep(0.2)
            assert bench.statements == [[("a", "1"), ("b", "2")]]
            assert bench.ledger.frontier == mark(2)

    run(work())


def test_what_follows_a_pause_hardly_waits_and_what_follows_that_waits_one_age_at_most() -> None:
    async def work() -> None:
        async with running(Bench()) as bench:
            bench.put(block("t", ("a", 1, "1")))
            await asyncio.sleep(5.0)
            for first, second in ("bc", "de"):  # what was saved up
                bench.put(block("t", (first, 1, "2")))
                bench.put(block("t", (second, 1, "3")))
                await asyncio.sleep(0.03)
            bench.put(block("t", ("f", 1, "4")))
            assert bench.statements[1:] == [[("b", "2"), ("c", "3")], [("d", "2"), ("e", "3")]]
            await asyncio.sleep(0.9)
            assert len(bench.statements) == 3
            await asyncio.sleep(0.2)
            assert bench.statements[3:] == [[("f", "4")]]

    run(work())


@pytest.mark.parametrize(("every_seconds", "age_seconds"), [(0.2, 0.25), (0.25, 1.0), (0.1, 1.0)])
def test_flushes_of_a_busy_table_come_just_after_a_read_and_once_per_age(
    every_seconds: float, age_seconds: float
) -> None:
    """Catches: a flush as soon as one is allowed again, between two reads: the first has waited, the second waits."""
    turns = 400

    async def work() -> None:
        async with running(Bench(limits(max_age_seconds=age_seconds))) as bench:
            fresh = 0
            for turn in range(turns):
                bench.put(block("t", (str(turn), 1, "1")))
                await asyncio.sleep(GATHER_SECONDS * 1.1)
                fresh += bool(bench.statements) and bench.statements[-1][-1][0] == str(turn)
                await asyncio.sleep(every_seconds - GATHER_SECONDS * 1.1)
            flushes = len(bench.statements)
            assert flushes <= turns * every_seconds / age_seconds + 2
            assert fresh >= 0.95 * flushes, "what was read last is in it"

    run(work())


@pytest.mark.parametrize(("tables", "most_per_second"), [(10, 10.0), (100, 20.0)])
def test_inserts_a_second_stay_bounded_while_many_tables_trickle(tables: int, most_per_second: float) -> None:
    seconds = 120

    async def work() -> None:
        async with running(Bench(capacity_bytes=10**9)) as bench:
            for turn in range(seconds * 10):  # every table has a change every 0.4 s, a quarter of them at a time
                for number in range(turn % 4, tables, 4):
                    bench.put(block(f"table{number}", (str(turn), 1, "1")))
                await asyncio.sleep(0.1)
            put = seconds * 10 * tables / 4
            assert len(bench.sink.inserted) <= seconds * most_per_second + tables
            rows = sum(found.rows for found in bench.sink.inserted)
            assert rows >= put * 0.9, "and they wait 10 s at most"

    run(work())


@pytest.mark.parametrize("every_seconds", [1.0, 2.0])
def test_inserts_a_second_stay_bounded_though_many_tables_change_one_after_the_other(every_seconds: float) -> None:
    """Catches: each table is quiet enough to be flushed at once, so none is open beside another, and no one counts."""
    tables, most_per_second = 100, 25.0

    async def turns(bench: Bench, every_seconds: float, seconds: float) -> None:
        for turn in range(int(seconds / every_seconds * tables)):
            bench.put(block(f"table{turn % tables}", (str(turn), 1, "1")))
            await asyncio.sleep(every_seconds / tables)

    async def work() -> None:
        async with running(Bench(capacity_bytes=10**9)) as bench:
            await turns(bench, 10.0, 60.0)
            assert len(bench.sink.inserted) >= 0.9 * 60.0 / 10.0 * tables, "few changes hardly wait"
            before = len(bench.sink.inserted)
            await turns(bench, every_seconds, 120.0)
            assert len(bench.sink.inserted) - before <= 120.0 * most_per_second

    run(work())


@pytest.mark.parametrize(
    "limit", [limits(max_rows=3, max_age_seconds=60.0), limits(max_bytes=300, max_age_seconds=60.0)]
)
def test_a_batch_is_flushed_when_it_is_full(limit: BatchLimits) -> None:
    async def work() -> None:
        async with running(Bench(limit)) as bench:
            for key in "abc":
                assert bench.statements == []
                bench.put(block("t", (key, 1, "1")))
                await asyncio.sleep(0.01)
            assert len(bench.statements) == 1 and len(bench.statements[0]) == 3

    run(work())


def test_a_waiting_reader_flushes_the_largest_batch_once_a_quarter_of_the_budget_is_in_batches() -> None:
    async def work() -> None:
        async with running(Bench(limits(max_age_seconds=60.0), capacity_bytes=10_000)) as bench:
            bench.writer.fetching = 1
            await bench.budget.reserve(10_000)
            waiting = asyncio.create_task(bench.budget.reserve(1), name="waiting")
            bench.put(block("small", size=300))
            bench.put(block("large", size=1_000))
            await asyncio.sleep(5)
            assert bench.statements == [], "a waiting reader alone must not turn every row into a part"
            bench.put(block("small", size=1_000))
            await asyncio.sleep(0.01)
            assert [found.table for found in bench.sink.inserted] == ["small"]
            waiting.cancel()

    run(work())


def test_a_reader_that_waits_while_nothing_is_fetched_flushes_however_little_there_is() -> None:
    async def work() -> None:
        async with running(Bench(limits(max_age_seconds=60.0), capacity_bytes=100_000)) as bench:
            await bench.budget.reserve(100_000)
            bench.put(block("t", size=10))
            waiting = asyncio.create_task(bench.budget.reserve(1), name="waiting")
            await asyncio.sleep(0.15)
            assert bench.statements == []
            await asyncio.sleep(0.3)
            assert len(bench.statements) == 1
            waiting.cancel()

    run(work())


def test_the_end_of_a_shard_hurries_the_tables_that_it_may_have_filled() -> None:
    async def work() -> None:
        async with running(Bench(limits(max_age_seconds=60.0))) as bench:
            bench.put(block("t"), block("other"))
            bench.writer.flush_soon(["t", "absent"])
            await asyncio.sleep(0.01)
            assert [found.table for found in bench.sink.inserted] == ["t"]

    run(work())


def test_draining_flushes_everything_and_returns() -> None:
    async def work() -> None:
        bench = Bench(limits(max_age_seconds=60.0))
        async with asyncio.timeout(1), asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.writer.run(), name="writer")
            await asyncio.sleep(0.1)
            bench.put(block("t"), block("u"))
            bench.writer.drain()
        assert {found.table for found in bench.sink.inserted} == {"t", "u"}
        assert bench.ledger.frontier == mark(1)

    run(work())


def test_a_table_has_one_insert_in_flight_and_the_process_two() -> None:
    async def work() -> None:
        bench = Bench(limits(max_rows=1))

        async def slowly(found: Block) -> None:
            assert bench.sink.in_flight.count(found.table) == 1
            await asyncio.sleep(1)

        bench.sink.answer = slowly
        async with running(bench):
            for number in range(12):
                bench.put(block(f"t{number % 4}", ("k", number, str(number))))
                await asyncio.sleep(0.1)
            await asyncio.sleep(20)
        assert bench.sink.most_in_flight == 2
        for table in ("t0", "t1", "t2", "t3"):
            rows = [row for found in bench.sink.inserted if found.table == table for row in values(found)]
            assert rows == sorted(rows, key=lambda row: int(row[1])), "ties need the order of delivery"

    run(work())


def test_a_large_batch_becomes_statements_within_the_limit_each_acknowledged_by_itself() -> None:
    async def work() -> None:
        bench = Bench(limits(statement_bytes=2_500))

        async def slowly(found: Block) -> None:
            await asyncio.sleep(1)

        bench.sink.answer = slowly
        async with running(bench):
            for number in range(6):
                bench.put(block("t", (f"k{number}", 1, "x" * 1_000)))
            await asyncio.sleep(2.5)
            assert bench.ledger.frontier == mark(2)
            await asyncio.sleep(3)
        assert [found.rows for found in bench.sink.inserted] == [2, 2, 2]
        assert bench.ledger.frontier == mark(6)

    run(work())


def test_repeated_keys_are_sent_once() -> None:
    async def work() -> None:
        async with running(Bench()) as bench:
            bench.put(block("t", ("a", 1, "old")))
            bench.put(block("t", ("a", 2, "new")))
            await asyncio.sleep(1.1)
            assert bench.statements == [[("a", "new")]]
            assert bench.ledger.frontier == mark(2)

    run(work())


def failing(bench: Bench, failures: int) -> Callable[[Block], Coroutine[object, object, None]]:
    async def answer(found: Block) -> None:
        if len(bench.sink.attempts) <= failures:
            raise RetryableError("too many parts")

    return answer


def test_c2_a_retry_sends_the_same_rows_under_the_same_token_and_the_next_block_another() -> None:
    async def work() -> None:
        async with running(Bench()) as bench:
            bench.sink.answer = failing(bench, 5)
            bench.put(block("t", ("a", 1, "1")))
            await asyncio.sleep(0.01)
            await asyncio.sleep(60)
            bench.put(block("t", ("a", 1, "1")))
            await asyncio.sleep(2)
            first = bench.sink.attempts[:6]
            assert len({token for token, _ in first}) == 1 and all(found == first[0][1] for _, found in first)
            (token, _) = bench.sink.attempts[6]
            assert token != first[0][0]

    run(work())


def test_c3_nothing_is_acknowledged_while_an_insert_fails() -> None:
    async def work() -> None:
        async with running(Bench()) as bench:
            bench.sink.answer = failing(bench, 10**9)
            bench.put(block("t"))
            await asyncio.sleep(100)
            assert bench.ledger.in_flight == 1 and len(bench.sink.attempts) > 5

    run(work())


def test_refused_rows_are_isolated_and_buried_under_tokens_of_their_own() -> None:
    async def refuse(found: Block) -> None:
        if found.table != "dead" and any(value == "bad" for _, value in values(found)):
            raise RejectedRowsError("cannot parse")

    async def work() -> None:
        async with running(Bench()) as bench:
            bench.sink.answer = refuse
            other = ledger_of("other")
            bench.put(block("t", ("a", 1, "1"), ("b", 1, "bad")))
            bench.put(block("t", ("c", 1, "bad"), ("d", 1, "4")), ledger=other)
            await asyncio.sleep(2)
            good = [row for found in bench.sink.inserted if found.table == "t" for row in values(found)]
            buried = [values(found)[0] for found in bench.sink.inserted if found.table == "dead"]
            assert good == [("a", "1"), ("d", "4")]
            assert buried == [("s", "b"), ("other", "c")], "a dead letter names the shard of its row"
            assert (bench.ledger.frontier, other.frontier) == (mark(1), mark(2))
            tokens = [token for token, _ in bench.sink.attempts]
            assert len(tokens) == len(set(tokens))

    run(work())


def test_a_good_row_survives_when_the_one_that_replaced_it_is_refused() -> None:
    async def refuse(found: Block) -> None:
        if found.table == "t" and any(value == "bad" for _, value in values(found)):
            raise RejectedRowsError("cannot parse")

    async def work() -> None:
        async with running(Bench()) as bench:
            bench.sink.answer = refuse
            bench.put(block("t", ("a", 1, "good"), ("a", 2, "bad")))
            await asyncio.sleep(2)
            assert [values(found) for found in bench.sink.inserted if found.table == "t"] == [[("a", "good")]]

    run(work())


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_refused_table_stops_its_readers_at_half_the_budget_and_lets_them_go_on(cancelled: bool) -> None:
    async def work() -> None:
        async with running(Bench(limits(max_rows=1), capacity_bytes=10_000)) as bench:
            bench.sink.answer = failing(bench, 10**9)
            bench.put(block("t", size=4_000))
            await asyncio.sleep(0.5)
            async with asyncio.timeout(1):
                await bench.writer.wait_for_capacity(["t"])  # less than half
            bench.put(block("t", size=4_000))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(1):
                await bench.writer.wait_for_capacity(["other"])
            blocked = [
                asyncio.create_task(bench.writer.wait_for_capacity(["t", "other"]), name="reader") for _ in range(3)
            ]
            await asyncio.sleep(30)
            assert not any(task.done() for task in blocked)
            if cancelled:
                blocked[0].cancel()
            bench.sink.answer = None
            await asyncio.sleep(30)
            assert all(task.done() for task in blocked)

    run(work())


def test_what_is_durable_is_not_held_while_the_rest_of_its_batch_waits() -> None:
    import gc
    import weakref

    class Watched(Block):
        """A block that can be watched: Block itself has slots."""

        __slots__ = ("__weakref__",)

    async def work() -> None:
        bench = Bench(limits(statement_bytes=1_500))
        done = 0

        async def slowly(found: Block) -> None:
            nonlocal done
            done += 1
            await asyncio.sleep(10 if done > 2 else 0.01)

        bench.sink.answer = slowly
        watched = []
        async with running(bench):
            for number in range(4):
                plain = block("t", (f"k{number}", 1, "x" * 1_000))
                found = Watched(plain.table, plain.columns, plain.cells, plain.rows, plain.keys, plain.versions)
                watched.append(weakref.ref(found))
                bench.put(found)
                del found, plain
            await asyncio.sleep(3)
            bench.sink.attempts.clear()
            bench.sink.inserted.clear()
            gc.collect()
            assert [ref() is None for ref in watched] == [True, True, False, False]

    run(work())

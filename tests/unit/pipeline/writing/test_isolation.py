"""Refused rows and refusing tables are told apart by what else is taken, and no table waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.pipeline.pipeline_parts import (
    WIDE,
    DeadLettersInMemory,
    MemorySink,
    ScriptedSource,
    block,
    chunk,
    instruments_of,
    ledger_of,
    mark,
    values,
    writer_of,
)
from support.pipeline.running_writer import running
from support.pipeline.virtual_time import run

from dyncdc.errors import RefusedError, RejectedRowsError, RetryableError, TooLargeError
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, RawChunk, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.shard.shard_reader import ShardReader
from dyncdc.pipeline.writing.capacity import TableCapacity
from dyncdc.pipeline.writing.insert_slots import SLOW_SECONDS, SLOW_SLOTS, InsertSlots
from dyncdc.telemetry.task_health import TaskHealth

DIVIDED_BY_ZERO = RefusedError("ClickHouse answered 153")


class Sink(MemorySink):
    """Refuses as it is told: ``refuse`` gets the values of a statement's rows. The view refuses what has "view"."""

    def __init__(self, refuse: Callable[[list[str]], Exception | None]) -> None:
        super().__init__()
        self.refuse = refuse
        self.table: list[str] = []

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        self.attempts.append((token, block))
        await asyncio.sleep(0.01)
        texts = [value for _, value in values(block)]
        if block.table == "t" and (error := self.refuse(texts)) is not None:
            raise error
        self.table += texts
        if block.table == "t" and any("view" in text for text in texts) and not past_views:
            raise RejectedRowsError("pushing to the view: cannot be parsed")
        self.inserted.append(block)

    def rows(self, table: str = "t") -> list[str]:
        return [value for found in self.inserted if found.table == table for _, value in values(found)]


class Bench:
    def __init__(self, refuse: Callable[[list[str]], Exception | None]) -> None:
        self.sink = Sink(refuse)
        self.dead_letters = DeadLettersInMemory()
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        self.writer = writer_of(self.sink, ByteBudget(10**8), WIDE, dead_letters=self.dead_letters, health=self.health)
        self.ledger = ledger_of()
        self.chunks = 0

    def put(self, *rows: str, table: str = "t") -> None:
        self.chunks += 1
        found = block(table, *((f"{self.chunks}/{number}", 1, value) for number, value in enumerate(rows)))
        self.writer.put(found, self.ledger.track(mark(self.chunks), 1, lambda: None))

    @property
    def dead_letter_count(self) -> int:
        return len(self.dead_letters.records)


def no_zero(texts: list[str]) -> Exception | None:
    return DIVIDED_BY_ZERO if "0" in texts else None


def test_rows_that_only_a_code_of_no_table_refuses_become_letters_and_all_others_arrive() -> None:
    async def work() -> None:
        async with running(Bench(no_zero)) as bench:
            bench.put(*map(str, range(1, 500)), "0", *map(str, range(500, 1_000)))
            bench.put("0", "1000")
            await asyncio.sleep(60)
            assert sorted(set(bench.sink.rows()), key=int) == [str(number) for number in range(1, 1_001)]
            assert bench.dead_letter_count == 2
            assert bench.ledger.frontier == mark(2)
            assert len(bench.sink.attempts) < 80, "found by halving"

    run(work())


@pytest.mark.parametrize("rows", [1, 2, 1_000])
def test_an_outage_with_a_code_that_no_one_knows_makes_no_letter_and_ends_when_it_ends(rows: int) -> None:
    async def work() -> None:
        async with running(Bench(lambda _: DIVIDED_BY_ZERO)) as bench:
            bench.put(*map(str, range(rows)))
            await asyncio.sleep(3_600)
            assert bench.dead_letter_count == 0 and bench.ledger.in_flight == 1
            assert len(bench.sink.attempts) < 3_600, "it backs off"
            (stuck,) = bench.health.stuck()
            assert stuck.name == "insert:t" and "answered 153" in stuck.reason
            bench.sink.refuse = lambda _: None
            await asyncio.sleep(30)
            assert bench.ledger.frontier == mark(1) and len(set(bench.sink.rows())) == rows

    run(work())


@pytest.mark.parametrize("after", [6.0, 6.3, 7.0, 8.0, 9.0])
def test_an_outage_that_begins_while_rows_are_looked_for_makes_no_letter_of_a_good_one(after: float) -> None:
    async def work() -> None:
        begun = asyncio.get_running_loop().time()

        def refuse(texts: list[str]) -> Exception | None:
            now = asyncio.get_running_loop().time() - begun
            return DIVIDED_BY_ZERO if after < now < after + 300 else no_zero(texts)

        async with running(Bench(refuse)) as bench:
            bench.put(*map(str, range(1, 300)), "0", *map(str, range(300, 600)))
            await asyncio.sleep(600)
            bench.put("600")  # where the bad row alone is left, there is nothing else to compare it with
            await asyncio.sleep(300)
            assert bench.dead_letter_count == 1
            assert len(set(bench.sink.rows())) == 600 and bench.ledger.frontier == mark(2)

    run(work())


def test_every_token_is_of_one_set_of_rows_and_parts_have_tokens_of_their_own() -> None:
    async def work() -> None:
        refusing = True

        def refuse(texts: list[str]) -> Exception | None:
            return DIVIDED_BY_ZERO if refusing else no_zero(texts)

        async with running(Bench(refuse)) as bench:
            bench.put(*map(str, range(100)))
            await asyncio.sleep(300)
            refusing = False
            await asyncio.sleep(300)
            assert bench.dead_letter_count == 1
            rows: dict[str, object] = {}
            for token, found in bench.sink.attempts:
                assert rows.setdefault(token, values(found)) == values(found)

    run(work())


def test_a_view_that_refuses_everything_by_a_code_for_rows_makes_no_letters_and_its_table_waits() -> None:
    async def work() -> None:
        async with running(Bench(lambda _: None)) as bench:
            bench.put(*[f"view {number}" for number in range(5_000)])
            bench.put("1", table="u")
            await asyncio.sleep(3_600)
            assert bench.dead_letter_count == 0 and bench.sink.rows("u") == ["1"]
            assert len(bench.sink.attempts) < 10_000
            assert "pushing to the view" in bench.health.stuck()[0].reason

    run(work())


def test_a_row_that_only_a_view_refuses_is_in_the_table_and_its_letter_says_so() -> None:
    async def work() -> None:
        async with running(Bench(lambda _: None)) as bench:
            told: list[str] = []
            name = bench.dead_letters.name
            bench.dead_letters.name = lambda row: told.append(str(row.error)) or name(row)  # type: ignore[func-returns-value, method-assign]
            bench.put("1", "view", "2")
            await asyncio.sleep(30)
            assert {"1", "2"} <= set(bench.sink.rows()) and "view" in bench.sink.table
            assert bench.dead_letter_count == 1 and bench.ledger.frontier == mark(1)
            assert told == ["pushing to the view: cannot be parsed (in a materialized view: the row is in the table)"]

    run(work())


def test_a_row_with_nothing_to_compare_it_with_waits_for_the_next_one() -> None:
    async def work() -> None:
        async with running(Bench(no_zero)) as bench:
            bench.put("0")
            await asyncio.sleep(600)
            assert bench.dead_letter_count == 0 and bench.ledger.in_flight == 1
            bench.put("1")
            await asyncio.sleep(180)
            assert bench.dead_letter_count == 1 and bench.sink.rows()[0] == "1" and bench.ledger.frontier == mark(2)

    run(work())


def test_a_statement_that_is_too_large_is_halved_until_it_fits_and_a_row_alone_is_never_blamed() -> None:
    async def work() -> None:
        def refuse(texts: list[str]) -> Exception | None:
            return TooLargeError("memory") if len(texts) > 100 or "large" in texts else None

        async with running(Bench(refuse)) as bench:
            bench.put(*map(str, range(1_000)), "large")
            await asyncio.sleep(600)
            assert len(bench.sink.rows()) == 1_000 and bench.dead_letter_count == 0
            assert bench.ledger.in_flight == 1, "the large one waits"

    run(work())


async def delay_of_a_healthy_table(slow_tables: int, *, slow_seconds: float = 20.0) -> float:
    """The longest that a row of a healthy table takes from being put to its insert, beside slow tables."""
    begun: dict[str, float] = {}
    delays: list[float] = []
    loop = asyncio.get_running_loop()

    async def answer(found: Block) -> None:
        if found.table.startswith("slow"):
            await asyncio.sleep(slow_seconds)
        else:
            await asyncio.sleep(0.05)
            delays.append(loop.time() - begun[values(found)[0][1]])

    sink = MemorySink(answer)
    work = writer_of(sink, ByteBudget(10**8))
    ledger = ledger_of()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work.run(), name="writer")
        for second in range(300):
            for table in ("healthy", *(f"slow{number}" for number in range(slow_tables))):
                begun.setdefault(str(second), loop.time())
                work.put(block(table, (str(second), 1, str(second))), ledger.track(mark(second), 1, lambda: None))
            await asyncio.sleep(1.0)
        task.cancel()
    assert sink.most_in_flight <= WIDE.inserts_in_flight + SLOW_SLOTS
    return max(delays)


@pytest.mark.parametrize("slow_tables", [2, 4])
def test_a_healthy_table_waits_for_slow_ones_no_longer_than_an_insert_may_take_until_it_is_slow(
    slow_tables: int,
) -> None:
    ages = WIDE.max_age_seconds + 0.5
    assert run(delay_of_a_healthy_table(slow_tables)) <= ages + slow_tables / WIDE.inserts_in_flight * SLOW_SECONDS


def test_the_healthy_table_that_waits_behind_slow_ones_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InsertSlots, "_turn_slow", lambda self, table, held: None)
    assert run(delay_of_a_healthy_table(2)) > 15.0


def test_more_slow_tables_than_slots_delay_a_healthy_one_only_when_they_turn_slow() -> None:
    assert run(delay_of_a_healthy_table(8)) <= 2 * 20.0 + 2 * SLOW_SECONDS


def test_a_slow_table_that_is_quick_again_leaves_the_slots_of_the_slow() -> None:
    async def work() -> None:
        found = InsertSlots(1)
        async with found.hold("t"):
            await asyncio.sleep(SLOW_SECONDS + 1)
            async with asyncio.timeout(1), found.hold("u"):
                assert found.slow == {"t"}
        async with found.hold("t"):
            await asyncio.sleep(1)
        assert found.slow == set()

    run(work())


class Mixed:
    """Decodes each record into a row of each table that it names."""

    def __init__(self, *tables: str) -> None:
        self.tables = tables

    def decode(self, chunk: RawChunk) -> list[Decoded]:
        return [Decoded([block(table, (str(chunk.end), 1, "x" * 1_000)) for table in self.tables])]


class Endless(ScriptedSource):
    """Has a record for whoever asks, ten times a second."""

    pause_seconds = 0.1

    def __init__(self, name: str) -> None:
        super().__init__()
        self.label = name
        self.read = 0
        self.answer = self._next

    async def _next(self, of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.01)
        self.read += 1
        return chunk(of, [b"r"], str(self.read))


async def read_beside(
    refused: set[str], streams: dict[str, tuple[str, ...]], seconds: float, capacity_bytes: int
) -> tuple[dict[str, int], dict[str, int], ByteBudget]:
    """Read streams into tables of which some take nothing. Return rows by table, records by stream, and the budget."""

    async def answer(found: Block) -> None:
        await asyncio.sleep(0.02)
        if found.table in refused:
            raise RetryableError("too many parts")

    sink, budget = MemorySink(answer), ByteBudget(capacity_bytes)
    work = writer_of(sink, budget)
    resources = ReadResources(instruments_of(), budget, work, fetch_ceiling_bytes=2_000)
    sources = {name: Endless(name) for name in streams}
    ledgers: list[ShardLedger] = []
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(work.run(), name="writer")]
        for name, source in sources.items():
            ledgers.append(ledger_of(name))
            shard_reader = ShardReader(resources, source, Mixed(*streams[name]), ledgers[-1])
            started.append(tasks.create_task(shard_reader.run(), name=name))  # type: ignore[arg-type]
        await asyncio.sleep(seconds)
        for task in started:
            task.cancel()
    rows: dict[str, int] = {}
    for found in sink.inserted:
        rows[found.table] = rows.get(found.table, 0) + found.rows
    return rows, {name: source.read for name, source in sources.items()}, budget


def test_two_refused_tables_leave_half_of_the_memory_and_the_healthy_one_goes_on() -> None:
    streams: dict[str, tuple[str, ...]] = {"one": ("bad1",), "two": ("bad2",), "three": ("good",)}
    rows, read, budget = run(read_beside({"bad1", "bad2"}, streams, 120.0, 200_000))
    assert rows.keys() == {"good"} and rows["good"] > 0.9 * 120 * 9
    assert budget.held_bytes < 0.75 * budget.capacity_bytes
    assert read["one"] + read["two"] < 150


def test_the_healthy_table_that_waits_behind_two_refused_ones_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def each_for_itself(self: TableCapacity, table: str) -> bool:
        return table in self.refused and self._held(table) >= 0.5 * self._budget.capacity_bytes

    monkeypatch.setattr(TableCapacity, "is_overdrawn", each_for_itself)
    streams: dict[str, tuple[str, ...]] = {"one": ("bad1",), "two": ("bad2",), "three": ("good",)}
    rows, _, _ = run(read_beside({"bad1", "bad2"}, streams, 120.0, 200_000))
    assert rows.get("good", 0) < 0.9 * 120 * 9


def test_on_a_shared_stream_others_go_on_until_the_refused_rows_alone_hold_half_of_the_memory() -> None:
    streams: dict[str, tuple[str, ...]] = {"shared": ("bad", "good1", "good2"), "other": ("good3",)}
    rows, read, budget = run(read_beside({"bad"}, streams, 120.0, 200_000))
    row_bytes = block("t", ("1", 1, "x" * 1_000)).nbytes
    assert 0.5 * 200_000 / row_bytes <= rows["good1"] == rows["good2"] <= read["shared"] < 0.6 * 200_000 / row_bytes
    assert rows["good3"] > 0.9 * 120 * 9, "another stream goes on"
    assert budget.held_bytes < 0.75 * budget.capacity_bytes


def test_what_settles_behind_a_table_that_takes_nothing_takes_no_memory() -> None:
    ledger = ledger_of()
    first = ledger.track(mark(0), 1, lambda: None)
    for number in range(1, 100_000):
        ledger.track(mark(number), 1, lambda: None).ack()
    assert ledger.in_flight < 3_000
    first.ack()
    assert ledger.frontier == mark(99_999) and ledger.in_flight == 0

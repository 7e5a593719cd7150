"""Burial: a refused row's dead letter holds the record that it was made of, and never more are written than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import orjson
import pytest
from support.pipeline.pipeline_parts import (
    SOURCE,
    WIDE,
    DeadLettersInMemory,
    MemorySink,
    block,
    ledger_of,
    mark,
    shard,
    values,
    writer_of,
)
from support.pipeline.running_writer import running
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, PositionLostError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter, DeadLetterLimits, LimitReached
from dyncdc.pipeline.writing.rejected_rows import BYTES_AT_ONCE, REREAD_SECONDS, ROWS_AT_ONCE
from dyncdc.pipeline.writing.writer import Writer


class Records:
    """A source that shows records again; ``failures`` come first, one a call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Position]]] = []
        self.failures: list[Exception] = []
        self.gone: set[str] = set()
        self.seconds = 0.0

    async def reread(self, of: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        self.asked.append((of.id, list(positions)))
        for number, position in enumerate(positions):
            await asyncio.sleep(self.seconds)
            if self.failures and number == len(positions) // 2:
                raise self.failures.pop(0)
            if position not in self.gone:
                yield position, b"record " + position.encode()


class Bench:
    """A writer whose sink refuses rows with the value "bad"."""

    def __init__(self, dead_letter_limiter: DeadLetterLimiter | None = None) -> None:
        self.sink = MemorySink(self._refuse)
        self.dead_letters = DeadLettersInMemory()
        self.records = Records()
        self.writer: Writer = writer_of(
            self.sink, ByteBudget(10**8), WIDE, dead_letter_limiter, dead_letters=self.dead_letters
        )
        self.writer.sources[SOURCE] = self.records
        self.ledger = ledger_of()
        self.chunks = 0

    async def _refuse(self, found: Block) -> None:
        await asyncio.sleep(0.001)
        if found.table != "dead" and any(value.startswith("bad") for _, value in values(found)):
            raise RejectedRowsError("cannot parse", column="value")

    def put(self, *rows: str, table: str = "t", first: int = 0, of: str = "s") -> None:
        """Hand over one chunk; row n was read at position ``first + n``."""
        self.chunks += 1
        found = block(table, *((f"{of}-{first + number}", 1, value) for number, value in enumerate(rows)))
        found.positions = orjson.dumps([str(first + number) for number in range(len(rows))])[1:-1]
        ledger = self.ledger if of == "s" else ledger_of(of)
        self.writer.put(found, ledger.track(mark(self.chunks), 1, lambda: None))


def test_c10_of_ten_thousand_rows_all_but_the_bad_ones_arrive_and_each_letter_holds_its_own_record() -> None:
    async def work() -> None:
        bench = Bench()
        bad = {17, 4_711, 9_999}
        async with running(bench):
            for first in range(0, 10_000, 250):
                rows = ["bad" if number in bad else "good" for number in range(first, first + 250)]
                bench.put(*rows, first=first)
            await asyncio.sleep(30)
        good = [row for found in bench.sink.inserted if found.table == "t" for row in values(found)]
        assert len(good) == len(set(good)) == 9_997
        assert bench.dead_letters.records == [(str(number), b"record %d" % number) for number in sorted(bad)]
        assert bench.ledger.frontier == mark(40) and bench.ledger.in_flight == 0
        assert len(bench.sink.attempts) < 150, "bad rows are found by halving"

    run(work())


def test_records_are_asked_for_by_shard_and_few_at_a_time() -> None:
    async def work() -> None:
        bench = Bench()
        async with running(bench):
            bench.put(*["bad"] * (ROWS_AT_ONCE + 5))
            bench.put("bad" + "x" * BYTES_AT_ONCE, "bad", first=500, of="other")
            await asyncio.sleep(60)
        asked = [(of, len(positions)) for of, positions in bench.records.asked]
        assert asked == [("s", ROWS_AT_ONCE), ("s", 5), ("other", 1), ("other", 1)]
        assert len(bench.dead_letters.records) == ROWS_AT_ONCE + 7

    run(work())


def test_what_was_read_before_a_failure_is_not_read_again() -> None:
    async def work() -> None:
        bench = Bench()
        bench.records.failures = [RetryableError("throttled"), RetryableError("throttled")]
        async with running(bench):
            bench.put("bad", "bad", "bad", "bad")
            await asyncio.sleep(30)
        assert [positions for _, positions in bench.records.asked] == [["0", "1", "2", "3"], ["2", "3"], ["3"]]
        assert [record for _, record in bench.dead_letters.records] == [b"record %d" % number for number in range(4)]

    run(work())


@pytest.mark.parametrize("failure", [PositionLostError("expired"), FatalError("denied")])
def test_a_record_that_cannot_be_had_again_leaves_the_row_in_its_letter(failure: Exception) -> None:
    async def work() -> None:
        bench = Bench()
        bench.records.failures = [failure]
        async with running(bench):
            bench.put("bad", "bad", "bad")
            await asyncio.sleep(30)
        assert [record for _, record in bench.dead_letters.records] == [b"record 0", None, None]
        assert bench.ledger.frontier == mark(1)

    run(work())


def test_a_source_that_is_too_slow_holds_its_table_for_seconds_only() -> None:
    async def work() -> None:
        bench = Bench()
        bench.records.seconds = REREAD_SECONDS * 0.4
        async with running(bench):
            bench.put("bad", "bad", "bad")
            await asyncio.sleep(REREAD_SECONDS + 3)
            assert [record is not None for _, record in bench.dead_letters.records] == [True, True, False]
            assert bench.ledger.frontier == mark(1)

    run(work())


def test_a_source_that_shows_nothing_again_gives_letters_of_rows() -> None:
    async def work() -> None:
        bench = Bench()
        del bench.writer.sources[SOURCE]
        async with running(bench):
            bench.put("bad")
            await asyncio.sleep(3)
        assert bench.dead_letters.records == [("0", None)]

    run(work())


def test_c4_a_table_that_refuses_everything_does_not_stop_the_other() -> None:
    async def work() -> None:
        bench = Bench()
        async with running(bench):
            receipt = bench.ledger.track(mark(1), 2, lambda: None)
            bench.writer.put(block("a", ("k", 1, "good")), receipt)
            bench.writer.put(block("b", ("k", 1, "bad")), receipt)
            await asyncio.sleep(3)
        assert {found.table for found in bench.sink.inserted} == {"a", "dead"}
        assert bench.ledger.frontier == mark(1)

    run(work())


def test_past_the_limit_no_letter_of_the_statement_is_written_and_nothing_is_acknowledged() -> None:
    async def work() -> None:
        bench = Bench(DeadLetterLimiter(DeadLetterLimits(max_consecutive=20)))
        with pytest.raises(ExceptionGroup) as caught:
            async with running(bench):
                bench.put("good", *["bad"] * 5_000)
                await asyncio.sleep(60)
        (error,) = caught.value.exceptions
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, LimitReached)
        assert (error.stop.position, error.stop.shard, error.stop.column) == ("1", shard().id, "value")
        assert bench.dead_letters.records == [] and bench.ledger.frontier.position == "TRIM_HORIZON"
        assert len(bench.sink.attempts) < 200, "it stops at the limit, not at the statement's end"

    run(work())


def test_a_dead_letter_that_is_refused_itself_is_fatal() -> None:
    async def refuse(found: Block) -> None:
        raise RejectedRowsError("constraint")

    async def work() -> None:
        bench = Bench()
        bench.sink.answer = refuse
        with pytest.raises(ExceptionGroup) as caught:
            async with running(bench):
                bench.put("bad")
                await asyncio.sleep(3)
        assert caught.group_contains(FatalError, match="constraint")
        assert bench.ledger.in_flight == 1

    run(work())

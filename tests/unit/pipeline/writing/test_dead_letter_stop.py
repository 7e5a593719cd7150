"""Too many dead letters end a session, and the next one at once, until someone does something about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import orjson
import pytest
from support.pipeline.pipeline_parts import (
    WIDE,
    MemoryCheckpoints,
    MemorySink,
    ScriptedSource,
    block,
    dead_letters_in_memory,
    instruments_of,
    ledger_of,
    shard,
    writer_of,
)
from support.pipeline.recovery_parts import NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.blocks import Block, DeadLetter, Decoded
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.reading.shard.shard_reader import ShardReader
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter, DeadLetterLimits, LimitReached, LimitStop
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

RECORDS = 3_000


class Halts:
    """Keeps them, as the dead-letter table does. ``failures``: how many calls fail first."""

    def __init__(self) -> None:
        self.open: list[LimitStop] = []
        self.closed: list[LimitStop] = []
        self.failures = 0

    async def _answer(self) -> None:
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise RetryableError("no answer")

    async def open_limit_stops(self) -> Sequence[LimitStop]:
        await self._answer()
        return list(self.open)

    async def save_limit_stop(self, stop: LimitStop) -> None:
        await self._answer()
        self.open.append(stop)

    async def close_limit_stop(self, stop: LimitStop) -> None:
        await self._answer()
        self.open.remove(stop)
        self.closed.append(stop)


class SomeDead:
    """Records that begin with "bad" are dead letters, in sub-batches of 7."""

    tables = ("t", "dead")

    def __init__(self) -> None:
        self.mended = False

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        pairs = list(zip(chunk.records, chunk.positions, strict=True))
        for first in range(0, len(pairs), 7):
            some = pairs[first : first + 7]
            good = [(str(position), 1, "x") for record, position in some if self._good(record)]
            dead = [position for record, position in some if not self._good(record)]
            decoded = Decoded([block("t", *good)] if good else [], judged=len(some))
            decoded.dead_letters = [
                DeadLetter(ordinal, position, "orders", "misfit")
                for ordinal, (record, position) in enumerate(some)
                if not self._good(record)
            ]
            if dead:
                decoded.blocks.append(Block("dead", ("id",), [b",".join(map(orjson.dumps, dead))], len(dead)))
            yield decoded

    def _good(self, record: bytes) -> bool:
        return self.mended or not record.startswith(b"bad")


class Setup:
    """What outlives a session: the stream, the tables, the configuration."""

    def __init__(self, bad: range, limits: DeadLetterLimits) -> None:
        self.bad = bad
        self.limits = limits
        self.decoder = SomeDead()
        self.sink = MemorySink()
        self.store = MemoryCheckpoints()
        self.stops = Halts()
        self.at_once = 1_000
        self.fetched = 0

    async def _answer(self, of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.2)
        self.fetched += 1
        first = 0 if after == HORIZON else int(after)
        numbers = range(first, min(first + self.at_once, RECORDS))
        records = [b"bad" if number in self.bad else b"good" for number in numbers]
        positions = [Position(str(number + 1)) for number in numbers]
        end = positions[-1] if positions else after
        behind = 0.0 if first + len(numbers) == RECORDS else 1.0
        return RawChunk(of, records, positions, end, 100 * len(records), 1_000.0, behind)

    async def session(self, seconds: float = 30.0) -> None:
        """One session; drained after so many seconds if it does not end before."""
        source, draining = ScriptedSource([[shard()]]), asyncio.Event()
        source.answer = self._answer
        asyncio.get_running_loop().call_later(seconds, draining.set)
        await run_session(
            [StreamTask(source, self.decoder)],
            [],
            Destination(self.sink, self.store, NoSnapshots(), NoSnapshots(), dead_letters_in_memory, self.stops),
            Settings("p", WIDE, 10**7, checkpoint_interval_seconds=0.05, dead_letter_limiter=self.limits),
            Instruments(Metrics(), TaskHealth(clock=asyncio.get_running_loop().time), lambda: 1_000.0),
            SessionControl(draining),
        )

    async def stopped(self) -> str:
        """What a session that ends by the limit says."""
        self.fetched = 0
        with pytest.raises(LimitReached) as caught:
            await self.session()
        return str(caught.value)

    def dead_letters(self) -> set[str]:
        found = [block for block in self.sink.inserted if block.table == "dead"]
        return {position for block in found for position in orjson.loads(b"[" + block.cells[0] + b"]")}

    def saved(self) -> int:
        return max((int(row.mark.position) for row in self.store.rows if row.mark.position.isdecimal()), default=0)


def test_past_the_limit_nothing_more_is_diverted_or_checkpointed_and_every_restart_stops_at_once() -> None:
    async def work() -> None:
        setup = Setup(range(1_200, RECORDS), DeadLetterLimits(max_consecutive=100))
        said = await setup.stopped()
        assert "100 in a row" in said and "position 1201" in said
        dead_letters, saved = setup.dead_letters(), setup.saved()
        assert saved <= 1_200 and len(dead_letters) <= 100
        for at_once in (1_000, 60, 7, 1):
            setup.at_once = at_once
            assert await setup.stopped() == said
            assert setup.fetched <= 1_200 // at_once + 1
            assert setup.dead_letters() == dead_letters, "small answers must not divert what a large one did not"
            assert setup.saved() <= 1_200
            assert len(setup.stops.open) == 1, "one session has said why; the others find it"

    run(work())


def test_raising_the_limit_lets_it_go_on() -> None:
    async def work() -> None:
        setup = Setup(range(1_200, 1_500), DeadLetterLimits(max_consecutive=100))
        await setup.stopped()
        setup.limits = DeadLetterLimits(max_consecutive=300)
        await setup.session()
        assert setup.saved() == RECORDS and len(setup.dead_letters()) == 300
        assert setup.stops.open == [] and len(setup.stops.closed) == 1

    run(work())


def test_mending_the_cause_lets_it_go_on() -> None:
    async def work() -> None:
        setup = Setup(range(1_200, 1_500), DeadLetterLimits(max_consecutive=100))
        await setup.stopped()
        setup.decoder.mended = True
        setup.stops.failures = 3
        await setup.session()
        assert setup.saved() == RECORDS and setup.dead_letters() == set()
        assert setup.stops.open == [] and len(setup.stops.closed) == 1

    run(work())


def test_a_session_that_cannot_keep_why_it_stops_still_says_so() -> None:
    async def work() -> None:
        setup = Setup(range(1_200, RECORDS), DeadLetterLimits(max_consecutive=100))
        setup.store.rows.clear()

        async def gone(stop: LimitStop) -> None:
            raise FatalError("no such table")

        setup.stops.save_limit_stop = gone  # type: ignore[method-assign]
        assert "100 in a row" in await setup.stopped()
        setup.stops.save_limit_stop = lambda stop: asyncio.sleep(3_600)  # type: ignore[method-assign,assignment,return-value]
        assert "100 in a row" in await setup.stopped()

    run(work())


def test_a_chunk_past_the_limit_gives_its_bytes_back() -> None:
    async def work() -> None:
        setup = Setup(range(0, RECORDS), DeadLetterLimits())
        source, budget = ScriptedSource(), ByteBudget(10**7)
        source.answer = setup._answer
        writer = writer_of(MemorySink(), budget)
        dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=100))
        resources = ReadResources(instruments_of(), budget, writer, dead_letter_limiter=dead_letter_limiter)
        ledger = ledger_of()
        with pytest.raises(LimitReached):
            await ShardReader(resources, source, setup.decoder, ledger).run()
        assert budget.held_bytes == 0 and writer.fetching == 0 and ledger.in_flight == 0

    run(work())

"""replicate: what a session begins with, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from support.pipeline.pipeline_parts import (
    WIDE,
    MemoryCheckpoints,
    MemorySink,
    OneRowEach,
    ScriptedSource,
    chunk,
    dead_letters_in_memory,
    shard,
)
from support.pipeline.recovery_parts import NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.members import Member, Session
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard
from dyncdc.pipeline.ports.members import SessionStore
from dyncdc.pipeline.recovery.no_recovery import NoRecovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Destination, Settings, StreamTask
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth


class Bench:
    """One session over parts that obey. The shard holds ten records and stays open."""

    def __init__(self, *, drain_seconds: float = 25.0, once: bool = False) -> None:
        self.source = ScriptedSource([[shard()]])
        self.source.answer = self._answer
        self.sink = MemorySink()
        self.store = MemoryCheckpoints()
        self.draining = asyncio.Event()
        self.metrics = Metrics()
        self.ready: list[int] = []
        self.epochs: list[int] = []
        self.members = NoRecovery()
        self.recovery = NoRecovery()
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        self.sessions: SessionStore = NoRecovery()
        self.on_claimed: Callable[[int], Awaitable[None]] | None = None
        self.settings = Settings("p", WIDE, 10**6, drain_seconds=drain_seconds, once=once)

    async def _answer(self, of: Shard, after: Position) -> RawChunk:
        await asyncio.sleep(0.01)
        return chunk(of, [b"x"] * 10, "10") if after == HORIZON else chunk(of, [], after)

    async def session(self) -> None:
        await run_session(
            [StreamTask(self.source, OneRowEach())],
            [],
            Destination(
                self.sink,
                self.store,
                NoSnapshots(),
                NoSnapshots(),
                dead_letters_in_memory,
                members=self.members,
                recovery=self.recovery,
                sessions=self.sessions,
            ),
            self.settings,
            Instruments(self.metrics, self.health, lambda: 1_000.0),
            SessionControl(self.draining, self.on_claimed, self._ready),
        )

    def _ready(self, epoch: int) -> None:
        self.ready.append(len(self.source.fetched))
        self.epochs.append(epoch)

    def saved(self) -> list[str]:
        return [row.mark.position for row in self.store.rows]

    def held_bytes(self) -> float | None:
        return self.metrics.registry.get_sample_value("dyncdc_budget_used_bytes")


async def fail(_: object = None) -> None:
    await asyncio.sleep(0.01)
    raise RetryableError("no answer")


def test_draining_leaves_nothing_behind_and_saves_what_was_drained() -> None:
    async def work() -> None:
        bench = Bench()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.session(), name="life")
            await asyncio.sleep(0.3)
            assert bench.sink.inserted == [] and bench.held_bytes()
            bench.draining.set()
        assert sum(found.rows for found in bench.sink.inserted) == 10
        assert bench.saved()[-1] == "10" and bench.held_bytes() == 0
        assert asyncio.get_running_loop().time() < 1.0

    run(work())


def test_ready_means_that_the_checkpoints_are_loaded_and_nothing_has_been_read() -> None:
    async def work() -> None:
        bench = Bench()
        failures = 3

        async def load() -> Sequence[Checkpoint]:
            nonlocal failures
            await asyncio.sleep(1)
            failures -= 1
            if failures > 0:
                raise RetryableError("no answer")
            return []

        bench.store.load = load  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.session(), name="life")
            await asyncio.sleep(1.5)
            assert bench.ready == []
            await asyncio.sleep(10)
            assert bench.ready == [0] and bench.source.fetched
            bench.draining.set()

    run(work())


def test_a_wish_to_stop_is_heard_while_clickhouse_does_not_answer_at_the_start() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.load = fail  # type: ignore[method-assign, assignment]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.session(), name="life")
            await asyncio.sleep(50)
            bench.draining.set()
        assert bench.ready == []

    run(work())


@pytest.mark.parametrize(
    ("part", "call", "task"),
    [
        ("members", "members", "members"),
        ("members", "save_member", "members"),
        ("store", "load", "checkpointer"),
        ("recovery", "open_gaps", "recovery"),
        ("recovery", "save_table_sources", "recovery"),
        ("store", "save", "checkpointer"),
        ("sink", "insert", "insert:t"),
    ],
)
def test_whatever_clickhouse_refuses_from_the_start_on_is_stuck_within_its_time(
    part: str, call: str, task: str
) -> None:
    async def work() -> None:
        bench = Bench()

        async def refuse(*_: object, **__: object) -> None:
            raise RetryableError("ClickHouse answered 201 QUOTA_EXCEEDED")

        setattr(getattr(bench, part), call, refuse)
        async with asyncio.TaskGroup() as tasks:
            session = tasks.create_task(bench.session(), name="life")
            await asyncio.sleep(50)
            assert bench.health.stuck() == []
            await asyncio.sleep(30)
            found = bench.health.stuck()
            assert [stuck.name for stuck in found if "201 QUOTA_EXCEEDED" in stuck.reason] == [task], found
            session.cancel()

    run(work())


@pytest.mark.parametrize("stuck", ["sink", "store", "hanging sink"])
def test_a_drain_that_takes_too_long_says_that_nothing_is_lost(stuck: str) -> None:
    async def hang(_: object) -> None:
        await asyncio.sleep(10**6)

    async def work() -> None:
        bench = Bench(drain_seconds=5.0)
        if stuck == "store":
            bench.store.answer = fail
        else:
            bench.sink.answer = fail if stuck == "sink" else hang
        session = asyncio.create_task(bench.session(), name="life")
        await asyncio.sleep(3)
        bench.draining.set()
        begun = asyncio.get_running_loop().time()
        with pytest.raises(FatalError, match=r"draining within 5 s.*nothing is lost") as caught:
            await session
        assert caught.value.hint
        assert asyncio.get_running_loop().time() - begun < 5.1

    run(work())


def test_the_last_save_is_tried_again_until_the_deadline() -> None:
    async def work() -> None:
        bench = Bench()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.session(), name="life")
            await asyncio.sleep(0.3)
            bench.store.answer = fail
            bench.draining.set()
            await asyncio.sleep(10)
            bench.store.answer = None
        assert bench.saved()[-1] == "10"

    run(work())


def test_a_cancelled_session_drains_nothing() -> None:
    async def work() -> None:
        bench = Bench()
        session = asyncio.create_task(bench.session(), name="life")
        await asyncio.sleep(0.3)
        saves = len(bench.store.saves)
        session.cancel()
        await asyncio.wait({session})
        await asyncio.sleep(10)
        assert session.cancelled() and bench.sink.inserted == [] and len(bench.store.saves) == saves

    run(work())


def test_an_error_ends_the_session_as_itself_and_skips_the_drain() -> None:
    async def denied(_: object) -> None:
        raise FatalError("inserting: access denied", hint="grant it")

    async def work() -> None:
        bench = Bench()
        bench.sink.answer = denied
        with pytest.raises(FatalError, match="access denied"):
            await bench.session()
        assert "10" not in bench.saved()

    run(work())


def test_c7_another_owner_ends_the_session() -> None:
    async def work() -> None:
        bench = Bench()

        async def somebody_else() -> None:
            row = bench.store.rows[-1]
            bench.store.rows.append(Checkpoint(row.source, row.shard, row.mark, row.epoch + 1, 1))

        async with asyncio.TaskGroup() as tasks:
            session = tasks.create_task(_expect_takeover(bench), name="life")
            await asyncio.sleep(0.3)
            await somebody_else()
            await session

    run(work())


def test_c7_a_next_session_of_a_process_that_was_replaced_reads_nothing_and_takes_no_epoch() -> None:
    async def work() -> None:
        bench = Bench()
        bench.draining.set()
        await bench.session()
        (epoch,), fetched = bench.epochs, len(bench.source.fetched)
        taken = [Member(0, 1, epoch + 1)]

        async def members() -> Sequence[Member]:
            return taken

        bench.members.members = members  # type: ignore[method-assign]
        bench.draining.clear()
        bench.settings = replace(bench.settings, after=epoch)
        with pytest.raises(FatalError, match="took over"):
            await bench.session()
        assert bench.epochs == [epoch] and len(bench.source.fetched) == fetched

    run(work())


async def _expect_takeover(bench: Bench) -> None:
    with pytest.raises(FatalError, match="took over"):
        await bench.session()


def test_once_ends_by_itself_when_every_shard_was_read_to_its_tip() -> None:
    async def work() -> None:
        bench = Bench(once=True)
        async with asyncio.timeout(30):
            await bench.session()
        assert sum(found.rows for found in bench.sink.inserted) == 10 and bench.saved()[-1] == "10"

    run(work())


def test_once_ends_under_a_load_that_never_lets_it_reach_the_tip() -> None:
    async def work() -> None:
        bench = Bench(once=True)

        async def always_more(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            end = 1 if after == HORIZON else int(after) + 1
            now = 1_000.0 + asyncio.get_running_loop().time()
            bench.source.server_time = now
            return RawChunk(of, [b"x"], [Position(str(end))], Position(str(end)), 1, now, behind_seconds=0.5)

        bench.source.answer = always_more
        async with asyncio.timeout(60):
            await bench.session()

    run(work())


class Sessions(NoRecovery):
    """Sessions that last."""

    def __init__(self) -> None:
        self.kept: list[Session] = []

    async def newest_sessions(self) -> Sequence[Session]:
        return self.kept

    async def later_session(self, session: Session) -> Session | None:
        return next((one for one in self.kept if one.rank > session.rank), None)

    async def save_session(self, session: Session) -> None:
        self.kept.append(session)


@pytest.mark.parametrize("rival", [False, True])
def test_what_is_noted_behind_the_claim_is_noted_before_anything_is_read_and_by_the_later_session(rival: bool) -> None:
    """Catches: settings noted by a process that then gives way, or rows written by one that has."""

    async def work() -> None:
        bench = Bench(once=True)
        sessions = Sessions()
        bench.sessions = sessions
        noted: list[int] = []

        async def note(epoch: int) -> None:
            await asyncio.sleep(0.1)
            noted.append(epoch)
            assert [one.epoch for one in sessions.kept] == noted, "the session is claimed"
            assert not bench.source.fetched and not bench.ready
            if rival:
                sessions.kept.append(Session(0, 1, epoch + 1, "another"))
            else:
                bench.draining.set()

        bench.on_claimed = note
        if rival:
            with pytest.raises(FatalError, match="took over"):
                await bench.session()
            assert not bench.source.fetched and not bench.sink.inserted
        else:
            await bench.session()
        assert len(noted) == 1

    run(work())

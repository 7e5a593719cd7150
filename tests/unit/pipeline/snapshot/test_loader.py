"""SnapshotLoader: when it asks for an export, what it refuses, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest
from support.pipeline.pipeline_parts import (
    MemoryCheckpoints,
    MemorySink,
    OneRowEach,
    ScriptedSource,
    checkpointer_of,
    chunk,
    sole_member,
    writer_of,
)
from support.pipeline.recovery_parts import MemoryGhosts, MemoryRecovery
from support.pipeline.virtual_time import run

from dyncdc.errors import ConfigError, CorruptSnapshotError, FatalError
from dyncdc.model.checkpoints import Checkpoint, Mark, Server
from dyncdc.model.gaps import Gap, Request
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.model.snapshots import Export, Snapshot
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import Services, SnapshotTask
from dyncdc.pipeline.snapshot.load import SnapshotLoad
from dyncdc.pipeline.snapshot.loader import SnapshotLoader, SnapshotPlan
from dyncdc.pipeline.snapshot.plan import Journal, SnapshotsStanding
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

PLAN = SnapshotPlan("orders", "uuid", had_rows=False, margin_seconds=300.0, settle_seconds=60.0)
BEGUN = 1_000_000.0
"""Server time at virtual time 0."""


def now() -> float:
    return BEGUN + asyncio.get_running_loop().time()


class MemorySnapshots:
    def __init__(self) -> None:
        self.saved: list[Snapshot] = []
        self.gaps: list[tuple[str, str, float, float]] = []

    async def load(self) -> Sequence[Snapshot]:
        return list({snapshot.id: snapshot for snapshot in self.saved}.values())

    async def save(self, snapshot: Snapshot) -> None:
        self.saved.append(snapshot)

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        self.gaps.append((table, source, begin, end))


class ScriptedOrigin:
    """Exports that take ten seconds."""

    def __init__(self) -> None:
        self.active_from = 0.0
        self.off: tuple[float, float] = (0.0, 0.0)
        self.tokens: list[str] = []
        self.asked_at = 0.0
        self.given: Export | None = None
        self.outcome = "COMPLETED"
        self.corrupt = False
        self.refuses = ""
        """The call that AWS refuses."""

    def refuse(self, call: str) -> None:
        if self.refuses == call:
            raise FatalError(f"{call}: AccessDenied") from OSError("what the service has answered")

    async def covered_at(self) -> float | None:
        elapsed = now() - BEGUN
        return now() if elapsed >= self.active_from and not self.off[0] <= elapsed < self.off[1] else None

    async def request_export(self, token: str) -> Export:
        self.refuse("exporting")
        if token not in self.tokens:
            self.tokens.append(token)
            self.asked_at = now()
        return await self.describe_export(f"arn:{token}")

    async def describe_export(self, arn: str) -> Export:
        if self.given is not None:
            return self.given
        export = Export(arn, "IN_PROGRESS", self.asked_at)
        if now() - self.asked_at < 10.0:
            return export
        return replace(export, status="FAILED" if self.outcome == "FAILED" else "COMPLETED", failure="no room")

    async def open_export(self, export: Export, source: SourceId) -> ScriptedSource:
        self.refuse("reading the manifest")
        files = ScriptedSource([[Shard(source, ShardId(f"file-{n}")) for n in range(6)]])
        files.id = source
        files.retention_seconds = None

        async def answer(of: Shard, after: Position) -> RawChunk:
            await asyncio.sleep(0.01)
            self.refuse("reading a file")
            if self.corrupt and of.id == "file-2":
                raise CorruptSnapshotError("reading file-2: its checksum is another one")
            return chunk(of, [b"x"], "1", closed=True)

        files.answer = answer
        return files


class Bench:
    """What outlives a process, and one loader at a time."""

    def __init__(self, plan: SnapshotPlan = PLAN) -> None:
        self.plan = plan
        self.store = MemorySnapshots()
        self.origin = ScriptedOrigin()
        # as when positions in the stream are held, which the loader waits for
        held = Checkpoint(SourceId("stream@1"), ShardId("shard-0"), Mark(Position("1"), BEGUN))
        self.checkpoints = MemoryCheckpoints([held])
        self.sink = MemorySink()
        self.held = asyncio.Event()
        self.stream = ScriptedSource()
        self.recovery = MemoryRecovery()
        self.orphan_rows = MemoryGhosts()
        self.on_lost_position: Literal["resnapshot", "stop"] = "stop"
        self.past = float("inf")
        """Up to which instant the stream has been read."""
        self.versions: list[int] = []
        self.replay_seconds = 0.0
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())

    def for_snapshot(self, table: str, version: int) -> OneRowEach:
        self.versions.append(version)
        return OneRowEach()

    def read_past(self, instant: float) -> bool:
        return self.past > instant

    @property
    def states(self) -> list[str]:
        return [snapshot.state for snapshot in self.store.saved]


@asynccontextmanager
async def loading(bench: Bench, *, wait_for_fix: bool = True) -> AsyncIterator[SnapshotLoader]:
    budget = ByteBudget(10**7)
    writer = writer_of(bench.sink, budget)
    checkpointer = checkpointer_of(bench.checkpoints, replay_seconds=bench.replay_seconds)
    await checkpointer.load()
    instruments = Instruments(Metrics(), bench.health, now)
    try:
        async with asyncio.TaskGroup() as tasks:
            readers = ReaderPool(ReadResources(instruments, budget, writer), checkpointer.progress, tasks)
            policy = Policy(bench.on_lost_position, {SourceId("stream@1"): ["orders"]})
            recovery = Recovery(bench.recovery, policy, instruments, sole_member())
            await recovery.begin([bench.stream], bench.store, checkpointer)
            journal = Journal(
                bench.store, instruments, bench.plan.task, epoch=checkpointer.ownership.epoch, wait_for_fix=wait_for_fix
            )
            services = Services(instruments, checkpointer, sole_member(), recovery)
            task = SnapshotTask(bench.plan, bench.origin, bench.stream)
            load = SnapshotLoad(task, journal, bench, readers, services)
            loader = SnapshotLoader(task, load, readers, bench, bench.orphan_rows, services)
            running = [
                tasks.create_task(writer.run(), name="writer"),
                tasks.create_task(checkpointer.run(), name="checkpointer"),
                tasks.create_task(loader.run(), name="loader"),
                tasks.create_task(recovery.poll(), name="requests"),
            ]
            yield loader
            for task in running:
                task.cancel()
            readers.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def load(bench: Bench) -> SnapshotLoader:
    bench.held.set()
    async with loading(bench) as loader:
        async with asyncio.timeout(3_000):
            await loader.ended.wait()
    return loader


@pytest.mark.parametrize(("had_rows", "seconds"), [(False, 60.0), (True, 360.0)])
def test_s3_an_export_is_asked_for_when_the_stream_has_covered_the_table_for_long_enough(
    had_rows: bool, seconds: float
) -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=had_rows))
        bench.origin.active_from = 200.0
        async with loading(bench) as loader:
            await asyncio.sleep(100)
            assert bench.states == ["waiting"], "positions in the stream come first"
            bench.held.set()
            await loader.ended.wait()
        assert seconds <= bench.origin.asked_at - BEGUN - 200.0 < seconds + 10.0
        assert bench.versions == [int((bench.origin.asked_at - 300.0) * 1_000_000)]
        assert [state for state in bench.states if state != "waiting"] == [
            "exporting",
            "exporting",
            "loading",
            *(["sweeping"] if had_rows else []),
            "complete",
        ]
        assert bench.origin.tokens == [bench.store.saved[0].id]

    run(work())


@pytest.mark.parametrize(("sessions_before", "sweeps"), [(0, False), (1, True)])
def test_a_first_snapshot_is_swept_where_an_earlier_session_may_have_written(
    sessions_before: int, sweeps: bool
) -> None:
    """Catches: a delete that reached no stream between two sessions, before anything was loaded, and the row stays."""

    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=False))
        for _ in range(sessions_before):
            async with loading(bench):
                pass  # it follows the table and ends before a position is held
            assert "exporting" not in bench.states
            bench.store = MemorySnapshots()  # nor has it saved a snapshot
        await load(bench)
        assert ("sweeping" in bench.states) is sweeps and bench.states[-1] == "complete"

    run(work())


async def healths(bench: Bench, ended: asyncio.Event) -> list[tuple[float, list[str], list[str]]]:
    """Each second until ``ended``: the time, what is stuck, and what waits as planned."""
    seen = []
    while not ended.is_set():
        await asyncio.sleep(1.0)
        stuck, planned = bench.health.stuck(), bench.health.planned()
        seen.append(
            (asyncio.get_running_loop().time(), [found.name for found in stuck], [str(wait) for wait in planned])
        )
    return seen


@pytest.mark.parametrize("had_rows", [False, True])
def test_the_wait_before_a_snapshot_is_told_with_its_end_and_is_never_stuck(had_rows: bool) -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=had_rows))
        bench.held.set()
        async with loading(bench) as loader:
            seen = await healths(bench, loader.ended)
        assert [stuck for _, stuck, _ in seen if stuck] == []
        covering = [planned[0] for _, _, planned in seen if planned and "settle_seconds" in planned[0]]
        assert len(covering) >= (350 if had_rows else 55)
        assert covering[0].startswith("snapshot:orders waits as planned: ")
        assert covering[0].endswith(", 359 s still" if had_rows else ", 59 s still")
        assert any("AWS exports" in text for _, _, planned in seen for text in planned)
        assert bench.health.planned() == []

    run(work())


def test_a_call_that_hangs_in_the_middle_of_a_planned_wait_is_stuck_within_its_time() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))
        bench.held.set()
        look = bench.origin.covered_at

        async def covered_at() -> float | None:
            if now() - BEGUN > 100.0:
                await asyncio.sleep(1e6)
            return await look()

        bench.origin.covered_at = covered_at  # type: ignore[method-assign]
        async with loading(bench):
            await asyncio.sleep(100.0)
            assert bench.health.stuck() == []
            await asyncio.sleep(70.0)
            (found,) = bench.health.stuck()
            assert found.reason == "waiting for DynamoDB to show the streaming destination"

    run(work())


@pytest.mark.parametrize("had_come", [False, True])
@pytest.mark.parametrize("unseen", ["off", "no answer"])
def test_s3_rows_that_came_before_a_destination_was_seen_active_are_swept_by_the_first_snapshot(
    unseen: str, had_come: bool
) -> None:
    """Catches: a stream with a put from before a time off, and a delete in it that no stream has."""

    async def has_rows() -> bool:
        return had_come

    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=False, has_rows=has_rows))
        look = bench.origin.covered_at

        async def late() -> float | None:
            if now() - BEGUN < 20.0:
                await asyncio.sleep(20.0)
            return await look()

        if unseen == "off":
            bench.origin.active_from = 20.0
        else:
            bench.origin.covered_at = late  # type: ignore[method-assign]
        await load(bench)
        waited = bench.origin.asked_at - BEGUN
        assert ("sweeping" in bench.states) is had_come
        assert (waited >= 20.0 + PLAN.settle_seconds + PLAN.margin_seconds) is had_come

    run(work())


def test_s3_a_destination_that_was_switched_off_in_between_is_covered_again() -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.off = (40.0, 500.0)
        await load(bench)
        # The margin counts too: a row read before the hole must not outlive an older export that shows what followed.
        assert bench.origin.asked_at - BEGUN >= 560.0 + PLAN.margin_seconds

    run(work())


def test_a_complete_snapshot_is_not_taken_again_but_for_another_destination() -> None:
    async def work() -> None:
        bench = Bench()
        await load(bench)
        saves = len(bench.store.saved)
        await load(bench)
        assert len(bench.store.saved) == saves and len(bench.origin.tokens) == 1
        bench.plan = replace(PLAN, destination_uuid="re-created")
        await load(bench)
        assert len(bench.origin.tokens) == 2

    run(work())


@pytest.mark.parametrize("seconds", [0.5, 30.0, 61.0, 65.0, 72.0, 73.0])
def test_a_restart_goes_on_with_the_same_snapshot(seconds: float) -> None:
    async def work() -> None:
        bench = Bench()
        bench.held.set()
        async with loading(bench):
            await asyncio.sleep(seconds)
        await asyncio.sleep(100)
        await load(bench)
        assert len({snapshot.id for snapshot in bench.store.saved}) == 1 and len(bench.origin.tokens) == 1
        assert bench.states[-1] == "complete"

    run(work())


def test_s3_a_given_export_older_than_the_coverage_is_refused_or_its_gap_recorded() -> None:
    async def work() -> None:
        plan = replace(PLAN, export_arn="arn:given")
        bench = Bench(plan)
        bench.origin.given = Export("arn:given", "COMPLETED", BEGUN - 3_600.0)
        with pytest.raises(ConfigError, match="too old"):
            await load(bench)
        bench.plan = replace(plan, accept_gap=True)
        await load(bench)
        assert bench.origin.tokens == []
        ((table, source, begin, end),) = bench.store.gaps
        assert (table, source, begin) == ("orders", "arn:given", BEGUN - 3_900.0)
        assert end == pytest.approx(BEGUN, abs=5.0)
        assert bench.states[-1] == "complete"

    run(work())


def test_a_failed_export_is_named_and_the_next_start_asks_for_another() -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.outcome = "FAILED"
        bench.held.set()
        async with loading(bench) as loader:
            await loader.ended.wait()
            assert "no room" in str(loader.failure)
            (stuck,) = [task for task in bench.health.stuck() if task.name == "snapshot:orders"]
            assert "no room" in stuck.reason
        bench.origin.outcome = "COMPLETED"
        assert (await load(bench)).failure is None
        assert len(bench.origin.tokens) == 2

    run(work())


@pytest.mark.parametrize("call", ["exporting", "reading the manifest", "reading a file"])
def test_what_aws_refuses_is_named_and_asked_for_again_until_someone_has_mended_it(call: str) -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.refuses = call
        bench.held.set()
        async with loading(bench) as loader:
            await asyncio.sleep(600)
            assert any(call in task.reason for task in bench.health.stuck()) and not loader.ended.is_set()
            bench.origin.refuses = ""
            await loader.ended.wait()
            assert loader.failure is None and not bench.health.stuck()
        assert bench.states[-1] == "complete" and len(bench.origin.tokens) == 1

    run(work())


@pytest.mark.parametrize("call", ["exporting", "reading the manifest", "reading a file"])
def test_once_does_not_wait_for_what_aws_refuses(call: str) -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.refuses = call
        bench.held.set()
        with pytest.raises(FatalError, match=call):
            async with loading(bench, wait_for_fix=False):
                await asyncio.sleep(600)

    run(work())


def test_s7_a_corrupt_file_stops_alone_and_the_snapshot_stays_unfinished() -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.corrupt = True
        loader = await load(bench)
        assert isinstance(loader.failure, CorruptSnapshotError) and bench.states[-1] == "loading"
        finished = {row.shard for row in bench.checkpoints.rows if row.mark.finished}
        assert finished == {f"file-{number}" for number in (0, 1, 3, 4, 5)}
        bench.origin.corrupt = False
        assert (await load(bench)).failure is None, "a fixed file is read by the next start, and only that"
        assert bench.states[-1] == "complete" and len(bench.origin.tokens) == 1

    run(work())


def ask(bench: Bench, name: str) -> Request:
    request = Request(name, "orders", now())
    bench.recovery.requests.append(request)
    return request


async def load_again(bench: Bench, name: str) -> None:
    """Complete a first snapshot, then one that someone asks for."""
    await load(bench)
    ask(bench, name)
    await load(bench)


def test_s6_a_request_has_a_live_table_loaded_again_and_is_done_at_its_end() -> None:
    async def work() -> None:
        bench = Bench()
        bench.held.set()
        async with loading(bench) as loader:
            await loader.ended.wait()
            request = ask(bench, "r1")
            await asyncio.sleep(5)
            assert not loader.ended.is_set(), "it is seen while it runs"
            await loader.ended.wait()
            assert bench.recovery.done == [request]
        first, second = await bench.store.load()
        assert (second.request, second.had_rows, second.state) == ("r1", True, "complete")
        assert second.version > first.version
        assert bench.orphan_rows.swept == [("orders", second.version, after) for after in ((), ("1",), ("2",))]

    run(work())


def test_s6_a_request_is_answered_by_a_snapshot_begun_after_it_and_later_requests_by_one_more() -> None:
    async def work() -> None:
        bench = Bench()
        bench.held.set()
        async with loading(bench) as loader:
            await asyncio.sleep(65)
            assert bench.states[-1] == "exporting"
            requests = [ask(bench, "r1"), ask(bench, "r2")]
            await asyncio.sleep(30)
            await loader.ended.wait()
            assert bench.recovery.done == requests
        assert [snapshot.request for snapshot in await bench.store.load()] == ["", "r2"]

    run(work())


@pytest.mark.parametrize("seconds", [0.5, 359.0, 362.0, 371.5, 373.0])
def test_s6_an_interrupted_snapshot_on_request_is_gone_on_with(seconds: float) -> None:
    async def work() -> None:
        bench = Bench()
        await load(bench)
        ask(bench, "r1")
        async with loading(bench):
            await asyncio.sleep(seconds)
        await load(bench)
        assert [snapshot.state for snapshot in await bench.store.load()] == ["complete", "complete"]
        assert len(bench.origin.tokens) == 2 and len(bench.recovery.done) == 1

    run(work())


def test_s5_the_first_load_of_an_empty_destination_sweeps_nothing_and_that_of_another_does() -> None:
    async def work() -> None:
        bench = Bench()
        await load(bench)
        assert bench.orphan_rows.swept == []
        adopted = Bench(replace(PLAN, had_rows=True))
        await load(adopted)
        assert len(adopted.orphan_rows.swept) == 3
        ignored = Bench(replace(PLAN, had_rows=True, sweeps=False))
        await load(ignored)
        assert ignored.orphan_rows.swept == [] and "sweeping" not in ignored.states

    run(work())


def test_s5_an_unfinished_snapshot_deletes_nothing() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))
        bench.origin.corrupt = True
        loader = await load(bench)
        assert loader.failure is not None and bench.states[-1] == "loading"
        assert bench.orphan_rows.swept == []

    run(work())


def test_s5_nothing_is_swept_before_the_last_file_is_persisted_as_finished() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))

        async def swept() -> None:
            finished = {row.shard for row in bench.checkpoints.rows if row.mark.finished}
            assert len(finished) == 6 and bench.states[-1] == "sweeping"

        bench.orphan_rows.answer = swept
        await load(bench)
        assert len(bench.orphan_rows.swept) == 3

    run(work())


def test_s5_a_sweep_waits_for_older_changes_that_the_stream_still_holds() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))
        bench.held.set()
        bench.past = BEGUN
        async with loading(bench) as loader:
            await asyncio.sleep(1_000)
            assert bench.states[-1] == "sweeping" and bench.orphan_rows.swept == []
            assert bench.health.stuck() == []
            bench.past = now()
            await asyncio.sleep(5)
            assert loader.ended.is_set() and bench.states[-1] == "complete"

    run(work())


def test_s5_nothing_is_swept_while_an_item_of_the_snapshot_is_a_dead_letter() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))
        bench.orphan_rows.dead_letters = 2
        bench.held.set()
        async with loading(bench) as loader:
            await loader.ended.wait()
            assert "2 items" in str(loader.failure) and bench.orphan_rows.swept == []
            assert [task.name for task in bench.health.stuck()] == ["snapshot:orders"]
            await asyncio.sleep(100)
            bench.orphan_rows.dead_letters = 0
            await asyncio.sleep(10)
            assert loader.failure is None and loader.ended.is_set() and bench.states[-1] == "complete"
            assert bench.health.stuck() == []

    run(work())


def test_s5_a_sweep_that_is_cut_short_goes_on_at_the_next_start() -> None:
    async def work() -> None:
        bench = Bench(replace(PLAN, had_rows=True))
        bench.held.set()

        async def slow() -> None:
            await asyncio.sleep(20)

        bench.orphan_rows.answer = slow
        async with loading(bench):
            await asyncio.sleep(410)
            assert bench.states[-1] == "sweeping" and bench.orphan_rows.swept
        bench.orphan_rows.swept.clear()
        await load(bench)
        assert [after for _, _, after in bench.orphan_rows.swept] == [(), ("1",), ("2",)]
        assert len(bench.origin.tokens) == 1

    run(work())


def lose(bench: Bench, end: float) -> Gap:
    gap = Gap("orders", "stream@1", "s", end - 100.0, end)
    bench.recovery.gaps[gap.key] = gap
    return gap


def test_k8_a_gap_is_recovered_by_a_snapshot_that_was_covered_after_it_and_only_at_its_end() -> None:
    async def work() -> None:
        bench = Bench()
        bench.on_lost_position = "resnapshot"
        await load(bench)
        gap = lose(bench, now() + 50.0)
        async with loading(bench) as loader:
            await asyncio.sleep(300)
            assert bench.recovery.recovered == []
            await loader.ended.wait()
        assert bench.recovery.recovered == [gap]
        second = (await bench.store.load())[-1]
        assert second.covered_from >= gap.end and second.had_rows and bench.orphan_rows.swept
        assert second.export_time - second.covered_from >= 360.0

    run(work())


@pytest.mark.parametrize("seconds", [1.0, 65.0, 70.0])
def test_k8_a_snapshot_under_way_at_the_time_of_the_loss_does_not_count(seconds: float) -> None:
    async def work() -> None:
        bench = Bench()
        bench.on_lost_position = "resnapshot"
        bench.held.set()
        async with loading(bench):
            await asyncio.sleep(seconds)
        gap = lose(bench, now() + 1.0)
        await load(bench)
        assert bench.recovery.recovered == [gap]
        *_, last = await bench.store.load()
        assert last.state == "complete" and last.covered_from >= gap.end
        assert bench.states.count("complete") == 1

    run(work())


def test_s6_a_snapshot_that_is_not_newer_than_the_one_before_is_never_taken() -> None:
    async def work() -> None:
        bench = Bench()
        await load(bench)
        first = bench.origin.asked_at
        bench.plan = replace(PLAN, margin_seconds=2_000.0)
        ask(bench, "r1")
        await load(bench)
        one, two = await bench.store.load()
        assert two.version > one.version
        assert bench.origin.asked_at >= first + 1_700.0

    run(work())


def test_a_snapshot_that_failed_is_followed_by_the_one_that_someone_asks_for() -> None:
    async def work() -> None:
        bench = Bench()
        bench.origin.corrupt = True
        bench.held.set()
        async with loading(bench) as loader:
            await loader.ended.wait()
            bench.origin.corrupt = False
            request = ask(bench, "r1")
            await asyncio.sleep(5)
            assert not loader.ended.is_set() and loader.failure is None
            await loader.ended.wait()
            assert bench.recovery.done == [request]
        assert [snapshot.state for snapshot in await bench.store.load()] == ["failed", "complete"]

    run(work())


def test_k8_a_loss_after_a_snapshot_that_failed_has_another_one_taken() -> None:
    async def work() -> None:
        bench = Bench()
        bench.on_lost_position = "resnapshot"
        bench.origin.corrupt = True
        bench.held.set()
        async with loading(bench) as loader:
            await loader.ended.wait()
            await asyncio.sleep(600)
            assert len(bench.origin.tokens) == 1, "not over and over for the same reason"
            bench.origin.corrupt = False
            lost = Gap("orders", "stream@1", "shard-0", BEGUN, now(), "7", "it expired")
            await loader._recovery.missed([lost])
            await asyncio.sleep(1)
            await loader.ended.wait()
            assert [gap.key for gap in bench.recovery.recovered] == [lost.key]
        assert [snapshot.state for snapshot in await bench.store.load()] == ["failed", "complete"]

    run(work())


def waiting_for_a_word(bench: Bench) -> None:
    """Load into a destination of which the snapshot holds next to nothing, until someone has to say so."""
    bench.plan = replace(PLAN, had_rows=True)
    bench.orphan_rows.live, bench.orphan_rows.orphan_rows = 200, 150
    bench.held.set()


def test_a_sweep_of_most_items_waits_for_a_word_and_holds_over_restarts() -> None:
    async def work() -> None:
        bench = Bench()
        waiting_for_a_word(bench)
        for _ in range(2):
            async with loading(bench) as loader:
                await loader.ended.wait()
                assert "450 of the 600 items" in str(loader.failure) and "--accept-deletes" in str(loader.failure)
                await asyncio.sleep(3_600)
                assert bench.orphan_rows.swept == [] and bench.states[-1] == "sweeping"
        bench.orphan_rows.accepts.add(bench.store.saved[-1].id)
        loader = await load(bench)
        assert loader.failure is None and bench.states[-1] == "complete" and bench.orphan_rows.swept

    run(work())


def test_a_word_about_one_snapshot_is_heard_while_it_waits() -> None:
    async def work() -> None:
        bench = Bench()
        waiting_for_a_word(bench)
        async with loading(bench) as loader:
            await loader.ended.wait()
            bench.orphan_rows.accepts.add(bench.store.saved[-1].id)
            await asyncio.sleep(60)
            assert bench.states[-1] == "complete" and loader.failure is None

    run(work())


def test_a_request_takes_the_place_of_a_snapshot_that_waits_for_a_word() -> None:
    async def work() -> None:
        bench = Bench()
        waiting_for_a_word(bench)
        async with loading(bench) as loader:
            await loader.ended.wait()
            bench.orphan_rows.orphan_rows = 0  # the table was fixed
            bench.recovery.requests.append(Request("again", "orders", now()))
            await asyncio.sleep(3_600)
            assert bench.states[-1] == "complete" and len(bench.origin.tokens) == 2
            assert bench.store.saved[-1].request == "again"

    run(work())


@pytest.mark.parametrize(("live", "orphan_rows"), [(200, 100), (33, 33)])
def test_half_of_the_items_or_a_few_are_swept_without_a_word(live: int, orphan_rows: int) -> None:
    async def work() -> None:
        bench = Bench()
        waiting_for_a_word(bench)
        bench.orphan_rows.live, bench.orphan_rows.orphan_rows = live, orphan_rows
        loader = await load(bench)
        assert loader.failure is None and bench.states[-1] == "complete"

    run(work())


def test_what_is_saved_of_snapshots_is_believed_only_once_one_that_is_read_again_is_saved_as_loading() -> None:
    async def work() -> None:
        bench = Bench()
        await load(bench)
        assert bench.states[-1] == "complete"
        # much later, another server; the states of before are not the truth any more
        bench.plan = replace(PLAN, standing=SnapshotsStanding())
        bench.replay_seconds, bench.checkpoints.of = 300.0, Server("one", 90_000.0)
        save, answer = bench.store.save, asyncio.Event()

        async def slow(snapshot: Snapshot) -> None:
            await answer.wait()
            await save(snapshot)

        bench.store.save = slow  # type: ignore[method-assign]
        async with loading(bench):
            await asyncio.sleep(600.0)
            assert not await bench.plan.standing.holds() and bench.states[-1] == "complete"
            answer.set()
            while not await bench.plan.standing.holds():
                assert bench.states[-1] == "complete"
                await asyncio.sleep(0.001)
            assert bench.states[-1] == "loading"

    run(work())

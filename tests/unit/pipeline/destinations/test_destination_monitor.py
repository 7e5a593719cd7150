"""The watch over destinations: what it writes down as a session begins, and what it says of tables that change."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import pytest
from support.pipeline.pipeline_parts import SOURCE, MemoryCheckpoints, ScriptedSource, checkpointer_of, sole_member
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.model.gaps import Gap
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.destinations.binding_changes import EMPTIED, WAS_ELSEWHERE
from dyncdc.pipeline.destinations.bindings import Binding, DestinationContents, DestinationState, Partition, Target
from dyncdc.pipeline.destinations.destination_monitor import DestinationMonitor, MonitoredTable
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

HERE = Target("orders", "o", "u", "arn", "one")
NOTHING = DestinationContents()
FULL = {"all": Partition(1, 10, 100)}


def now() -> float:
    return 1_000.0 + asyncio.get_running_loop().time()


class MemoryDestinations:
    """One destination. ``diary``: what was saved, in order, gaps included."""

    def __init__(self, *rows: Binding) -> None:
        self.rows = list(rows)
        self.diary: list[str] = []
        self.uuid = "u"
        self.partitions: Mapping[str, Partition] = FULL
        self.detached = False
        self.lagging = False
        self.live = True

    async def bindings(self) -> Sequence[Binding]:
        return self.rows

    async def save_bindings(self, rows: Sequence[Binding]) -> None:
        self.rows += rows
        self.diary += [f"{row.target.uuid} {row.held.blocks}" for row in rows]

    async def read_state(self, destinations: Collection[str]) -> Mapping[str, DestinationState]:
        return {
            name: DestinationState(self.uuid, now(), self.partitions, False, self.detached) for name in destinations
        }

    async def caught_up(self, destination: str) -> bool:
        return not self.lagging

    async def any_live(self, destination: str) -> bool:
        return self.live


class Bench:
    """A watch over one table, as a session begins and goes on."""

    def __init__(self, *rows: Binding) -> None:
        self.store = MemoryDestinations(*rows)
        self.gaps = MemoryRecovery()
        self.health = TaskHealth(clock=lambda: asyncio.get_running_loop().time())
        instruments = Instruments(Metrics(), self.health, now)
        policy = Policy("resnapshot", {SourceId(SOURCE): ["orders"]})
        recovery = Recovery(self.gaps, policy, instruments, sole_member())
        source = ScriptedSource()
        self.watch = DestinationMonitor(
            "p", [MonitoredTable("orders", HERE, source)], self.store, NoSnapshots(), recovery, instruments
        )
        self.gaps.answer = self._noted

    async def _noted(self) -> None:
        self.store.diary.append("gap")

    async def begin(self) -> None:
        await self.watch.begin(checkpointer_of(MemoryCheckpoints()).progress, leads=True)

    @property
    def found(self) -> list[Gap]:
        return list(self.gaps.gaps.values())


def bound(uuid: str = "u", number: int = 1, held: DestinationContents = NOTHING) -> Binding:
    return Binding("p", Target("orders", "o", uuid, "arn", "one"), number, 500.0 + number, held, saved_at=900.0)


def test_a_gap_is_durable_before_anybody_hears_where_changes_go_now() -> None:
    async def work() -> None:
        bench = Bench(bound(), bound("v", 2))
        await bench.begin()
        assert bench.store.diary[:2] == ["gap", "u {}"]
        assert [gap.reason for gap in bench.found] == [WAS_ELSEWHERE]

    run(work())


def test_what_a_destination_holds_is_written_down_once_and_for_every_new_partition() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.begin()
        assert bench.store.diary == ["u {}", "u {'all': 10}"]
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bench.watch.run())
            bench.store.partitions = {"all": Partition(1, 50, 100)}
            await asyncio.sleep(600)
            assert len(bench.store.diary) == 2, "not every few seconds"
            bench.store.partitions = {"all": Partition(1, 50, 100), "b": Partition(51, 51, 1)}
            await asyncio.sleep(30)
            assert bench.store.diary[2:] == ["u {'all': 50, 'b': 51}"]
            task.cancel()
        assert bench.found == []

    run(work())


def test_rows_taken_away_are_a_gap_at_once_while_running_and_at_the_next_start() -> None:
    async def work() -> None:
        for running in (True, False):
            bench = Bench(bound(held=DestinationContents({"all": 10}, 100, live=True)))
            if running:
                await bench.begin()
            bench.store.partitions = {"all": Partition(12, 12, 1)}
            if not running:
                await bench.begin()
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(bench.watch.run())
                await asyncio.sleep(60)
                task.cancel()
            assert [gap.reason for gap in bench.found] == [EMPTIED], running
            assert bench.store.diary[-1] == "u {'all': 12}", "and it is noticed again, should it happen again"

    run(work())


def test_a_replica_that_lags_is_waited_for_before_anything_counts_as_gone() -> None:
    async def work() -> None:
        bench = Bench(bound(held=DestinationContents({"all": 10}, 100, live=True)))
        bench.store.partitions, bench.store.lagging = {}, True
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bench.begin())
            await asyncio.sleep(100)
            assert not task.done() and bench.found == []
            assert "replica" in next(task.waits_for for task in bench.health.tasks() if task.name == "destinations")
            bench.store.partitions, bench.store.lagging = FULL, False
        assert bench.found == []

    run(work())


def test_a_detached_table_is_named_and_waited_for() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.begin()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bench.watch.run())
            bench.store.uuid, bench.store.detached = "", True
            await asyncio.sleep(600)
            (stuck,) = bench.health.stuck()
            assert "run ATTACH TABLE o" in str(stuck)
            bench.store.uuid, bench.store.detached = "u", False
            await asyncio.sleep(30)
            assert bench.health.stuck() == [] and bench.found == []
            task.cancel()

    run(work())


@pytest.mark.parametrize(("uuid", "seconds"), [("another", 6.0), ("", 11.0)])
def test_another_table_ends_the_session_and_none_after_a_second_look(uuid: str, seconds: float) -> None:
    async def work() -> None:
        bench = Bench()
        await bench.begin()
        bench.store.uuid = uuid
        began = asyncio.get_running_loop().time()
        with pytest.raises(DestinationChangedError):
            await bench.watch.run()
        assert seconds - 2.0 < asyncio.get_running_loop().time() - began < seconds

    run(work())


def test_a_table_renamed_away_and_another_into_its_place_is_not_made_in_between() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.begin()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(bench.watch.run())
            bench.store.uuid = ""
            await asyncio.sleep(7.0)
            bench.store.uuid = "u"
            await asyncio.sleep(60.0)
            assert not task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    run(work())

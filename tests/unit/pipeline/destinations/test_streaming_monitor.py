"""A table that stops sending its changes to the stream is named by health, and what it did not send is a gap."""

from __future__ import annotations

import asyncio

import pytest
from support.pipeline.pipeline_parts import SOURCE, MemoryCheckpoints, ScriptedSource, checkpointer_of, sole_member
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.errors import ConfigError, DyncdcError, FatalError, RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.gaps import TableSource
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor, monitor_seconds
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery, SourceLostError
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.session.services import SnapshotTask
from dyncdc.pipeline.snapshot.plan import SnapshotPlan
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

AWAY = RetryableError("describing the destination: timed out")


def now() -> float:
    return 1_000.0 + asyncio.get_running_loop().time()


State = bool | DyncdcError


class LoadedBefore(NoSnapshots):
    """One complete snapshot."""

    async def load(self) -> list[Snapshot]:
        return [Snapshot("s", "orders", "complete", "uuid", "arn", covered_from=400.0)]


class Switch:
    """Answers as the destination is; an error is what AWS answers instead."""

    def __init__(self) -> None:
        self.active: State = True
        self.id = "one"

    async def covered_at(self) -> float | None:
        if isinstance(self.active, DyncdcError):
            raise self.active
        return now() if self.active else None

    async def identity(self) -> str:
        return self.id


async def watched(
    switch: Switch, script: list[tuple[float, State]], former: bool = False, table_id: str = ""
) -> tuple[MemoryRecovery, list[list[str]]]:
    """Run a watch while ``script`` says how the destination is from when on; return the gaps and what was stuck.

    ``former``: a session before this one has loaded the table, and has read the stream up to 900 s.
    """
    store, health = MemoryRecovery(), TaskHealth(clock=lambda: asyncio.get_running_loop().time())
    instruments = Instruments(Metrics(), health, now)
    policy = Policy("resnapshot", {SourceId(SOURCE): ["orders"]}, destinations={"orders": "uuid"})
    recovery = Recovery(store, policy, instruments, sole_member())
    source = ScriptedSource()
    if former:
        store.tables["orders"] = TableSource("orders", source.id, 1, 500.0, held=True)
        saved = Checkpoint(source.id, ShardId("shard-0"), Mark(Position("1"), 900.0), 1)
        checkpointer = checkpointer_of(MemoryCheckpoints([saved]))
        await checkpointer.load()
        await recovery.begin([source], LoadedBefore(), checkpointer)
    task = SnapshotTask(SnapshotPlan("orders", "uuid", False, 0.0, 0.0), switch, source)
    watch = StreamingMonitor(task, recovery, instruments, table_id=table_id)  # type: ignore[arg-type]
    stuck: list[list[str]] = []
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch.run())
        for seconds, active in script:
            switch.active = active
            await asyncio.sleep(seconds)
            stuck.append([found.name for found in health.stuck()])
        watching.cancel()
    return store, stuck


def test_a_destination_that_stays_active_leaves_no_gap() -> None:
    store, stuck = run(watched(Switch(), [(600.0, True)]))
    assert not store.gaps and stuck == [[]]


def test_a_destination_switched_off_is_named_and_leaves_a_gap_once_it_is_back() -> None:
    store, stuck = run(watched(Switch(), [(130.0, True), (130.0, False), (130.0, True)]))
    (gap,) = store.gaps.values()
    assert gap.table == "orders" and 100.0 < gap.end - gap.begin < 300.0
    assert stuck == [[], ["destination:orders"], []]


def test_a_destination_that_is_still_being_enabled_is_no_loss() -> None:
    store, stuck = run(watched(Switch(), [(130.0, False), (130.0, True)]))
    assert not store.gaps and stuck == [[], []]


def test_an_outage_of_aws_says_nothing_about_the_destination() -> None:
    store, _ = run(watched(Switch(), [(130.0, True), (130.0, AWAY), (130.0, True)]))
    assert not store.gaps


def test_s3_a_destination_seen_off_is_a_gap_at_once_so_that_a_restart_cannot_forget_it() -> None:
    store, _ = run(watched(Switch(), [(130.0, True), (70.0, False)]))
    (gap,) = store.gaps.values()
    assert gap.begin < gap.end


@pytest.mark.parametrize(("state", "gaps"), [(False, 1), (True, 0)])
def test_s3_a_destination_that_is_off_as_a_later_session_begins_was_switched_off(state: State, gaps: int) -> None:
    store, stuck = run(watched(Switch(), [(130.0, state), (130.0, True)], former=True))
    assert len(store.gaps) == gaps and stuck[1] == []
    assert all(gap.begin == 780.0 and gap.end > 1_100.0 for gap in store.gaps.values())


def test_s3_a_table_that_is_gone_is_named_and_a_gap_and_ends_nothing_else() -> None:
    store, stuck = run(watched(Switch(), [(130.0, True), (130.0, ConfigError("describing: no such table"))]))
    assert len(store.gaps) == 1 and stuck == [[], ["destination:orders"]]


def test_s3_a_destination_that_we_may_not_look_at_is_named_and_no_loss() -> None:
    denied = FatalError("describing the destination: AccessDenied")
    store, stuck = run(watched(Switch(), [(130.0, True), (130.0, denied), (130.0, True)]))
    assert not store.gaps and stuck == [[], ["destination:orders"], []]


def test_a_table_made_again_under_its_name_ends_the_session_even_if_its_destination_was_never_seen_off() -> None:
    switch = Switch()

    async def work() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(watched(switch, [(1_000.0, True)], table_id="one"), renew())

    async def renew() -> None:
        await asyncio.sleep(30.0)
        switch.id = "two"

    with pytest.raises(ExceptionGroup) as raised:
        run(work())
    assert raised.group_contains(SourceLostError, match="created again")


def test_a_destination_off_for_ten_seconds_is_seen_off() -> None:
    store, _ = run(watched(Switch(), [(61.0, True), (10.0, False), (61.0, True)]))
    assert len(store.gaps) == 1


@pytest.mark.parametrize(("tables", "seconds"), [(1, 5.0), (50, 5.0), (1_000, 100.0)])
def test_all_tables_together_keep_to_a_rate(tables: int, seconds: float) -> None:
    assert monitor_seconds(tables) == seconds

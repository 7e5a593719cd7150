"""A table that stops sending its changes to the stream is named by health, and what it did not send is a gap."""

from __future__ import annotations

import asyncio

from pipeline_parts import SOURCE, MemorySink, ScriptedSource, writer_of
from recovery_parts import MemoryRecovery
from virtual_time import run

from dyncdc.errors import RetryableError
from dyncdc.model import SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.destination_watch import DestinationWatch
from dyncdc.pipeline.pump import Engine
from dyncdc.pipeline.recovery import Policy, Recovery
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.progress import Progress


def now() -> float:
    return 1_000.0 + asyncio.get_running_loop().time()


class Switch:
    """Answers as the destination is; ``None`` means that AWS does not answer."""

    def __init__(self) -> None:
        self.active: bool | None = True

    async def covered_at(self) -> float | None:
        if self.active is None:
            raise RetryableError("describing the destination: timed out")
        return now() if self.active else None


async def watched(switch: Switch, script: list[tuple[float, bool | None]]) -> tuple[MemoryRecovery, list[list[str]]]:
    """Run a watch while ``script`` says how the destination is from when on; return the gaps and what was stuck."""
    store, progress = MemoryRecovery(), Progress(clock=lambda: asyncio.get_running_loop().time())
    budget = ByteBudget(1)
    engine = Engine(budget, writer_of(MemorySink(), budget), Metrics(), progress, now)
    policy = Policy("resnapshot", {SourceId(SOURCE): ["orders"]})
    recovery = Recovery(store, policy, engine.metrics, progress)
    watch = DestinationWatch("orders", ScriptedSource.id, switch, recovery, engine)  # type: ignore[arg-type]
    stuck: list[list[str]] = []
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run())
        for seconds, active in script:
            switch.active = active
            await asyncio.sleep(seconds)
            stuck.append([found.name for found in progress.stuck()])
        task.cancel()
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
    store, _ = run(watched(Switch(), [(130.0, True), (130.0, None), (130.0, True)]))
    assert not store.gaps

"""Recovery: what may be done about a loss, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pytest
from support.pipeline.pipeline_parts import (
    SOURCE,
    MemoryCheckpoints,
    ScriptedSource,
    checkpointer_of,
    instruments_of,
    mark,
    sole_member,
)
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.reading.lineage import LostPosition
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import REQUEST_POLL_SECONDS, Recovery
from dyncdc.telemetry.metrics import Metrics

LOST = [LostPosition(ShardId("s"), mark(7, read_until=900.0), "expired")]
GAP = Gap("orders", SOURCE, "s", 900.0, 1_000.0, "7", "expired", noticed_at=5.0)


class Bench:
    def __init__(
        self,
        on_lost_position: Literal["resnapshot", "stop"] = "resnapshot",
        unrepeatable: Mapping[str, str] | None = None,
        saved: tuple[Checkpoint, ...] = (),
    ) -> None:
        self.store = MemoryRecovery()
        self.source = ScriptedSource()
        self.metrics = Metrics()
        self.checkpointer = checkpointer_of(MemoryCheckpoints(saved))
        policy = Policy(on_lost_position, {SOURCE: ["orders"]}, unrepeatable or {})
        self.recovery = Recovery(self.store, policy, instruments_of(self.metrics), sole_member())

    async def begin(self) -> Recovery:
        await self.checkpointer.load()
        await self.recovery.begin([self.source], NoSnapshots(), self.checkpointer)
        return self.recovery


def test_a_loss_under_stop_ends_the_session_until_someone_asks_for_a_snapshot() -> None:
    async def work() -> None:
        bench = Bench("stop")
        recovery = await bench.begin()
        with pytest.raises(FatalError, match="changes of orders between"):
            await recovery.notice(bench.source, LOST)
        assert len(bench.store.gaps) == 1, "it is written down all the same"
        again = Bench("stop")
        again.store.gaps = bench.store.gaps
        with pytest.raises(FatalError, match="changes of orders between"):
            await again.begin()
        again.store.requests = [Request("r", "orders", 1.0)]
        await again.begin()

    run(work())


@pytest.mark.parametrize("mode", ["stop", "resnapshot"])
def test_a_table_that_cannot_be_loaded_again_ends_the_session_whatever_is_wanted(
    mode: Literal["stop", "resnapshot"],
) -> None:
    async def work() -> None:
        bench = Bench(mode, {"orders": 'its snapshot.method is "none"'})
        bench.store.requests = [Request("r", "orders", 1.0)]
        recovery = await bench.begin()
        assert recovery.request("orders") is None
        with pytest.raises(FatalError, match=r'but its snapshot.method is "none"'):
            await recovery.notice(bench.source, LOST)

    run(work())


def test_the_same_loss_is_counted_once_and_its_gap_ends_when_it_was_last_noticed() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.gaps = {GAP.key: GAP}
        recovery = await bench.begin()
        bench.source.server_time = 2_000.0
        await recovery.notice(bench.source, LOST)
        (gap,) = bench.store.gaps.values()
        assert (gap.begin, gap.end, gap.noticed_at) == (900.0, 2_000.0, 5.0)
        assert not bench.metrics.registry.get_sample_value("dyncdc_gaps_total", {"table": "orders"})

    run(work())


def test_an_accepted_gap_stops_nothing_and_is_closed_by_a_later_snapshot_only() -> None:
    async def work() -> None:
        bench = Bench("stop")
        accepted = Gap("orders", "arn:given", "", 1.0, 500.0, accepted=True)
        bench.store.gaps = {accepted.key: accepted}
        recovery = await bench.begin()
        assert recovery.gaps("orders") == [] and not recovery.recovering(SOURCE)
        first = Snapshot("a", "orders", "complete", "uuid", "arn:given", 490.0, covered_from=500.0)
        await recovery.completed(first)
        assert bench.store.recovered == [], "this is the snapshot that left it"
        later = Snapshot("b", "orders", "complete", "uuid", "arn:new", covered_from=600.0, had_rows=True)
        await recovery.completed(later)
        assert bench.store.recovered == [accepted]

    run(work())


def test_a_gap_that_goes_on_while_a_snapshot_closes_it_stays_open() -> None:
    async def work() -> None:
        bench = Bench()
        recovery = await bench.begin()
        await recovery.notice(bench.source, LOST, 1_000.0)

        async def goes_on() -> None:
            bench.store.answer = None
            await recovery.notice(bench.source, LOST, 1_500.0)

        bench.store.answer = goes_on
        recovery.wanted("orders").clear()
        await recovery.completed(
            Snapshot("a", "orders", "complete", "uuid", "arn", covered_from=1_200.0, had_rows=True)
        )
        (gap,) = recovery.gaps("orders")
        assert gap.end >= 1_500.0 and recovery.wanted("orders").is_set()

    run(work())


def test_nothing_is_closed_by_a_snapshot_that_clickhouse_has_lost() -> None:
    """Catches: a server set back to a copy from before the snapshot, which is then told that its gap is recovered."""

    async def work() -> None:
        bench = Bench()
        recovery = await bench.begin()
        await recovery.notice(bench.source, LOST, 1_000.0)
        attempts = 0

        async def restored() -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                raise WentBackError("using ClickHouse: it went back")

        async def away() -> None:
            raise RetryableError("saving gaps: no answer")

        bench.checkpointer.ownership.still_alone, bench.store.answer = restored, away
        with pytest.raises(WentBackError):
            await recovery.completed(
                Snapshot("a", "orders", "complete", "uuid", "arn", covered_from=1_200.0, had_rows=True)
            )
        assert bench.store.recovered == [] and len(recovery.gaps("orders")) == 1

    run(work())


def test_a_request_is_seen_while_it_runs_and_not_again_once_it_is_done() -> None:
    async def work() -> None:
        bench = Bench()
        recovery = await bench.begin()
        request = Request("r", "orders", 1.0)
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(recovery.poll(), name="poll")
            await asyncio.sleep(REQUEST_POLL_SECONDS)
            bench.store.requests += [request, Request("x", "unknown", 1.0)]
            async with asyncio.timeout(REQUEST_POLL_SECONDS * 2):
                await recovery.wanted("orders").wait()
            assert recovery.request("orders") == request and recovery.request("unknown") is None
            recovery.wanted("orders").clear()
            await recovery.completed(Snapshot("a", "orders", "complete", "uuid", request="r"))
            bench.store.done.clear()  # a look that began before still shows it
            await asyncio.sleep(REQUEST_POLL_SECONDS * 2)
            assert recovery.request("orders") is None and not recovery.wanted("orders").is_set()
            polling.cancel()

    run(work())


def test_a_gap_that_a_replaced_process_makes_longer_before_it_ends_is_closed_by_another_snapshot() -> None:
    """Catches: a gap that stayed open, though its table was loaded again, until the next start found it."""

    async def work() -> None:
        bench = Bench()
        bench.store.gaps = {GAP.key: GAP}
        recovery = await bench.begin()
        longer = replace(GAP, end=1_010.0)
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(recovery.poll(), name="poll")
            await recovery.completed(Snapshot("a", "orders", "complete", "uuid", covered_from=1_005.0, had_rows=True))
            recovery.wanted("orders").clear()
            assert recovery.gaps("orders") == []
            bench.store.gaps = {longer.key: longer}
            async with asyncio.timeout(REQUEST_POLL_SECONDS * 2):
                await recovery.wanted("orders").wait()
            assert recovery.gaps("orders") == [longer]
            polling.cancel()

    run(work())


def test_a_gap_is_written_down_however_long_clickhouse_is_away() -> None:
    async def work() -> None:
        bench = Bench()
        recovery = await bench.begin()

        async def away() -> None:
            raise RetryableError("no answer")

        bench.store.answer = away
        async with asyncio.TaskGroup() as tasks:
            noticing = tasks.create_task(recovery.notice(bench.source, LOST), name="notice")
            await asyncio.sleep(1_000)
            assert not noticing.done() and bench.store.gaps == {}
            bench.store.answer = None
        assert len(bench.store.gaps) == 1

    run(work())


def test_k13_what_was_lost_between_two_lives_is_found_before_anything_is_read() -> None:
    async def work() -> None:
        old = SourceId("stream@0")
        bench = Bench(saved=(Checkpoint(old, ShardId("s"), mark(7, read_until=900.0), 1, 1),))
        bench.store.tables["orders"] = TableSource("orders", old, 1, 800.0)
        recovery = await bench.begin()
        (gap,) = bench.store.gaps.values()
        assert (gap.source, gap.shard, gap.position, gap.begin, gap.end) == (old, "s", "7", 900.0, 1_000.0)
        assert recovery.recovering(SOURCE) and recovery.gaps("orders") == [gap]
        assert bench.store.tables["orders"].source == SOURCE
        assert bench.store.tables["orders"].epoch == bench.checkpointer.ownership.epoch

    run(work())


def test_k13_under_stop_the_next_start_finds_it_again() -> None:
    async def work() -> None:
        bench = Bench("stop")
        bench.store.tables["orders"] = TableSource("orders", SourceId("stream@0"), 1, 800.0)
        for _ in range(2):
            with pytest.raises(FatalError, match="created again"):
                await bench.begin()
        assert len(bench.store.gaps) == 1 and bench.store.tables["orders"].source == "stream@0"

    run(work())


def test_c6_a_known_source_without_checkpoints_is_a_loss_and_never_a_fresh_start() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.tables["orders"] = TableSource("orders", SOURCE, 1, 800.0, held=True)
        recovery = await bench.begin()
        (gap,) = bench.store.gaps.values()
        assert "checkpoints" in gap.reason and recovery.recovering(SOURCE)

    run(work())


def test_c7_a_session_that_was_frozen_and_replaced_while_it_began_takes_nothing_for_lost() -> None:
    async def work() -> None:
        bench = Bench()
        await bench.checkpointer.load()  # before the successor had saved anything
        bench.store.tables["orders"] = TableSource(
            "orders", SOURCE, bench.checkpointer.ownership.epoch + 1, 800.0, held=True
        )
        await bench.recovery.begin([bench.source], NoSnapshots(), bench.checkpointer)
        assert not bench.store.gaps

    run(work())

"""Checkpointer: one insert for all, bookkeeping behind the write, and one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest
from support.pipeline.pipeline_parts import SOURCE, MemoryCheckpoints, checkpointer_of, mark, shard
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import HORIZON, ShardId
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.checkpoint.save_schedule import HEARTBEAT_SECONDS
from dyncdc.pipeline.recovery.rewind import HISTORY_SECONDS


def nothing() -> None:
    """Release nothing."""


def row(name: str, position: object, *, finished: bool = False, epoch: int = 1) -> Checkpoint:
    return Checkpoint(SOURCE, ShardId(name), mark(position, finished=finished), epoch, 1)


async def loaded(store: MemoryCheckpoints) -> Checkpointer:
    checkpointer = checkpointer_of(store)
    await checkpointer.load()
    return checkpointer


def test_all_shards_that_moved_are_saved_in_one_insert() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        one, two = (checkpointer.progress.open(shard(name), Mark(HORIZON)) for name in ("one", "two"))
        await checkpointer.save()
        assert len(store.saves) == 1 and {x.shard for x in store.saves[0]} == {"one", "two"}
        two.track(mark(7), 0, nothing)
        await checkpointer.save()
        assert [(x.shard, x.mark) for x in store.saves[1]] == [("two", mark(7))]
        await checkpointer.save()
        assert len(store.saves) == 2, "nothing moved"
        assert one.persisted == Mark(HORIZON)

    run(work())


def test_ranks_grow_with_every_save_and_start_above_everything_seen() -> None:
    async def work() -> None:
        store = MemoryCheckpoints([row("s", 1, epoch=10**18)])
        checkpointer = await loaded(store)
        assert checkpointer.ownership.epoch == 10**18 + 1
        ledger = checkpointer.progress.open(shard(), mark(1))
        for position in (2, 3):
            ledger.track(mark(position), 0, nothing)
            await checkpointer.save()
        assert [(x.epoch, x.ordinal) for save in store.saves for x in save] == [(10**18 + 1, 1), (10**18 + 1, 2)]
        assert (await loaded(MemoryCheckpoints())).ownership.epoch == 1_000 * 10**6

    run(work())


def test_a_save_that_fails_changes_nothing_here() -> None:
    async def fail() -> None:
        raise RetryableError("no answer")

    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), Mark(HORIZON))
        ledger.track(mark(5, finished=True), 0, nothing)
        store.answer = fail
        called: list[int] = []
        checkpointer.progress.on_saved(lambda: called.append(1))
        with pytest.raises(RetryableError):
            await checkpointer.save()
        assert ledger.persisted is None and not checkpointer.progress.finished(SOURCE) and called == []
        store.answer = None
        await checkpointer.save()
        assert checkpointer.progress.finished(SOURCE) == {"s"} and not checkpointer.progress.ledgers and called == [1]

    run(work())


def test_what_moves_during_a_save_is_saved_by_the_next() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), mark(1))

        async def moves() -> None:
            ledger.track(mark(9, finished=True), 0, nothing)
            await asyncio.sleep(0)

        store.answer = moves
        await checkpointer.save()
        assert ledger.persisted == mark(1) and not checkpointer.progress.finished(SOURCE)
        store.answer = None
        await checkpointer.save()
        assert checkpointer.progress.finished(SOURCE) == {"s"}
        assert [x.mark for save in store.saves for x in save] == [mark(1), mark(9, finished=True)]

    run(work())


@pytest.mark.parametrize("steps", range(8))
def test_a_save_cancelled_anywhere_leaves_the_books_as_they_were_or_complete(steps: int) -> None:
    async def wait() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def work() -> None:
        store = MemoryCheckpoints()
        store.answer = wait
        checkpointer = await loaded(store)
        ledgers = [checkpointer.progress.open(shard(name), mark(1, finished=name == "b")) for name in "ab"]
        task = asyncio.create_task(checkpointer.save(), name="save")
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if not store.saves:
            assert [ledger.persisted for ledger in ledgers] == [None, None] and not checkpointer.progress.finished(
                SOURCE
            )
        await checkpointer.save()
        assert ledgers[0].persisted == mark(1) and checkpointer.progress.finished(SOURCE) == {"b"}

    run(work())


def test_c8_another_process_with_a_higher_epoch_has_taken_over() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), mark(1))
        await checkpointer.save()
        store.rows.append(row("s", 5, epoch=checkpointer.ownership.epoch + 1))
        ledger.track(mark(2), 0, nothing)
        with pytest.raises(FatalError, match="took over"):
            await checkpointer.save()
        assert len(store.saves) == 1

    run(work())


def test_a_loaded_shard_counts_as_persisted_and_a_finished_one_stays_finished() -> None:
    async def work() -> None:
        store = MemoryCheckpoints([row("s", 5), row("f", 9, finished=True)])
        checkpointer = await loaded(store)
        assert checkpointer.progress.saved(SOURCE) == {"s": mark(5), "f": mark(9, finished=True)}
        assert checkpointer.progress.finished(SOURCE) == {"f"}
        assert checkpointer.progress.open(shard(), mark(5)).persisted == mark(5)
        assert checkpointer.progress.checkpointed(SOURCE)
        checkpointer.progress.open(shard("new"), Mark(HORIZON))
        assert not checkpointer.progress.checkpointed(SOURCE)

    run(work())


def test_an_idle_shard_gets_a_row_at_the_start_and_then_one_a_minute() -> None:
    async def work() -> None:
        store = MemoryCheckpoints([row("s", 5)])
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), mark(5))
        times: list[float] = []
        for second in range(200):
            ledger.track(mark(5, read_until=1_000.0 + second), 0, nothing)
            saves = len(store.saves)
            await checkpointer.save()
            if len(store.saves) > saves:
                times.append(second)
            await asyncio.sleep(1.0)
        assert times == [0, 60, 120, 180] and HEARTBEAT_SECONDS == 60.0

    run(work())


async def _run_for(checkpointer: Checkpointer, work: Callable[[], Coroutine[object, object, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(checkpointer.run(), name="checkpointer")
        await work()
        checkpointer.stop()


def test_the_first_row_and_the_end_of_a_shard_do_not_wait_for_the_interval() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = checkpointer_of(store, interval_seconds=50.0)
        await checkpointer.load()

        async def use() -> None:
            await asyncio.sleep(0.1)
            ledger = checkpointer.progress.open(shard(), Mark(HORIZON))
            await asyncio.sleep(0.1)
            assert len(store.saves) == 1
            ledger.track(mark(3), 0, nothing)
            await asyncio.sleep(1)
            assert len(store.saves) == 1
            ledger.track(mark(3, finished=True), 0, nothing)
            await asyncio.sleep(0.1)
            assert checkpointer.progress.finished(SOURCE) == {"s"}

        await _run_for(checkpointer, use)

    run(work())


def test_failed_saves_are_repeated_until_one_works() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        tries: list[int] = []

        async def fail() -> None:
            tries.append(1)
            if len(tries) < 5:
                raise RetryableError("no answer")

        async def use() -> None:
            store.answer = fail
            checkpointer.progress.open(shard(), Mark(HORIZON))
            await asyncio.sleep(20)
            assert len(tries) == 5 and len(store.saves) == 1

        await _run_for(checkpointer, use)

    run(work())


def test_stopping_ends_the_task_within_the_save_under_way() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)

        async def slow() -> None:
            await asyncio.sleep(2)

        async def use() -> None:
            store.answer = slow
            checkpointer.progress.open(shard(), Mark(HORIZON))
            await asyncio.sleep(0.1)

        async with asyncio.timeout(3):
            await _run_for(checkpointer, use)
        assert len(store.saves) == 1

    run(work())


def test_a_shard_that_ends_during_a_save_does_not_wait_for_the_next_interval() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = checkpointer_of(store, interval_seconds=50.0)
        await checkpointer.load()

        async def slow() -> None:
            await asyncio.sleep(1)

        async def use() -> None:
            store.answer = slow
            ledger = checkpointer.progress.open(shard(), Mark(HORIZON))
            await asyncio.sleep(0.5)
            ledger.track(mark(3, finished=True), 0, nothing)  # the first save is under way, without it
            await asyncio.sleep(2)
            assert checkpointer.progress.finished(SOURCE) == {"s"}

        await _run_for(checkpointer, use)

    run(work())


def test_a_save_that_clickhouse_has_forgotten_ends_the_session_before_the_next() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), mark(1))
        await checkpointer.save()
        ledger.track(mark(2), 0, nothing)
        await checkpointer.save()
        del store.rows[1:]
        ledger.track(mark(3), 0, nothing)
        with pytest.raises(WentBackError, match="gone"):
            await checkpointer.save()
        assert [x.mark.position for x in store.rows] == ["1"], "nothing is written over what is older"

    run(work())


def test_a_server_that_was_started_again_ends_the_session_before_the_next_save() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        checkpointer.progress.open(shard(), mark(1))
        store.of = replace(store.of, started_at=900.0)
        with pytest.raises(WentBackError, match="started again"):
            await checkpointer.save()
        assert not store.rows

    run(work())


def test_an_idle_process_looks_after_each_new_connection_and_only_then() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        checkpointer.progress.open(shard(), mark(1))
        await checkpointer.save()
        looks = store.looks
        for _ in range(3):
            await checkpointer.save()
        assert store.looks == looks, "nothing can have gone back"
        store.connects += 1
        await checkpointer.save()
        assert store.looks == looks + 1
        store.rows.clear()
        store.connects += 1
        with pytest.raises(WentBackError):
            await checkpointer.save()

    run(work())


def test_after_a_restart_of_the_server_a_finished_shard_is_reopened_and_read_again_until_it_is_saved() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        before = await loaded(store)
        ledger = before.progress.open(shard(), Mark(HORIZON))
        await before.save()
        ledger.track(mark(7, finished=True), 0, nothing)
        await before.save()
        store.now, store.of = 2_000.0, replace(store.of, started_at=1_500.0)
        after = checkpointer_of(store, replay_seconds=300.0)
        await after.load()
        assert after.progress.saved(SOURCE) == {"s": Mark(HORIZON)} and not after.progress.finished(SOURCE)
        ledger = after.progress.open(shard(), after.progress.saved(SOURCE)[ShardId("s")])
        assert not after.progress.checkpointed(SOURCE), "another process would not read it again yet"
        await after.peers.refresh([SOURCE])
        assert not after.progress.finished(SOURCE), "the row of before still says so"
        await after.save()
        assert (store.rows[-1].reopened, store.rows[-1].mark.position) == (True, HORIZON)
        assert after.progress.checkpointed(SOURCE)
        ledger.track(mark(7, finished=True), 0, nothing)
        await after.save()
        assert not store.rows[-1].reopened and after.progress.finished(SOURCE) == {"s"}
        again = checkpointer_of(store, replay_seconds=300.0)
        store.rows = store.rows[-1:]
        await again.load()
        assert not again.progress.rewind.marks, "once is enough"

    run(work())


def test_the_history_has_every_beginning_and_each_shard_once_a_minute_as_it_was_saved() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        checkpointer = await loaded(store)
        ledger = checkpointer.progress.open(shard(), mark(1))
        ledger.track(mark(2), 0, nothing)
        for position in range(3, 8):
            await checkpointer.save()
            ledger.track(mark(position), 0, nothing)
        assert [(x.mark, x.begins) for x in store.past_marks][:1] == [(mark(1), True)], (
            "where it began, not where it is"
        )
        before = len(store.past_marks)
        await asyncio.sleep(HISTORY_SECONDS)
        durable = ledger.persisted
        await checkpointer.save()
        assert [(x.mark, x.begins) for x in store.past_marks[before:]] == [(durable, False)]

    run(work())


def test_what_went_back_without_a_restart_is_read_again_as_after_one() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        before = await loaded(store)
        ledger = before.progress.open(shard(), mark(1))
        await before.save()
        store.now = 1_100.0
        ledger.track(mark(2), 0, nothing)
        await before.save()
        store.now = 1_200.0
        plain = checkpointer_of(store, replay_seconds=300.0)
        await plain.load()
        assert plain.progress.saved(SOURCE) == {"s": mark(2)}
        after = checkpointer_of(store, replay_seconds=300.0, went_back=True)
        await after.load()
        assert after.progress.saved(SOURCE) == {"s": mark(1)}
        ledger = after.progress.open(shard(), mark(1))
        await after.save()
        assert store.rows[-1].mark == mark(1), "the server itself was not started again: that ends no session"

    run(work())


async def saved_and_lost(store: MemoryCheckpoints) -> Checkpointer:
    """Save two positions of two shards, long apart; then the replicas lose the newest rows and nothing else tells."""
    before = await loaded(store)
    ledgers = [before.progress.open(shard(name), mark(1)) for name in ("one", "two")]
    await before.save()
    for number, now in ((2, 1_100.0), (3, 1_101.0)):
        store.now = now
        for ledger in ledgers:
            ledger.track(mark(number), 0, nothing)
        await before.save()
    store.rows = store.rows[:-2]
    store.now = 1_200.0
    return before


def test_whoever_starts_after_a_session_that_saw_clickhouse_go_back_reads_again_what_was_lost() -> None:
    """Catches: what only the memory of the process knows, which is killed before its next session has saved."""

    async def work() -> None:
        store = MemoryCheckpoints()
        before = await saved_and_lost(store)
        with pytest.raises(WentBackError):
            await before.ownership.check(())
        store.now = 1_500.0
        for _ in range(2):  # each is killed before its first save
            after = checkpointer_of(store, replay_seconds=300.0)
            await after.load()
            assert after.progress.saved(SOURCE) == {"one": mark(1), "two": mark(1)}
        after.progress.open(shard("one"), mark(1))
        await after.save()
        store.rows = [x for x in store.rows if x.shard == "two" or x == store.rows[-1]]
        store.now = 9_000.0
        last = checkpointer_of(store, replay_seconds=300.0)
        await last.load()
        assert last.progress.saved(SOURCE) == {"one": mark(1), "two": mark(1)}
        assert last.progress.rewind.marks.keys() == {(SOURCE, "two")}

    run(work())


def test_while_it_cannot_be_written_down_that_clickhouse_went_back_nothing_is_saved_and_the_session_goes_on() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        before = await saved_and_lost(store)
        store.note_answer = RetryableError("noting: no answer")
        with pytest.raises(RetryableError):
            await before.ownership.check(())
        store.note_answer = None
        with pytest.raises(WentBackError):
            await before.ownership.check(())
        assert [one.noticed_at for one in store.noted] == [1_200.0]

    run(work())


def test_where_the_table_for_it_is_gone_too_the_next_session_writes_down_that_clickhouse_went_back() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        before = await saved_and_lost(store)
        store.note_answer = FatalError("noting: no such table")
        with pytest.raises(WentBackError):
            await before.ownership.check(())
        store.note_answer = None
        await checkpointer_of(store, replay_seconds=300.0, went_back=True).load()
        killed = checkpointer_of(store, replay_seconds=300.0)
        await killed.load()
        assert killed.progress.saved(SOURCE) == {"one": mark(1), "two": mark(1)}

    run(work())


def test_what_one_member_saw_lost_takes_nothing_back_of_another() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        with pytest.raises(WentBackError):
            await (await saved_and_lost(store)).ownership.check(())
        store.noted = [replace(store.noted[0], member=1)]
        after = checkpointer_of(store, replay_seconds=300.0)
        await after.load()
        assert not after.progress.rewind.marks

    run(work())


def test_a_finished_shard_that_is_read_again_stays_so_though_its_row_of_before_is_seen_once_more() -> None:
    async def work() -> None:
        store = MemoryCheckpoints()
        before = await loaded(store)
        ledger = before.progress.open(shard(), Mark(HORIZON))
        ledger.track(mark(7, finished=True), 0, nothing)
        await before.save()
        store.now = 1_200.0
        after = checkpointer_of(store, replay_seconds=300.0, went_back=True)
        await after.load()
        await after.peers.load_again()
        assert not after.progress.finished(SOURCE)

    run(work())

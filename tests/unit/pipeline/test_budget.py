"""ByteBudget: first come first served, bounded, and nothing is lost when someone is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from support.pipeline.virtual_time import run

from dyncdc.pipeline.budget import ByteBudget, Reservation


def test_a_grant_is_given_back_once() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        reservation = await budget.reserve(7)
        assert budget.held_bytes == 7
        reservation.release()
        reservation.release()
        assert budget.held_bytes == 0

    run(work())


def test_who_asks_first_is_served_first_even_when_less_would_fit() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        first = await budget.reserve(6)
        order: list[int] = []

        async def want(nbytes: int) -> None:
            reservation = await budget.reserve(nbytes)
            order.append(nbytes)
            await asyncio.sleep(1)
            reservation.release()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(want(8))
            await asyncio.sleep(0)
            tasks.create_task(want(1))
            await asyncio.sleep(5)
            assert order == [] and budget.waiting == 2
            first.release()
        assert order == [8, 1]
        assert budget.held_bytes == 0

    run(work())


def test_more_than_the_capacity_is_cut_to_it() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        assert (await budget.reserve(1_000)).nbytes == 10

    run(work())


def test_overshoot_is_taken_at_once_counted_and_paid_back_before_the_next_grant() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        reservation = await budget.reserve(4)
        reservation.resize(25)
        assert (budget.held_bytes, budget.peak_bytes, budget.overshoot_bytes_total) == (25, 25, 15)
        reservation.resize(30)
        assert budget.overshoot_bytes_total == 20
        waiting = asyncio.create_task(budget.reserve(1), name="waiting")
        await asyncio.sleep(0)
        reservation.resize(10)
        await asyncio.sleep(0)
        assert not waiting.done()
        reservation.resize(9)
        assert (await waiting).nbytes == 1

    run(work())


def test_whoever_must_wait_is_announced_with_the_time_since_when() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        calls: list[int] = []
        budget.on_wait(lambda: calls.append(budget.waiting))
        first = await budget.reserve(10)
        assert budget.waiting_since() is None and calls == []
        waiting = asyncio.create_task(budget.reserve(1), name="waiting")
        await asyncio.sleep(0)
        since = budget.waiting_since()
        assert calls == [1] and since == pytest.approx(asyncio.get_running_loop().time(), abs=0.01)
        first.release()
        await waiting

    run(work())


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("when", ["queued", "granted", "behind another"])
def test_cancelling_a_wait_leaks_nothing(when: str, turns: int) -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        first = await budget.reserve(10)
        ahead = asyncio.create_task(budget.reserve(6), name="ahead") if when == "behind another" else None
        task = asyncio.create_task(budget.reserve(5), name="cancelled")
        await asyncio.sleep(0)
        if when == "granted":
            first.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Reservation):
            result.release()
        first.release()
        if ahead is not None:
            (await ahead).release()
        assert budget.held_bytes == 0 and budget.waiting == 0
        async with asyncio.timeout(1):
            assert (await budget.reserve(10)).nbytes == 10

    run(work())


def test_cancelling_a_large_request_lets_the_small_one_behind_it_through() -> None:
    async def work() -> None:
        budget = ByteBudget(10)
        await budget.reserve(5)
        large = asyncio.create_task(budget.reserve(9), name="large")
        await asyncio.sleep(0)
        small = asyncio.create_task(budget.reserve(5), name="small")
        await asyncio.sleep(0)
        large.cancel()
        async with asyncio.timeout(1):
            assert (await small).nbytes == 5

    run(work())

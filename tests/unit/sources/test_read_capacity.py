"""The budget of a scan, in virtual time, and how large its pages are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.pipeline.virtual_time import run

from dyncdc.sources.scan.read_capacity import (
    ITEM_MOST_UNITS,
    PAGE_MOST_ITEMS,
    RECOVERY_PER_SECOND,
    SLOWEST_SHARE,
    WAIT_MOST_SECONDS,
    PageSize,
    ReadCapacity,
    units_of,
)

RATE = 100.0


def in_virtual_time(check: Callable[[ReadCapacity], Awaitable[None]], rate: float = RATE) -> None:
    async def body() -> None:
        await check(ReadCapacity(rate, asyncio.get_running_loop().time))

    run(body())


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_rate_is_kept_and_used_up_whatever_the_page() -> None:
    async def check(capacity: ReadCapacity) -> None:
        taken = 0.0

        async def segment(units: float) -> None:
            nonlocal taken
            while now() < 20.0:
                if await capacity.admit(units):
                    taken += units
                    await asyncio.sleep(0.01)
                    assert taken <= RATE * (now() + 1.0) + 1e-6

        async with asyncio.TaskGroup() as group:
            for units in (0.5, 7.0, 25.0, 60.0):
                group.create_task(segment(units))
        assert taken >= RATE * 20.0 * 0.95

    in_virtual_time(check)


def test_every_segment_has_its_turn() -> None:
    async def check(capacity: ReadCapacity) -> None:
        turns = [0] * 5

        async def segment(number: int) -> None:
            while now() < 10.0:
                turns[number] += await capacity.admit(20.0)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(segment(number))
        assert max(turns) - min(turns) <= 1

    in_virtual_time(check)


def test_what_dynamodb_says_counts_in_place_of_the_guess() -> None:
    async def check(capacity: ReadCapacity) -> None:
        assert await capacity.admit(RATE)
        capacity.settle(RATE, 0.5)
        begun = now()
        assert await capacity.admit(RATE - 1.0)
        assert now() == begun, "what was not taken is there at once"
        capacity.settle(RATE - 1.0, RATE - 1.0 + 300.0)
        assert await capacity.admit(0.5)
        assert now() - begun == pytest.approx(3.0, abs=0.2), "what was taken beyond is waited for"

    in_virtual_time(check)


def test_what_others_give_back_is_seen_at_once() -> None:
    async def check(capacity: ReadCapacity) -> None:
        assert await capacity.admit(50.0)  # a guess, far beyond what the budget ever holds

        async def give_back() -> None:
            await asyncio.sleep(0.5)
            capacity.settle(50.0, 0.5)

        async with asyncio.TaskGroup() as group:
            group.create_task(give_back())
            assert await capacity.admit(0.5)
            assert now() < 1.0

    in_virtual_time(check, rate=1.0)


def test_a_wait_that_is_too_long_ends_with_nothing_charged() -> None:
    async def check(capacity: ReadCapacity) -> None:
        capacity.settle(0.0, 30.0)
        assert not await capacity.admit(1.0)
        assert now() == pytest.approx(WAIT_MOST_SECONDS, abs=0.2)
        assert not await capacity.admit(1.0)
        assert await capacity.admit(1.0), "29 units at 1 a second"
        assert now() == pytest.approx(30.0, abs=0.5)

    in_virtual_time(check, rate=1.0)


def test_a_cancelled_wait_lets_the_next_one_pass() -> None:
    async def check(capacity: ReadCapacity) -> None:
        capacity.settle(0.0, RATE * 3)
        first = asyncio.ensure_future(capacity.admit(1.0))
        second = asyncio.ensure_future(capacity.admit(1.0))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await second
        assert now() == pytest.approx(2.0, abs=0.2)

    in_virtual_time(check)


def test_throttling_halves_the_rate_once_and_it_comes_back_slowly() -> None:
    async def check(capacity: ReadCapacity) -> None:
        for _ in range(4):  # four segments are told at the same time
            capacity.throttled()
        assert capacity.units_per_second == pytest.approx(RATE / 2, rel=0.01)
        await asyncio.sleep(5.0)
        assert capacity.units_per_second == pytest.approx(RATE * (0.5 + 5 * RECOVERY_PER_SECOND), rel=0.01)
        await asyncio.sleep(60.0)
        assert capacity.units_per_second == RATE
        for _ in range(50):
            capacity.throttled()
            await asyncio.sleep(1.1)
        assert capacity.units_per_second < RATE / 10
        assert capacity.units_per_second >= RATE * SLOWEST_SHARE
        assert await capacity.admit(1.0)

    in_virtual_time(check)


def test_the_first_page_is_one_item_of_the_largest_kind() -> None:
    size = PageSize()
    assert (size.limit(32 * 1024, 50.0), size.units(1)) == (1, ITEM_MOST_UNITS)
    assert size.limit(32 * 1024, 0.1) == 1, "always one"


def test_pages_grow_to_what_is_wanted_and_shrink_at_once() -> None:
    size = PageSize()
    for _ in range(60):
        asked = size.limit(100_000, 50.0)
        size.answered(asked, asked * 500, units_of(asked * 250))
    assert 190 <= asked <= 200, "bytes in memory are the bound"
    for _ in range(60):
        asked = size.limit(10**9, 10.0)
        size.answered(asked, asked * 500, units_of(asked * 250))
    assert 300 <= asked <= 330, "units are"
    size.answered(10, 10 * 50_000, units_of(10 * 50_000))
    assert size.limit(100_000, 1000.0) == 2
    size.answered(0, 0, 0.5)
    assert size.limit(100_000, 1000.0) == 2, "an empty page says nothing"
    for _ in range(200):
        size.answered(1000, 1000, 0.5)
    assert size.limit(10**12, 10**12) == PAGE_MOST_ITEMS


@pytest.mark.parametrize(
    ("nbytes", "units"), [(0, 0.5), (1, 0.5), (4096, 0.5), (4097, 1.0), (8192, 1.0), (2**20, 128.0)]
)
def test_a_unit_is_two_times_4_kb(nbytes: int, units: float) -> None:
    assert units_of(nbytes) == units

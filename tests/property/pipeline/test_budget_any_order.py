"""ByteBudget: whatever is asked, resized, released and cancelled, held is the sum of what sessions."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from support.pipeline.virtual_time import run

from dyncdc.pipeline.budget import ByteBudget, Reservation

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "resize", "release", "cancel", "turn"]), st.integers(0, 30), st.integers(0, 9)
    ),
    max_size=40,
)


@given(STEPS)
def test_held_is_always_the_sum_of_living_reservations(steps: list[tuple[str, int, int]]) -> None:
    async def work() -> None:
        budget = ByteBudget(20)
        asked: list[asyncio.Task[Reservation]] = []

        def living() -> list[Reservation]:
            return [task.result() for task in asked if task.done() and not task.cancelled()]

        for action, nbytes, choice in steps:
            if action == "reserve":
                asked.append(asyncio.create_task(budget.reserve(nbytes), name="asks"))
            elif action == "cancel" and asked:
                asked[choice % len(asked)].cancel()
            elif action in ("resize", "release") and (mine := [x for x in living() if x.nbytes]):
                reservation = mine[choice % len(mine)]
                reservation.release() if action == "release" else reservation.resize(nbytes)
            for _ in range(3):
                await asyncio.sleep(0)
            assert budget.held_bytes == sum(reservation.nbytes for reservation in living())
            assert budget.held_bytes <= budget.capacity_bytes + budget.overshoot_bytes_total
        for _ in range(len(asked) + 1):
            for reservation in living():
                reservation.release()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert budget.held_bytes == 0 and budget.waiting == 0
        assert all(task.done() for task in asked)

    run(work())

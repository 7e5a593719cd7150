"""Stragglers: who was cancelled and goes on is cancelled again; no one else is."""

from __future__ import annotations

import asyncio

import pytest
from support.pipeline.virtual_time import run

from dyncdc.app.process import cancellation
from dyncdc.app.process.cancellation import GRACE_SECONDS, LOOK_SECONDS, cancel_remaining_tasks
from dyncdc.errors import FatalError
from dyncdc.pipeline.runtime import root_cause


async def beside_stragglers(work: asyncio.Task[None]) -> None:
    """As the daemon does it: until ``work`` ends."""
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(cancel_remaining_tasks(work), name="cancellation")
        work.add_done_callback(lambda _: watch.cancel())
        await asyncio.wait({work})


def test_c7_a_daemon_that_was_replaced_ends_and_says_so_though_a_task_has_swallowed_its_cancellation() -> None:
    async def deaf() -> None:
        """As a task whose library swallows the first cancellation: it goes on with its rounds."""
        heard = 0
        while True:
            try:
                await asyncio.sleep(1.0)
            except asyncio.CancelledError:
                heard += 1
                if heard == 2:
                    raise

    async def session() -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(asyncio.sleep(10**6), name="obedient")
            async with asyncio.TaskGroup() as inner:
                inner.create_task(deaf(), name="deaf")
                await asyncio.sleep(3.0)
                raise FatalError("another process took over")

    async def work() -> None:
        living = asyncio.create_task(session(), name="daemon")
        await beside_stragglers(living)
        error = living.exception()
        assert error is not None and "took over" in str(root_cause(error))
        assert asyncio.get_running_loop().time() < 3.0 + GRACE_SECONDS + 2 * LOOK_SECONDS

    run(work())


class _Expiring:
    """A task with a time limit that expires in the turn of the loop in which someone looks."""

    def __init__(self) -> None:
        self.looked_at = 0.0
        self.cancelled = False

    def cancelling(self) -> int:
        now = asyncio.get_running_loop().time()
        before, self.looked_at = self.looked_at, now
        return int(now - before > LOOK_SECONDS / 2)

    def done(self) -> bool:
        return False

    def get_name(self) -> str:
        return "expiring"

    def get_stack(self, *, limit: int | None = None) -> list[object]:
        return []

    def cancel(self) -> None:
        self.cancelled = True


def test_a_task_whose_time_limits_expire_at_each_look_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a member that is never seen again, since its pauses were as long as those between two looks."""
    task = _Expiring()

    async def work() -> None:
        monkeypatch.setattr(cancellation.asyncio, "all_tasks", lambda: {task})
        monkeypatch.setattr(cancellation, "stack_of", lambda _: [])
        living = asyncio.create_task(asyncio.sleep(10 * LOOK_SECONDS), name="daemon")
        watch = asyncio.create_task(cancel_remaining_tasks(living))
        await living
        watch.cancel()
        await asyncio.wait({watch})
        monkeypatch.undo()

    run(work())
    assert not task.cancelled


def test_a_clean_up_within_its_time_is_not_cut_short() -> None:
    async def work() -> None:
        cleaned = []

        async def tidy() -> None:
            try:
                await asyncio.sleep(10**6)
            finally:
                await asyncio.sleep(GRACE_SECONDS - 0.1)
                cleaned.append(True)

        async def session() -> None:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(tidy(), name="tidy")
                await asyncio.sleep(0.5)
                task.cancel()

        await beside_stragglers(asyncio.create_task(session(), name="daemon"))
        assert cleaned == [True]

    run(work())


def test_what_the_daemon_itself_does_after_its_cancellation_is_not_cut_short() -> None:
    async def work() -> None:
        async def session() -> None:
            try:
                await asyncio.sleep(10**6)
            finally:
                await asyncio.sleep(100.0)

        living = asyncio.create_task(session(), name="daemon")
        asyncio.get_running_loop().call_later(1.0, living.cancel)
        await beside_stragglers(living)
        assert asyncio.get_running_loop().time() >= 101.0

    run(work())


@pytest.mark.parametrize("seconds", [LOOK_SECONDS, LOOK_SECONDS / 2])
def test_time_limits_that_expire_whenever_it_looks_are_no_cancellations(seconds: float) -> None:
    async def work() -> None:
        async def session() -> None:
            for _ in range(50):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await asyncio.sleep(10**6)

        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(5):
                    tasks.create_task(session(), name=f"session:{number}")

        living = asyncio.create_task(main(), name="daemon")
        await beside_stragglers(living)
        assert living.exception() is None

    run(work())

"""Endings: what follows a session of a process in a simulation of members, and by what a process may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from dyncdc.errors import FatalError
from dyncdc.pipeline.members.sessions import AnotherBegunError
from simulation.process_run import Life, Violation
from simulation.simulate import Simulation

REOPEN_SECONDS = 2.0
"""Between two sessions of a process, as in the daemon."""


class Running(Protocol):
    """One process."""

    @property
    def label(self) -> str: ...

    @property
    def session(self) -> Life: ...

    @property
    def task(self) -> asyncio.Task[None]: ...


AnyProcess = TypeVar("AnyProcess", bound=Running)


async def run_sessions(simulation: Simulation, run_one: Callable[[], Awaitable[None]]) -> None:
    """Run sessions as the daemon does: another one where another process had begun while this one was starting."""
    while True:
        try:
            return await run_one()
        except AnotherBegunError:
            simulation.counted["another had begun"] += 1
            await asyncio.sleep(REOPEN_SECONDS)


def check_endings(
    simulation: Simulation, processes: Iterable[AnyProcess], may_say: Callable[[AnyProcess, str], bool]
) -> None:
    """Raise what any process has violated, and what one has ended by that it must not.

    ``may_say``: whether a process may end with a FatalError of this text.
    """
    if simulation.violations:
        raise Violation(simulation.violations[0])
    for one in processes:
        if one.session.dead or not one.task.done():
            continue
        error = None if one.task.cancelled() else one.task.exception()
        text = str(error)
        excused = isinstance(error, FatalError) and (
            may_say(one, text) or (text.startswith("draining") and bool(simulation.faults.outages))
        )
        if error is not None and not excused:
            raise Violation(f"{one.label} ended by {error!r}") from error

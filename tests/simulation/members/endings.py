"""Endings: by what a process of a simulation of members may end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from dyncdc.errors import FatalError
from simulation.process_run import Life, Violation
from simulation.simulate import Simulation


class Running(Protocol):
    """One process."""

    @property
    def label(self) -> str: ...

    @property
    def session(self) -> Life: ...

    @property
    def task(self) -> asyncio.Task[None]: ...


AnyProcess = TypeVar("AnyProcess", bound=Running)


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

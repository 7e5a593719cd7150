"""Cancel tasks again that ignored a cancellation: a library that swallows one must not keep the process alive.

Waiting for such a task never ends: the daemon would neither work nor exit, and look healthy.
"""

from __future__ import annotations

import asyncio

import structlog

from dyncdc.telemetry.task_health import stack_of

GRACE_SECONDS = 5.0
"""After its cancellation, before a task is cancelled again. Every clean-up of ours is shorter."""

LOOK_SECONDS = 2.0

TURN_SECONDS = 0.1
"""A time limit that expires looks like a cancellation for one turn of the loop, and may do so at every look where it
is as long as the pause between two."""

_log = structlog.get_logger("dyncdc")


async def cancel_remaining_tasks(main: asyncio.Task[None]) -> None:
    """Re-cancel tasks that ignored a cancellation, until this one is cancelled itself.

    ``main`` is left alone: it waits for the others, and what it does after that is not to be cut short.
    """
    loop = asyncio.get_running_loop()
    asked: dict[asyncio.Task[object], float] = {}
    told: set[asyncio.Task[object]] = set()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = loop.time()
        seen = [task for task in asyncio.all_tasks() if task is not main and task.cancelling()]
        if seen:
            await asyncio.sleep(TURN_SECONDS)
        asked = {task: asked.get(task, now) for task in seen if task.cancelling() and not task.done()}
        told &= asked.keys()
        for task, since in asked.items():
            if now - since < GRACE_SECONDS:
                continue
            if task not in told:
                told.add(task)
                _log.error("task ignored cancellation", task=task.get_name(), hangs_in=stack_of(task))
            task.cancel()

"""Watchdog of a worker: kills one that no longer answers, so that its supervisor starts it again.

It asks for ``/livez`` only, which answers while the event loop turns: an outage of ClickHouse or AWS kills no one.
"""

from __future__ import annotations

import asyncio

import structlog

from .http import Answers
from .worker import Worker

LEAST_SILENCE_SECONDS = 10.0
"""However small ``run.stuck_after_seconds`` is: a machine that is short of CPU time must not lose its workers too."""

START_SECONDS = 120.0
"""Until the first answer of a worker: it loads its modules before it can say anything."""

DUMP_SECONDS = 2.0
"""More than the worker itself allows its loop, so that it has written down where it hangs."""

POLL_SECONDS = 1.0

_log = structlog.get_logger("dyncdc")


async def kill_unresponsive(answers: Answers, worker: Worker, stuck_after_seconds: float) -> None:
    """Return when the worker's loop has not answered for so long that only a new process can help."""
    loop = asyncio.get_running_loop()
    limit_seconds = max(stuck_after_seconds, LEAST_SILENCE_SECONDS) + DUMP_SECONDS
    started_at = loop.time()
    while True:
        before = loop.time()
        await answers.ask_one(worker, "/livez")
        # Others ask as well: a worker that freezes right after its start may have answered them alone.
        heard_at = max(started_at, answers.heard_at(worker))
        allowed_seconds = limit_seconds if heard_at > started_at else max(limit_seconds, START_SECONDS)
        if before - heard_at > allowed_seconds:
            _log.error("worker unresponsive", worker=worker.number, seconds=round(before - heard_at))
            return
        await asyncio.sleep(POLL_SECONDS)

"""The guard of a worker: a worker that froze before the guard itself had heard of it is one that answered before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from dyncdc.app.workers import watchdog
from dyncdc.app.workers.http import Answers
from dyncdc.app.workers.watchdog import kill_unresponsive


@dataclass(frozen=True)
class Worker:
    socket: Path
    number: int = 0
    absence: str = ""


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the time that a worker is given to start."""
    for name in ("LEAST_SILENCE_SECONDS", "DUMP_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(watchdog, name, 0.05)


async def answer_once(worker: Worker, answers: Answers) -> None:
    """Be a worker that says that it is ready, to someone else than its guard, and is gone."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready")

    application = web.Application()
    application.add_routes([web.get("/readyz", ready)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(worker.socket)).start()
    assert await answers.ask_one(worker, "/readyz") == (200, "ready")
    await runner.cleanup()


async def test_a_worker_that_answered_someone_else_is_silent_when_it_answers_no_more(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "socket")
    answers = Answers([worker])
    guard = asyncio.create_task(kill_unresponsive(answers, worker, 0.1))
    await asyncio.sleep(0.2)
    assert not guard.done(), "it is still loading its modules"
    await answer_once(worker, answers)
    await asyncio.wait_for(guard, 20)


async def test_what_the_process_before_answered_tells_nothing_of_the_next(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "socket")
    answers = Answers([worker])
    await answer_once(worker, answers)
    guard = asyncio.create_task(kill_unresponsive(answers, worker, 0.1))
    await asyncio.sleep(1.0)
    assert not guard.done(), "it is still loading its modules"
    guard.cancel()

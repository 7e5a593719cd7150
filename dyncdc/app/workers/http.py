"""The pages of a daemon with workers: each is asked over its own socket, and the answers become one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import aiohttp
from aiohttp import web

from dyncdc.telemetry.http import METRICS_TYPE
from dyncdc.telemetry.http_guard import CachedAnswer
from dyncdc.telemetry.status import DaemonStatus, StatusBuilder, add_page, merge_statuses
from dyncdc.telemetry.status.model import decode
from dyncdc.telemetry.task_health import TaskHealth
from dyncdc.telemetry.worker_metrics import MergedMetrics

from .worker import Worker

ASK_SECONDS = 2.0


class Answers:
    """Asks workers. ``None`` where one does not answer in time."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self._heard: dict[int, float] = {}

    def heard_at(self, worker: Worker) -> float:
        """Loop time of a worker's last answer to any caller; 0 before the first."""
        return self._heard.get(worker.number, 0.0)

    async def ask(self, path: str) -> Mapping[int, tuple[int, str] | None]:
        """Status and text of a page, by worker."""
        answers = await asyncio.gather(*(self.ask_one(worker, path) for worker in self.workers))
        return {worker.number: answer for worker, answer in zip(self.workers, answers, strict=True)}

    async def ask_one(self, worker: Worker, path: str) -> tuple[int, str] | None:
        """Status and text of a page of one worker."""
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            connector = aiohttp.UnixConnector(str(worker.socket))
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                async with session.get(f"http://worker{path}") as answer:
                    told = answer.status, await answer.text()
        except (OSError, TimeoutError, aiohttp.ClientError):
            return None
        self._heard[worker.number] = asyncio.get_running_loop().time()
        return told


class WorkerPages:
    """The combined pages of all workers."""

    def __init__(
        self, answers: Answers, merged: MergedMetrics, overview: StatusBuilder, restarts: Callable[[], int]
    ) -> None:
        self._answers = answers
        self._overview = overview
        self._merged = merged
        self._starting: TaskHealth | None = None
        self._kept = CachedAnswer(self._render)
        self._restarts = restarts

    def watch_start(self, health: TaskHealth) -> None:
        """Answer with what the supervisor itself does first."""
        self._starting = health

    def started(self) -> None:
        """Answer with what the workers say from now on."""
        self._starting = None

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application()
        routes = {"/metrics": self._metrics, "/livez": self._livez, "/healthz": self._healthz}
        application.add_routes([web.get(path, page) for path, page in routes.items()])
        application.add_routes([web.get("/readyz", self._readyz)])
        add_page(application, self._document)
        return application

    async def _document(self) -> DaemonStatus:
        answers = await self._answers.ask("/status.json")
        told = []
        for worker in self._answers.workers:
            answer = answers[worker.number]
            document = decode(answer[1]) if answer is not None and answer[0] == 200 else None
            told.append((worker.number, worker.absence, document))
        return merge_statuses(self._overview.document(), told, self._restarts())

    async def _render(self) -> bytes:
        """One at a time: an older page must not follow a younger one, counters would fall."""
        before = self._merged.deaths()
        answers = await self._answers.ask("/metrics")
        after = self._merged.deaths()
        texts = {
            number: answer[1]
            for number, answer in answers.items()
            if answer is not None and before[number] == after[number]
        }
        body: bytes = self._merged.render(texts, len(self._answers.workers), self._restarts())
        return body

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=await self._kept.get(), headers={"Content-Type": METRICS_TYPE})

    async def _livez(self, _: web.Request) -> web.Response:
        """This process's own loop turns. A worker whose loop does not is killed and started again, and so are the dead:
        to restart all for the sake of one would help no one.
        """
        return web.Response(text="live\n")

    async def _healthz(self, request: web.Request) -> web.Response:
        lines = await self.unhealthy()
        status = 503 if lines else 200
        if "application/json" in request.headers.get("Accept", ""):
            document = {"status": "stuck" if lines else "healthy", "stuck": [{"task": line} for line in lines]}
            return web.json_response(document, status=status)
        return web.Response(text="".join(f"{line}\n" for line in lines) or "healthy\n", status=status)

    async def unhealthy(self) -> list[str]:
        """What is stuck, on a line each."""
        if self._starting is not None:
            return [str(task) for task in self._starting.stuck()]
        answers = await self._answers.ask("/healthz")
        lines: list[str] = []
        for worker in self._answers.workers:
            answer = answers[worker.number]
            if worker.absence:
                lines.append(f"worker {worker.number}: {worker.absence}")
            elif answer is None:
                lines.append(f"worker {worker.number}: does not answer")
            elif answer[0] != 200:
                lines += [f"worker {worker.number}: {line}" for line in answer[1].splitlines()]
        return lines

    async def missing(self) -> list[str]:
        """What must still be done before all workers are ready, on a line each."""
        if self._starting is not None:
            return ["not yet: destinations checked"]
        lines: list[str] = []
        for number, answer in (await self._answers.ask("/readyz")).items():
            if answer is None:
                lines.append(f"worker {number}: not yet: started")
            elif answer[0] != 200:
                lines += [f"worker {number}: {line}" for line in answer[1].splitlines()]
        return lines

    async def _readyz(self, _: web.Request) -> web.Response:
        lines = await self.missing()
        return web.Response(text="".join(f"{line}\n" for line in lines) or "ready\n", status=503 if lines else 200)

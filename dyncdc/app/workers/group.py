"""WorkerGroup: keeps all workers running, each started again when it dies, until one or all must end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from dyncdc.app.run_options import RunOptions
from dyncdc.config import Config
from dyncdc.pipeline.runtime import Backoff
from dyncdc.telemetry.worker_metrics import MergedMetrics

from .environment import worker_environment
from .http import Answers
from .watchdog import kill_unresponsive
from .worker import Worker

_log = structlog.get_logger("dyncdc")

LONG_RUN_SECONDS = 60.0
"""A worker that ran so long is started again at once; one that dies sooner waits longer each time."""

GRACE_SECONDS = 5.0
"""Beyond its own deadline, before a worker that does not end is killed."""

DRAINED = (0, -signal.SIGTERM)
"""A worker that had no handler for SIGTERM yet had nothing to drain either."""

ENDS_ALL = (1, 2)


class WorkerGroup:
    """The workers of one daemon, which share its part of the pipeline and its memory."""

    def __init__(self, config: Config, arguments: Sequence[str], options: RunOptions, directory: Path) -> None:
        count = config.limits.workers
        self._run = config.run
        self._memory_bytes = config.limits.memory_bytes // count
        self._arguments = arguments
        self._options = options
        self._ending = asyncio.Event()
        """No worker is started any more."""
        self.workers = [
            Worker(number, options.assignment.part(number, count), directory / f"{number}.sock")
            for number in range(count)
        ]
        self.answers = Answers(self.workers)
        self.merged = MergedMetrics()
        self.began = float("inf")
        """When the run with ``once`` began, by ClickHouse's clock."""
        self.exit_code = 0
        self.restarts = 0

    def send(self, number: signal.Signals) -> None:
        """Signal all that run."""
        for worker in self.workers:
            worker.send(number)

    def end(self, number: signal.Signals) -> None:
        """Start no worker any more, and signal those that run; after their own deadline they are killed."""
        if not self._ending.is_set():
            seconds = self._run.shutdown_seconds + GRACE_SECONDS
            asyncio.get_running_loop().call_later(seconds, self.end, signal.SIGKILL)
        self._ending.set()
        self.send(number)

    async def keep(self, worker: Worker) -> None:
        """Keep one worker running until all is done, or must end."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=1.0, ceiling_seconds=30.0)
        while not self._ending.is_set():
            born = loop.time()
            code = await self._run_worker(worker)
            self.merged.died(worker.number)
            worker.absence = f"ended with {code}"
            if code in ENDS_ALL:
                self.exit_code = self.exit_code or code
                self.end(signal.SIGTERM)
                return
            if self._ending.is_set():
                self.exit_code = self.exit_code or (0 if code in DRAINED else 1)
                return
            if self._options.once and code == 0:
                return
            if loop.time() - born > LONG_RUN_SECONDS:
                backoff.reset()
            pause_seconds = backoff.next_seconds()
            self.restarts += 1
            _log.error("worker died", worker=worker.number, exit_code=code, pause_seconds=round(pause_seconds, 3))
            worker.absence += ", is started again"
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._ending.wait()

    async def _run_worker(self, worker: Worker) -> int:
        """Start a worker and wait for its end; return its exit code, negative for a signal."""
        worker.socket.unlink(missing_ok=True)
        arguments = [
            *self._arguments,
            *(("--take-over",) if self._options.take_over and worker.process is None else ()),
        ]
        assignment = str(worker.assignment)
        # A session of its own: Ctrl-C on the terminal is for us, and we pass it on.
        process = worker.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "dyncdc", "run", "--member", assignment, "--worker", str(worker.socket), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            env=worker_environment(self._memory_bytes, self.began if self._options.once else None),
            start_new_session=True,
        )
        worker.absence = ""
        _log.info("worker started", worker=worker.number, member=assignment, pid=process.pid)
        if self._ending.is_set():
            worker.send(signal.SIGTERM)
        async with asyncio.TaskGroup() as tasks:
            guard = tasks.create_task(self._guard(worker), name=f"guard:{worker.number}")
            code = await process.wait()
            guard.cancel()
        return code

    async def _guard(self, worker: Worker) -> None:
        """Kill a worker whose loop stands still: it cannot even drain. What it had not saved is read again."""
        await kill_unresponsive(self.answers, worker, self._run.stuck_after_seconds)
        if not self._ending.is_set():  # who ends has a deadline of its own
            worker.send(signal.SIGKILL)

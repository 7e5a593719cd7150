"""``limits.workers``: a supervisor of processes on this machine, each a member of the pipeline. It moves no data.

It checks the configuration and makes the tables once, before the first worker; then it starts workers, starts a dead
or silent one again, passes signals on, and answers for all. A worker that ends on purpose (exit 1 or 2) ends them all:
what it says would be true for the one in its place too.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import structlog

from dyncdc import __version__
from dyncdc.app.assembly.assembly import assemble_first
from dyncdc.app.context import AppContext, open_context
from dyncdc.app.process.signals import SIGNAL_BASE, Stop
from dyncdc.app.reload import reload, try_out
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.app.status_feed import asking_clickhouse, make_status_builder, table_facts
from dyncdc.config import Config
from dyncdc.config.sections import MINIMUM_MEMORY_BYTES
from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.pipeline.runtime import Backoff, ungrouped
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.telemetry.http import serve_http
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.systemd import READY, STOPPING, feed_watchdog, notify
from dyncdc.telemetry.task_health import TaskHealth
from dyncdc.telemetry.worker_metrics import MergedMetrics

from .http import Answers, WorkerPages
from .watchdog import kill_unresponsive
from .worker import Worker

_log = structlog.get_logger("dyncdc")

SUPERVISOR = "DYNCDC_SUPERVISOR"
"""Environment variable of a worker: process id of its supervisor."""

RUN_BEGAN = "DYNCDC_RUN_BEGAN"
"""Environment variable of a worker with ``--once``: when the run began, in seconds by ClickHouse's clock."""

DESTINATIONS_CHECKED = "destinations checked"
PR_SET_PDEATHSIG = 1
LONG_LIFE_SECONDS = 60.0
"""Who lived so long is started again at once; who dies sooner waits longer each time."""

READY_POLL_SECONDS = 0.25
REASSEMBLE_SECONDS = 2.0
GRACE_SECONDS = 5.0
"""Beyond its own deadline, before a worker that does not end is killed."""

CUT_SECONDS = 2.0
DRAINED = (0, -signal.SIGTERM)
"""A worker that had no handler for SIGTERM yet had nothing to drain either."""

ENDS_ALL = (1, 2)
OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "DYNCDC_MEMBER")
"""Environment variables that are not for workers: only the supervisor talks to systemd."""


def be_worker() -> float:
    """Die with the supervisor, however that ends; return when its run with ``--once`` began, by ClickHouse's clock.

    In a worker, first of all. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(SUPERVISOR, str(os.getppid())) != str(os.getppid()):
        raise FatalError("starting a worker: its supervisor has ended")
    return float(os.environ.get(RUN_BEGAN, "inf"))


async def run_workers(config: Config, arguments: Sequence[str], options: RunOptions) -> int:
    """Supervise until a signal, or with ``once`` until all workers are done; return the exit code.

    The workers share the part of ``options.assignment``. ``arguments``: of ``dyncdc run``, for each worker; with
    ``take_over``, the first start of each waits for no other process. Raises ConfigError, FatalError. Only in the main
    thread: it takes SIGTERM and SIGINT over.
    """
    if config.limits.memory_bytes // config.limits.workers < MINIMUM_MEMORY_BYTES:
        raise ConfigError(
            f"sharing limits.memory_bytes among {config.limits.workers} workers: each would have less than"
            f" {MINIMUM_MEMORY_BYTES:,} bytes",
            hint="raise limits.memory_bytes, or lower limits.workers",
        )
    stop = Stop()
    stop.listen()
    if options.read is not None:
        stop.listen_for_reload()
    with tempfile.TemporaryDirectory(prefix="dyncdc-") as directory:
        supervisor = _Supervisor(config, arguments, options, stop, Path(directory))
        with ungrouped():
            return await supervisor.run()


class _Supervisor:
    """All workers of one daemon. Whatever way it ends, none of them is left."""

    def __init__(
        self, config: Config, arguments: Sequence[str], options: RunOptions, stop: Stop, directory: Path
    ) -> None:
        self._config = config
        self._arguments = arguments
        self._options = options
        self._stop = stop
        assignment = options.assignment
        count = config.limits.workers
        self._workers = [
            Worker(number, assignment.part(number, count), directory / f"{number}.sock") for number in range(count)
        ]
        self._merged = MergedMetrics()
        self._health = TaskHealth(stuck_after_seconds=config.run.stuck_after_seconds)
        self._missing = [DESTINATIONS_CHECKED]
        self._overview = make_status_builder(config, assignment, Metrics(), self._health, self._missing)
        self._answers = Answers(self._workers)
        self._pages = WorkerPages(self._answers, self._merged, self._overview)
        self._began = float("inf")
        self._code = 0
        self._supervising = False
        self._ending = asyncio.Event()
        """No worker is started any more."""

    async def run(self) -> int:
        """Serve, prepare, supervise; return the exit code."""
        http = self._config.http
        listen = http.listen
        self._overview.troubles.listen()
        async with serve_http((listen.host, listen.port), self._pages.application(), http.allowed_hosts) as port:
            _log.info(
                "started",
                version=__version__,
                pipeline=self._config.pipeline,
                workers=len(self._workers),
                http_port=port,
            )
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(self._work(), name="workers")
                helpers = [
                    tasks.create_task(feed_watchdog(), name="watchdog"),
                    tasks.create_task(self._pass_on(work), name="signals"),
                ]
                work.add_done_callback(lambda _: [helper.cancel() for helper in helpers])
        _log.info("stopped")
        return SIGNAL_BASE + self._stop.signal_number if self._stop.aborting.is_set() else self._code

    async def _work(self) -> None:
        health = self._health
        with ExitStack() as starting:
            task = starting.enter_context(health.task("start"))
            startup_retry = StartupRetry(
                self._config.run.startup_timeout_seconds if self._options.once else None, health, task
            )
            self._pages.watch_start(health)
            # Held for as long as workers run: a local ClickHouse is ours, and theirs to use.
            async with open_context(self._config, startup_retry, own=True) as context:
                await self._assemble(context)
                if self._options.once:  # who takes the place of a dead worker must know who has done its part before
                    checkpoints = ClickHouseCheckpoints(context.clickhouse, self._config.pipeline)
                    self._began = await startup_retry(checkpoints.server_time)
                starting.close()
                self._supervising = True
                self._missing.clear()
                self._pages.started()
                async with asking_clickhouse(context.clickhouse, lambda: self._config, self._overview.stored):
                    await self._supervise(context)

    async def _assemble(self, context: AppContext) -> None:
        """See that workers can begin, and make what they need; wait while no table at all can be used."""
        while True:
            try:
                await assemble_first(context, once=self._options.once)
            except RetryableError as error:
                if self._options.once:
                    raise
                context.retry.task.failed(str(error))
                self._health.log_retry("start", error, REASSEMBLE_SECONDS)
                await asyncio.sleep(REASSEMBLE_SECONDS)
            else:
                return

    async def _supervise(self, context: AppContext) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._tell_ready(), name="ready"),
                    tasks.create_task(self._reload(context), name="reload"),
                ]
                keeping = [
                    tasks.create_task(self._keep(worker), name=f"worker:{worker.number}") for worker in self._workers
                ]
                await asyncio.wait(keeping)
                for task in beside:
                    task.cancel()
        finally:
            for worker in self._workers:
                worker.send(signal.SIGKILL)

    async def _tell_ready(self) -> None:
        while await self._pages.missing():  # noqa: ASYNC110 - only the workers know
            await asyncio.sleep(READY_POLL_SECONDS)
        notify(READY)
        _log.info("ready")

    async def _reload(self, context: AppContext) -> None:
        """At each SIGHUP read the configuration, and let the workers do so when it is right."""
        while self._options.read is not None:
            await self._stop.reload.wait()
            self._stop.reload.clear()
            change = await reload(self._config, self._options.read, partial(try_out, context, self._health))
            if change is not None and change.taken:
                self._config = context.config = change.config
                self._overview.set_planned(table_facts(change.config))
                for worker in self._workers:
                    worker.send(signal.SIGHUP)

    async def _keep(self, worker: Worker) -> None:
        """Keep one worker running until all is done, or must end."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=1.0, ceiling_seconds=30.0)
        while not self._ending.is_set():
            born = loop.time()
            code = await self._live(worker)
            self._merged.died(worker.number)
            worker.absence = f"ended with {code}"
            if code in ENDS_ALL:
                self._code = self._code or code
                self._end(signal.SIGTERM)
                return
            if self._ending.is_set():
                self._code = self._code or (0 if code in DRAINED else 1)
                return
            if self._options.once and code == 0:
                return
            if loop.time() - born > LONG_LIFE_SECONDS:
                backoff.reset()
            pause_seconds = backoff.next_seconds()
            self._pages.restarts += 1
            _log.error("worker died", worker=worker.number, exit_code=code, pause_seconds=round(pause_seconds, 3))
            worker.absence += ", is started again"
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._ending.wait()

    async def _live(self, worker: Worker) -> int:
        """Start a worker and wait for its end; return its exit code, negative for a signal."""
        share = self._config.limits.memory_bytes // len(self._workers)
        environment = {name: text for name, text in os.environ.items() if name not in OURS}
        environment |= {SUPERVISOR: str(os.getpid()), "DYNCDC_LIMITS__MEMORY_BYTES": str(share)}
        if self._options.once:
            environment[RUN_BEGAN] = repr(self._began)
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
            env=environment,
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
        await kill_unresponsive(self._answers, worker, self._config.run.stuck_after_seconds)
        if not self._ending.is_set():  # who ends has a deadline of its own
            worker.send(signal.SIGKILL)

    async def _pass_on(self, work: asyncio.Task[None]) -> None:
        """The first signal drains all workers, or ends a start at once; the second ends them at once."""
        await self._stop.draining.wait()
        notify(STOPPING)
        _log.info("stopping", signal=self._stop.signal_number)
        if not self._supervising:
            work.cancel()
            return
        self._end(signal.SIGTERM)
        await self._stop.aborting.wait()
        self._end(signal.SIGQUIT)
        await asyncio.sleep(CUT_SECONDS)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        """Start no worker any more, and signal those that run; after their own deadline they are killed."""
        if not self._ending.is_set():
            seconds = self._config.run.shutdown_seconds + GRACE_SECONDS
            asyncio.get_running_loop().call_later(seconds, self._end, signal.SIGKILL)
        self._ending.set()
        for worker in self._workers:
            worker.send(number)

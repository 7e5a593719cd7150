"""``limits.workers``: a supervisor of processes on this machine, each a member of the pipeline. It moves no data.

It checks the configuration and makes the tables once, before the first worker; then a ``WorkerGroup`` keeps workers
running, and it passes signals on and answers for all. A worker that ends on purpose (exit 1 or 2) ends them all:
what it says would be true for the one in its place too.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
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
from dyncdc.errors import ConfigError, RetryableError
from dyncdc.pipeline.runtime import ungrouped
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.telemetry.http import serve_http
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.systemd import READY, STOPPING, feed_watchdog, notify
from dyncdc.telemetry.task_health import TaskHealth

from .group import WorkerGroup
from .http import WorkerPages

_log = structlog.get_logger("dyncdc")

DESTINATIONS_CHECKED = "destinations checked"
READY_POLL_SECONDS = 0.25
REASSEMBLE_SECONDS = 2.0
ABORT_SECONDS = 2.0


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
        self._options = options
        self._stop = stop
        self._group = WorkerGroup(config, arguments, options, directory)
        self._health = TaskHealth(stuck_after_seconds=config.run.stuck_after_seconds)
        self._missing = [DESTINATIONS_CHECKED]
        self._overview = make_status_builder(config, options.assignment, Metrics(), self._health, self._missing)
        self._pages = WorkerPages(self._group.answers, self._group.merged, self._overview, lambda: self._group.restarts)
        self._supervising = False

    async def run(self) -> int:
        """Serve, prepare, supervise; return the exit code."""
        http = self._config.http
        listen = http.listen
        self._overview.recent_errors.listen()
        async with serve_http((listen.host, listen.port), self._pages.application(), http.allowed_hosts) as port:
            _log.info(
                "started",
                version=__version__,
                pipeline=self._config.pipeline,
                workers=len(self._group.workers),
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
        return SIGNAL_BASE + self._stop.signal_number if self._stop.aborting.is_set() else self._group.exit_code

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
                    self._group.began = await startup_retry(checkpoints.server_time)
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
                    tasks.create_task(self._group.keep(worker), name=f"worker:{worker.number}")
                    for worker in self._group.workers
                ]
                await asyncio.wait(keeping)
                for task in beside:
                    task.cancel()
        finally:
            self._group.send(signal.SIGKILL)

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
                self._group.send(signal.SIGHUP)

    async def _pass_on(self, work: asyncio.Task[None]) -> None:
        """The first signal drains all workers, or ends a start at once; the second ends them at once."""
        await self._stop.draining.wait()
        notify(STOPPING)
        _log.info("stopping", signal=self._stop.signal_number)
        if not self._supervising:
            work.cancel()
            return
        self._group.end(signal.SIGTERM)
        await self._stop.aborting.wait()
        self._group.end(signal.SIGQUIT)
        await asyncio.sleep(ABORT_SECONDS)
        self._group.end(signal.SIGKILL)

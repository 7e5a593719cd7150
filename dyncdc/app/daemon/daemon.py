"""``dyncdc run``: opens everything in order, runs the sessions of the pipeline, and returns its exit code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, ExitStack

import structlog

from dyncdc import __version__
from dyncdc.app.context import AppContext, open_context
from dyncdc.app.process.cancellation import cancel_remaining_tasks
from dyncdc.app.process.signals import SIGNAL_BASE, Stop
from dyncdc.app.run_options import RunOptions
from dyncdc.app.status_feed import asking_clickhouse
from dyncdc.config import Config
from dyncdc.decode.backend import IS_COMPILED, WHY_EXACT
from dyncdc.pipeline.runtime import ungrouped
from dyncdc.sources.kinesis import get_records
from dyncdc.telemetry.event_loop_watchdog import watch_event_loop
from dyncdc.telemetry.http import HttpPages, serve_http
from dyncdc.telemetry.systemd import STOPPING, feed_watchdog, notify

from .sessions import Sessions
from .startup import Startup
from .state import DESTINATIONS_CHECKED, DaemonState

_log = structlog.get_logger("dyncdc")


async def run_daemon(config: Config, options: RunOptions) -> int:
    """Replicate until a signal, or with ``once`` until all is done; return the exit code.

    Raises ConfigError, FatalError. Only in the main thread: it takes SIGTERM and SIGINT over.
    """
    stop = Stop()
    stop.listen(worker=options.worker is not None)
    if options.read is not None:
        stop.listen_for_reload()
    state = DaemonState(config, stop, options)
    sessions = Sessions(state)
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(_serve(state, sessions), name="daemon")
            beside = [
                tasks.create_task(_watch(stop, sessions, work), name="signals"),
                tasks.create_task(cancel_remaining_tasks(work), name="cancellation"),
            ]
            work.add_done_callback(lambda _: [task.cancel() for task in beside])
    return SIGNAL_BASE + stop.signal_number if stop.aborting.is_set() else 0


async def _watch(stop: Stop, sessions: Sessions, work: asyncio.Task[None]) -> None:
    """The first signal drains, or ends a start at once; the second ends everything at once."""
    await stop.draining.wait()
    notify(STOPPING)
    _log.info("stopping", signal=stop.signal_number)
    if not sessions.replicating:
        work.cancel()
    await stop.aborting.wait()
    work.cancel()


async def _serve(state: DaemonState, sessions: Sessions) -> None:
    """Serve the pages, start, replicate. Everything that is opened is closed in the opposite order."""
    config, options = state.config, state.options
    pages = HttpPages(state.metrics, state.health, state.readiness, state.status).application()
    state.status.recent_errors.listen()
    where = str(options.worker) if options.worker is not None else (config.http.listen.host, config.http.listen.port)
    async with serve_http(where, pages, config.http.allowed_hosts) as port, asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(feed_watchdog(), name="watchdog"),
            tasks.create_task(state.health.watch(), name="progress"),
            tasks.create_task(watch_event_loop(config.run.stuck_after_seconds), name="loop"),
            tasks.create_task(state.status.activity.run(), name="activity"),
        ]
        _log.info(
            "started",
            version=__version__,
            pipeline=config.pipeline,
            member=str(options.assignment),
            http_port=port,
            decoder="compiled" if IS_COMPILED else "exact",
        )
        if why := WHY_EXACT or get_records.WHY_EXACT:
            _log.warning("compiled decoder missing", hint=f"decoding takes ten times the CPU time; {why}")
        await _work(state, sessions)
        for task in beside:
            task.cancel()
    _log.info("stopped")


async def _work(state: DaemonState, sessions: Sessions) -> None:
    """Start, and run sessions until the last."""
    startup = Startup(state)
    with ExitStack() as starting:
        async with _context(state, starting) as context:
            assembly = await startup.first(context)
            starting.close()
            state.readiness.done(DESTINATIONS_CHECKED)
            state.declare(assembly)
            async with asking_clickhouse(context.clickhouse, lambda: state.config, state.status.stored):
                while not await sessions.run(context, assembly):
                    with ExitStack() as again:
                        context.retry = state.startup_retry(again)
                        assembly = await startup.again(context)
                        state.declare(assembly)


def _context(state: DaemonState, starting: ExitStack) -> AbstractAsyncContextManager[AppContext]:
    """A local ClickHouse is this process's own; that of workers is their supervisor's."""
    own, assignment = state.options.worker is None, state.options.assignment
    return open_context(state.config, state.startup_retry(starting), own=own, assignment=assignment)

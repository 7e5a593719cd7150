"""``dyncdc run``: opens everything in order, runs one session of the pipeline, and returns its exit code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from functools import partial

import structlog

from dyncdc import __version__
from dyncdc.app.assembly.assembly import Assembly, assemble, assemble_first, look_again
from dyncdc.app.assembly.histories import history_watch, watching
from dyncdc.app.assembly.rejected_rows import RejectedRowRecords
from dyncdc.app.assembly.row_settings import name_troubles, note_settings
from dyncdc.app.assembly.tombstones import cleaning
from dyncdc.app.process.allocator import tune_allocator
from dyncdc.app.process.cancellation import cancel_remaining_tasks
from dyncdc.app.process.memory_limits import INSERTS_IN_FLIGHT, share_memory
from dyncdc.app.process.signals import SIGNAL_BASE, Stop
from dyncdc.app.process.this_process import is_gone, this_process
from dyncdc.app.run_options import RunOptions
from dyncdc.config import Config
from dyncdc.decode.backend import IS_COMPILED, WHY_EXACT
from dyncdc.errors import ConfigError, DyncdcError, FatalError, RetryableError
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.destinations.history_monitor import HistoryMonitor
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.pipeline.members.succession import Predecessor, Succession
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.runtime import Instruments, ungrouped
from dyncdc.pipeline.session.services import Destination, Settings
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimits
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.checkpoints import ClickHouseCheckpoints, ClickHouseSnapshots
from dyncdc.sinks.state.dead_letters import ClickHouseDeadLetters
from dyncdc.sinks.state.destinations import ClickHouseDestinations
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.sessions import ClickHouseSessions
from dyncdc.sinks.state.watermarks import ClickHouseWatermarks
from dyncdc.sinks.tables.orphan_rows import ClickHouseOrphanRows
from dyncdc.sources.kinesis import get_records
from dyncdc.telemetry.event_loop_watchdog import watch_event_loop
from dyncdc.telemetry.http import HttpPages, Readiness, serve_http
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.systemd import READY, STOPPING, feed_watchdog, notify
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

from .context import AppContext, open_context
from .reload import ReloadedError, reload, try_out
from .startup_retry import StartupRetry
from .status_feed import asking_clickhouse, make_status_builder, table_facts
from .unusable_tables import Unusable, UsableAgainError, watch_unusable

_log = structlog.get_logger("dyncdc")

DESTINATIONS_CHECKED = "destinations checked"
CHECKPOINTS_LOADED = "checkpoints loaded"

DENIED_POLL_SECONDS = 0.5
REOPEN_SECONDS = 2.0
"""Pause between two looks for a stream that takes the place of a lost one, and after a session that was shorter."""


async def run_daemon(config: Config, options: RunOptions) -> int:
    """Replicate until a signal, or with ``once`` until all is done; return the exit code.

    Raises ConfigError, FatalError. Only in the main thread: it takes SIGTERM and SIGINT over.
    """
    stop = Stop()
    stop.listen(worker=options.worker is not None)
    if options.read is not None:
        stop.listen_for_reload()
    daemon = _Daemon(config, stop, options)
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(daemon.run(), name="daemon")
            beside = [
                tasks.create_task(_watch(stop, daemon, work), name="signals"),
                tasks.create_task(cancel_remaining_tasks(work), name="cancellation"),
            ]
            work.add_done_callback(lambda _: [task.cancel() for task in beside])
    return SIGNAL_BASE + stop.signal_number if stop.aborting.is_set() else 0


async def _watch(stop: Stop, daemon: _Daemon, work: asyncio.Task[None]) -> None:
    """The first signal drains, or ends a start at once; the second ends everything at once."""
    await stop.draining.wait()
    notify(STOPPING)
    _log.info("stopping", signal=stop.signal_number)
    if not daemon.replicating:
        work.cancel()
    await stop.aborting.wait()
    work.cancel()


_ANOTHER_SESSION = (
    SourceLostError,
    DestinationChangedError,
    ReloadedError,
    WentBackError,
    TableGoneError,
    UsableAgainError,
)
"""After these another session begins in the same process: it finds all as it is by then, and makes missing tables."""


def _usable(table: str) -> str:
    """The step of readiness that a table which can not be used keeps open."""
    return f"table {table} usable"


class _Daemon:
    """One process's session. Everything it opens is closed in the opposite order, whatever happens."""

    def __init__(self, config: Config, stop: Stop, options: RunOptions) -> None:
        self._config = config
        self._stop = stop
        self._options = options
        self._metrics = Metrics()
        self._health = TaskHealth(stuck_after_seconds=config.run.stuck_after_seconds)
        self._readiness = Readiness.of([DESTINATIONS_CHECKED, CHECKPOINTS_LOADED])
        self._metrics.watch_stuck(lambda: [task.name for task in self._health.stuck()])
        self._overview = make_status_builder(
            config, options.assignment, self._metrics, self._health, self._readiness.missing
        )
        self._epoch = 0
        """Of the last session; 0 before the first."""
        self._begun = asyncio.Event()
        """The present session has its epoch."""
        self._troubles: dict[str, str] = {}
        """By table, what health has to say of this session's destinations."""
        self._went_back = False
        """Whether ClickHouse went back, and no session has begun since."""
        self.replicating = False
        """From here on a signal drains; before, there is nothing to drain."""

    async def run(self) -> None:
        """Serve, start, replicate."""
        http = self._config.http
        listen = http.listen
        pages = HttpPages(self._metrics, self._health, self._readiness, self._overview).application()
        self._overview.troubles.listen()
        where = str(self._options.worker) if self._options.worker is not None else (listen.host, listen.port)
        async with serve_http(where, pages, http.allowed_hosts) as port, asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(feed_watchdog(), name="watchdog"),
                tasks.create_task(self._health.watch(), name="progress"),
                tasks.create_task(watch_event_loop(self._config.run.stuck_after_seconds), name="loop"),
                tasks.create_task(self._overview.activity.run(), name="activity"),
            ]
            _log.info(
                "started",
                version=__version__,
                pipeline=self._config.pipeline,
                member=str(self._options.assignment),
                http_port=port,
                decoder="compiled" if IS_COMPILED else "exact",
            )
            if why := WHY_EXACT or get_records.WHY_EXACT:
                _log.warning("compiled decoder missing", hint=f"decoding takes ten times the CPU time; {why}")
            await self._work()
            for task in beside:
                task.cancel()
        _log.info("stopped")

    async def _work(self) -> None:
        with ExitStack() as starting:
            async with self._context(starting) as context:
                assembly = await self._begin_with(context, partial(assemble_first, context, once=self._options.once))
                starting.close()
                self._readiness.done(DESTINATIONS_CHECKED)
                self._declare(assembly)
                async with asking_clickhouse(context.clickhouse, lambda: self._config, self._overview.stored):
                    while not await self._live(context, assembly):
                        with ExitStack() as again:
                            context.retry = self._startup_retry(again)
                            assembly = await self._begin_with(context, partial(self._assemble_again, context))
                            self._declare(assembly)

    def _declare(self, assembly: Assembly) -> None:
        for table in assembly.tables:
            for name in filter(None, (table.spec.destination, table.spec.history)):
                self._metrics.declare(table.spec.source_table, name)
            self._metrics.table_usable.labels(table.spec.source_table).set(1)
            self._readiness.done(_usable(table.spec.source_table))
        for one in assembly.unusable:
            self._readiness.wait_for(_usable(one.config.dynamodb))

    def _context(self, starting: ExitStack) -> AbstractAsyncContextManager[AppContext]:
        """A local ClickHouse is this process's own; that of workers is their supervisor's."""
        own = self._options.worker is None
        return open_context(self._config, self._startup_retry(starting), own=own, assignment=self._options.assignment)

    def _startup_retry(self, starting: ExitStack) -> StartupRetry:
        """Health names the start until ``starting`` is closed."""
        task = starting.enter_context(self._health.task("start"))
        return StartupRetry(
            self._config.run.startup_timeout_seconds if self._options.once else None, self._health, task
        )

    async def _alone(self, context: AppContext, assembly: Assembly) -> Assembly:
        """Wait until no other process is at work; return what to replicate: the other one may have changed tables."""
        members = ClickHouseMembers(context.clickhouse, self._config.pipeline)
        sessions = ClickHouseSessions(context.clickhouse, self._config.pipeline)
        before = Predecessor(self._options.assignment, members, sessions, self._succession(), self._health)
        if await before.wait(self._epoch, context.retry.task):
            assembly = await self._assemble_again(context)
        return assembly

    async def _note(
        self, context: AppContext, assembly: Assembly, histories: HistoryMonitor | None, epoch: int
    ) -> None:
        """Note what decides the rows of a session, once it has its session and before it writes any."""
        with ExitStack() as noting:
            context.retry = self._startup_retry(noting)
            if histories is not None:
                await context.retry(histories.begin)
            self._troubles = await note_settings(context, assembly, epoch, self._metrics, self._health)

    def _succession(self) -> Succession:
        return Succession(this_process(), is_gone, self._options.take_over and not self._epoch, not self._options.once)

    async def _begin_with(self, context: AppContext, assemble_now: Callable[[], Awaitable[Assembly]]) -> Assembly:
        """Assemble, alone; begin over when a table of ours is dropped meanwhile, as assembling makes it.

        And while no table at all can be used, which someone may fix at any time.
        """
        while True:
            try:
                return await self._alone(context, await assemble_now())
            except (TableGoneError, RetryableError) as error:
                if self._options.once:
                    raise
                context.retry.task.failed(str(error))
                self._health.log_retry("start", error, REOPEN_SECONDS)
                await asyncio.sleep(REOPEN_SECONDS)

    async def _assemble_again(self, context: AppContext) -> Assembly:
        """Open what has taken the place of a lost stream, as soon as someone has set it up."""
        while True:
            try:
                return await assemble(context, strict=self._options.once)
            except (ConfigError, RetryableError) as error:
                if self._options.once:
                    raise
                context.retry.task.failed(str(error))  # the looks in between succeed, and hide it
                self._health.log_retry("start", error, REOPEN_SECONDS)
                await self._pause(context)

    async def _pause(self, context: AppContext) -> None:
        """Wait before the next look, or for SIGHUP: what stands in the way may be the configuration."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REOPEN_SECONDS):
                await self._stop.reload.wait()
        if self._options.read is None or not self._stop.reload.is_set():
            return
        with self._stop.answering_reload():
            change = await reload(self._config, self._options.read, partial(try_out, context, self._health))
        if change is not None:
            self._follow(context, change.config)

    async def _live(self, context: AppContext, assembly: Assembly) -> bool:
        """Live one session; return whether it was the last.

        One that ends with its stream, its configuration, what its rows were made for, or a table of dyncdc's own that
        someone has dropped, is followed by another.
        """
        self._begun.clear()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        try:
            with ungrouped():
                await self._replicate_beside(context, assembly)
        except _ANOTHER_SESSION as error:
            self.replicating = False
            # Until a session has begun on what there is now, nothing that was lost is read again.
            self._went_back = isinstance(error, WentBackError) or (self._went_back and not self._begun.is_set())
            if not isinstance(error, ReloadedError | UsableAgainError):
                self._health.log_retry("replicate", error, REOPEN_SECONDS)
                if loop.time() - started_at < REOPEN_SECONDS and not self._stop.draining.is_set():
                    await asyncio.sleep(REOPEN_SECONDS)  # or one that ends at once would begin without end
            return self._stop.draining.is_set()
        return True

    async def _replicate_beside(self, context: AppContext, assembly: Assembly) -> None:
        """Replicate, with all that may end the session for another one beside it."""
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._reload(context), name="reload")]
            beside += [
                tasks.create_task(self._watch_unusable(context, one), name=f"table:{one.config.dynamodb}")
                for one in assembly.unusable
            ]
            if self._options.once:
                beside.append(tasks.create_task(self._end_when_denied(), name="denied"))
            await self._replicate(context, assembly)
            for task in beside:
                task.cancel()

    async def _watch_unusable(self, context: AppContext, one: Unusable) -> None:
        """Raise UsableAgainError as soon as the table can be used; not before the session has begun, as ``_reload``."""

        async def look(task: TaskProgress, before: DyncdcError) -> DyncdcError | None:
            await self._begun.wait()
            return await look_again(replace(context, retry=StartupRetry(None, self._health, task)), one, before)

        await watch_unusable(one, look, self._metrics, self._health)

    async def _end_when_denied(self) -> None:
        """Raise FatalError once something was denied for as long as a start may take: someone waits for this run."""
        patience_seconds = self._config.run.startup_timeout_seconds
        while True:
            await asyncio.sleep(DENIED_POLL_SECONDS)
            seconds, error = self._health.denied() or (0.0, None)
            if error is not None and seconds >= patience_seconds:
                raise FatalError(f"{error} (tried for {seconds:.0f} s)", hint=error.hint) from error

    async def _reload(self, context: AppContext) -> None:
        """At each SIGHUP read the configuration. Raises ReloadedError when it takes another session to follow it.

        Not before the session has begun: a session that ended while it began would look like another process to the
        next one.
        """
        while self._options.read is not None:
            await self._stop.reload.wait()
            await self._begun.wait()
            with self._stop.answering_reload():
                change = await reload(self._config, self._options.read, partial(try_out, context, self._health))
            if change is None or self._stop.draining.is_set():
                continue
            self._follow(context, change.config)
            if change.needs_new_session:
                raise ReloadedError("replicating: the configuration has changed")

    def _follow(self, context: AppContext, config: Config) -> None:
        kept = {table.dynamodb for table in config.tables}
        for table in self._config.tables:
            if table.dynamodb not in kept:
                self._readiness.done(_usable(table.dynamodb))
                self._metrics.forget(table.dynamodb, *filter(None, (table.destination, table.history)))
        self._config = context.config = config
        self._overview.set_planned(table_facts(config))

    async def _replicate(self, context: AppContext, assembly: Assembly) -> None:
        config, pipeline = self._config, self._config.pipeline
        shares = share_memory(config.limits.memory_bytes)
        tables = {table.spec.destination: table.spec.source_table for table in assembly.tables}
        tables |= {table.spec.history: table.spec.source_table for table in assembly.tables if table.spec.history}
        sink = ClickHouseSink(context.clickhouse, assembly.columns.watch)
        destination = Destination(
            sink=sink,
            checkpoints=ClickHouseCheckpoints(context.clickhouse, pipeline),
            snapshots=ClickHouseSnapshots(context.clickhouse, pipeline),
            decoders=assembly.decoders,
            dead_letters=RejectedRowRecords(
                pipeline,
                tables,
                lambda table, why: self._metrics.dead_letters.labels(table, why).inc(),
                assembly.decoders.keepable,
            ),
            members=ClickHouseMembers(context.clickhouse, pipeline),
            sessions=ClickHouseSessions(context.clickhouse, pipeline),
            watermarks=ClickHouseWatermarks(context.clickhouse, pipeline),
            limit_stops=ClickHouseDeadLetters(context.clickhouse, pipeline),
            schema_evolution=assembly.columns.evolution,
            recovery=ClickHouseRecovery(context.clickhouse, pipeline),
            destinations=ClickHouseDestinations(
                context.clickhouse, {table.spec.destination: table.spec.deleted_column for table in assembly.tables}
            ),
            orphan_rows=ClickHouseOrphanRows(
                context.clickhouse, pipeline, {table.spec.source_table: table.spec for table in assembly.tables}
            ),
        )
        batch = BatchLimits(
            max_rows=config.batch.max_rows,
            max_bytes=config.batch.max_bytes,
            max_age_seconds=config.batch.max_age_seconds,
            statement_bytes=shares.statement_bytes,
            inserts_in_flight=INSERTS_IN_FLIGHT,
        )
        settings = Settings(
            pipeline,
            batch,
            shares.budget_bytes,
            fetch_ceiling_bytes=shares.fetch_ceiling_bytes,
            checkpoint_interval_seconds=config.checkpoint.interval_seconds,
            replay_seconds=config.clickhouse.replay_after_restart_seconds,
            went_back=self._went_back,
            drain_seconds=config.run.shutdown_seconds,
            assignment=self._options.assignment,
            once=self._options.once,
            since=self._options.since,
            after=self._epoch,
            succession=self._succession(),
            on_lost_position=config.kinesis.on_lost_position,
            dead_letter_limiter=DeadLetterLimits(config.dead_letters.max_ratio, config.dead_letters.max_consecutive),
        )

        def ready(epoch: int) -> None:
            name_troubles(self._health, self._troubles, standing)
            self._ready(epoch)

        tune_allocator(shares.budget_bytes)
        self.replicating = True
        instruments = Instruments(self._metrics, self._health, time.time)
        histories = history_watch(context, assembly, instruments)
        async with cleaning(context, assembly, self._health), watching(histories), AsyncExitStack() as standing:
            await run_session(
                assembly.streams,
                assembly.snapshots,
                destination,
                settings,
                instruments,
                SessionControl(self._stop.draining, partial(self._note, context, assembly, histories), ready),
            )

    def _ready(self, epoch: int) -> None:
        self._epoch = epoch
        self._begun.set()
        self._readiness.done(CHECKPOINTS_LOADED)
        notify(READY)
        _log.info("ready")

"""Sessions: runs one session of the pipeline after the other, and says whether another one has to follow."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import structlog

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.assembly.row_settings import note_settings, report_errors
from dyncdc.app.context import AppContext
from dyncdc.app.process.allocator import tune_allocator
from dyncdc.app.process.memory_limits import share_memory
from dyncdc.app.reload import ReloadedError
from dyncdc.app.unusable_tables import UsableAgainError
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.destinations.history_monitor import HistoryMonitor
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.pipeline.members.sessions import AnotherBegunError
from dyncdc.pipeline.recovery.recovery import SourceLostError
from dyncdc.pipeline.runtime import Instruments, ungrouped
from dyncdc.pipeline.session.session import SessionControl, run_session
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.telemetry.systemd import READY, notify

from . import startup
from .background import session_tasks
from .composition import make_destination, session_settings
from .histories import history_watch, watching
from .state import CHECKPOINTS_LOADED, DaemonState
from .tombstones import cleaning

_log = structlog.get_logger("dyncdc")

_ANOTHER_SESSION = (
    SourceLostError,
    DestinationChangedError,
    ReloadedError,
    WentBackError,
    TableGoneError,
    UsableAgainError,
    AnotherBegunError,
)
"""After these another session begins in the same process: it finds all as it is by then, and makes missing tables."""


class Sessions:
    """The sessions of one process, one at a time, and what each knows of the one before."""

    def __init__(self, state: DaemonState) -> None:
        self._state = state
        self._begun = asyncio.Event()
        """The present session has its epoch."""
        self._settings_errors: dict[str, str] = {}
        """By table, what health has to say of this session's destinations."""
        self._went_back = False
        """Whether ClickHouse went back, and no session has begun since."""
        self.replicating = False
        """From here on a signal drains; before, there is nothing to drain."""

    async def run(self, context: AppContext, assembly: Assembly) -> bool:
        """Run one session; return whether it was the last.

        One that ends with its stream, its configuration, what its rows were made for, or a table of dyncdc's own that
        someone has dropped, is followed by another.
        """
        self._begun.clear()
        loop, draining = asyncio.get_running_loop(), self._state.stop.draining
        started_at = loop.time()
        try:
            with ungrouped():
                async with session_tasks(self._state, context, assembly, self._begun):
                    await self._replicate(context, assembly)
        except _ANOTHER_SESSION as error:
            self.replicating = False
            # Until a session has begun on what there is now, nothing that was lost is read again.
            self._went_back = isinstance(error, WentBackError) or (self._went_back and not self._begun.is_set())
            if not isinstance(error, ReloadedError | UsableAgainError):
                self._state.health.log_retry("replicate", error, startup.REOPEN_SECONDS)
                if loop.time() - started_at < startup.REOPEN_SECONDS and not draining.is_set():
                    await asyncio.sleep(startup.REOPEN_SECONDS)  # or one that ends at once would begin without end
            return draining.is_set()
        return True

    async def _replicate(self, context: AppContext, assembly: Assembly) -> None:
        state = self._state
        shares = share_memory(state.config.limits.memory_bytes)
        destination = make_destination(context, assembly, state.metrics)
        settings = session_settings(state, shares, went_back=self._went_back)

        def ready(epoch: int) -> None:
            report_errors(state.health, self._settings_errors, standing)
            self._ready(epoch)

        tune_allocator(shares.budget_bytes)
        self.replicating = True
        instruments = Instruments(state.metrics, state.health, time.time)
        histories = history_watch(context, assembly, instruments)
        async with cleaning(context, assembly, state.health), watching(histories), AsyncExitStack() as standing:
            await run_session(
                assembly.streams,
                assembly.snapshots,
                destination,
                settings,
                instruments,
                SessionControl(state.stop.draining, partial(self._note, context, assembly, histories), ready),
            )

    async def _note(
        self, context: AppContext, assembly: Assembly, histories: HistoryMonitor | None, epoch: int
    ) -> None:
        """Note what decides the rows of a session, once it has its session and before it writes any."""
        state = self._state
        with ExitStack() as noting:
            context.retry = state.startup_retry(noting)
            if histories is not None:
                await context.retry(histories.begin)
            self._settings_errors = await note_settings(context, assembly, epoch, state.metrics, state.health)

    def _ready(self, epoch: int) -> None:
        self._state.epoch = epoch
        self._begun.set()
        self._state.readiness.done(CHECKPOINTS_LOADED)
        notify(READY)
        _log.info("ready")

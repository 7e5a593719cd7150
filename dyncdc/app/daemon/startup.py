"""Startup: assembles what a session works on, alone, however long the other process or what is missing takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from dyncdc.app.assembly.assembly import Assembly, assemble, assemble_first
from dyncdc.app.context import AppContext
from dyncdc.errors import ConfigError, RetryableError
from dyncdc.pipeline.members.succession import Predecessor
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.sessions import ClickHouseSessions

from .state import DaemonState

REOPEN_SECONDS = 2.0
"""Pause between two looks for a stream that takes the place of a lost one, and after a session that was shorter."""


class Startup:
    """What comes before each session of a process."""

    def __init__(self, state: DaemonState) -> None:
        self._state = state

    async def first(self, context: AppContext) -> Assembly:
        """Assemble as a process starts. Raises ConfigError, FatalError, and with ``once`` also RetryableError."""
        return await self._begin_with(context, partial(assemble_first, context, once=self._state.options.once))

    async def again(self, context: AppContext) -> Assembly:
        """Assemble for another session of the process; raises as ``first``."""
        return await self._begin_with(context, partial(self.assemble_again, context))

    async def _begin_with(self, context: AppContext, assemble_now: Callable[[], Awaitable[Assembly]]) -> Assembly:
        """Assemble, alone; begin over when a table of ours is dropped meanwhile, as assembling makes it.

        And while no table at all can be used, which someone may fix at any time.
        """
        while True:
            try:
                return await self._alone(context, await assemble_now())
            except (TableGoneError, RetryableError) as error:
                if self._state.options.once:
                    raise
                self._failed(context, error)
                await asyncio.sleep(REOPEN_SECONDS)

    async def _alone(self, context: AppContext, assembly: Assembly) -> Assembly:
        """Wait until no other process is at work; return what to replicate: the other one may have changed tables."""
        state, pipeline = self._state, self._state.config.pipeline
        members = ClickHouseMembers(context.clickhouse, pipeline)
        sessions = ClickHouseSessions(context.clickhouse, pipeline)
        before = Predecessor(state.options.assignment, members, sessions, state.succession, state.health)
        if await before.wait(state.epoch, context.retry.task):
            assembly = await self.assemble_again(context)
        return assembly

    async def assemble_again(self, context: AppContext) -> Assembly:
        """Open what has taken the place of a lost stream, as soon as someone has set it up."""
        while True:
            try:
                return await assemble(context, strict=self._state.options.once)
            except (ConfigError, RetryableError) as error:
                if self._state.options.once:
                    raise
                self._failed(context, error)  # the looks in between succeed, and hide it
                await self._pause(context)

    def _failed(self, context: AppContext, error: TableGoneError | ConfigError | RetryableError) -> None:
        context.retry.task.failed(str(error))
        self._state.health.log_retry("start", error, REOPEN_SECONDS)

    async def _pause(self, context: AppContext) -> None:
        """Wait before the next look, or for SIGHUP: what stands in the way may be the configuration."""
        stop = self._state.stop
        with suppress(TimeoutError):
            async with asyncio.timeout(REOPEN_SECONDS):
                await stop.reload.wait()
        if self._state.options.read is None or not stop.reload.is_set():
            return
        change = await self._state.read_again(context)
        if change is not None:
            self._state.follow(context, change.config)

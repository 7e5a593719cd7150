"""What runs beside a session: reloads and tables that can be used again, which end it for another one; own tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from dyncdc.app.assembly.assembly import Assembly, look_again
from dyncdc.app.assembly.prepared_tables import make_own_tables
from dyncdc.app.context import AppContext
from dyncdc.app.reload import ReloadedError, follow_quorum
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.app.unusable_tables import Unusable, watch_unusable
from dyncdc.errors import DyncdcError, FatalError, RetryableError
from dyncdc.sinks.client.cluster import present_tables
from dyncdc.sinks.state.tables import own_tables
from dyncdc.telemetry.task_health import TaskProgress

from .startup import REOPEN_SECONDS
from .state import DaemonState

DENIED_POLL_SECONDS = 0.5


@asynccontextmanager
async def session_tasks(
    state: DaemonState, context: AppContext, assembly: Assembly, begun: asyncio.Event
) -> AsyncIterator[None]:
    """Run all of them while the block runs; an error of theirs ends the block, in a group.

    None ends the session before ``begun``: one that ended while it began would look like another process to the next.
    """
    async with asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(_reload(state, context, begun), name="reload"),
            tasks.create_task(_remake_own_tables(context, begun), name="own tables"),
        ]
        beside += [
            tasks.create_task(_watch_unusable(state, context, one, begun), name=f"table:{one.config.dynamodb}")
            for one in assembly.unusable
        ]
        if state.options.once:
            beside.append(tasks.create_task(_end_when_denied(state), name="denied"))
        yield
        for task in beside:
            task.cancel()


async def _remake_own_tables(context: AppContext, begun: asyncio.Event) -> None:
    """Make what someone drops while a session begins: it waits for the table, and no other session would make it."""
    while not begun.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(REOPEN_SECONDS):
                await begun.wait()
                return
        with suppress(RetryableError):  # the session meets it too, and says so
            if len(await present_tables(context.clickhouse, own_tables())) < len(own_tables()):
                await make_own_tables(context)


async def _watch_unusable(state: DaemonState, context: AppContext, one: Unusable, begun: asyncio.Event) -> None:
    """Raise UsableAgainError as soon as the table can be used."""

    async def look(task: TaskProgress, before: DyncdcError) -> DyncdcError | None:
        await begun.wait()
        return await look_again(replace(context, retry=StartupRetry(None, state.health, task)), one, before)

    await watch_unusable(one, look, state.metrics, state.health)


async def _end_when_denied(state: DaemonState) -> None:
    """Raise FatalError once something was denied for as long as a start may take: someone waits for this run."""
    limit_seconds = state.config.run.startup_timeout_seconds
    while True:
        await asyncio.sleep(DENIED_POLL_SECONDS)
        seconds, error = state.health.denied() or (0.0, None)
        if error is not None and seconds >= limit_seconds:
            raise FatalError(f"{error} (tried for {seconds:.0f} s)", hint=error.hint) from error


async def _reload(state: DaemonState, context: AppContext, begun: asyncio.Event) -> None:
    """At each SIGHUP read the configuration. Raises ReloadedError when it takes another session to follow it.

    A session may never begin for want of a quorum, so that one is followed before.
    """
    while state.options.read is not None:
        await state.stop.reload.wait()
        while not begun.is_set():
            follow_quorum(context, state.options.read)
            with suppress(TimeoutError):
                async with asyncio.timeout(REOPEN_SECONDS):
                    await begun.wait()
        change = await state.read_again(context)
        if change is None or state.stop.draining.is_set():
            continue
        state.follow(context, change.config)
        if change.needs_new_session:
            raise ReloadedError("replicating: the configuration has changed")

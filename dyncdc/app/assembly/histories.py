"""The watch over the histories beside a session of the pipeline, for the tables that have one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dyncdc.app.context import AppContext
from dyncdc.pipeline.destinations.history_monitor import HistoryMonitor
from dyncdc.pipeline.runtime import root_cause
from dyncdc.sinks.state.histories import ClickHouseHistories
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

from .assembly import Assembly


def history_watch(
    context: AppContext, assembly: Assembly, metrics: Metrics, health: TaskHealth
) -> HistoryMonitor | None:
    """Return the watch of the member that leads, None where there is nothing to watch."""
    histories = {table.spec.source_table: table.spec.history for table in assembly.tables if table.spec.history}
    if not histories or not context.assignment.is_leader:
        return None
    return HistoryMonitor(histories, ClickHouseHistories(context.clickhouse, context.config.pipeline), metrics, health)


@asynccontextmanager
async def watching(watch: HistoryMonitor | None) -> AsyncIterator[None]:
    """Watch while the block runs. Raises DestinationChangedError, which ends the block."""
    if watch is None:
        yield
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch.run(), name="histories")
            yield
            task.cancel()
    except BaseExceptionGroup as group:
        raise root_cause(group) from group

"""The watch over the histories beside a session of the pipeline, for the tables that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.context import AppContext
from dyncdc.pipeline.destinations.history_monitor import HistoryMonitor
from dyncdc.pipeline.runtime import Instruments, in_background
from dyncdc.sinks.state.histories import ClickHouseHistories


def history_watch(context: AppContext, assembly: Assembly, instruments: Instruments) -> HistoryMonitor | None:
    """Return the watch of the member that leads, None where there is nothing to watch."""
    histories = {table.spec.source_table: table.spec.history for table in assembly.tables if table.spec.history}
    if not histories or not context.assignment.is_leader:
        return None
    return HistoryMonitor(histories, ClickHouseHistories(context.clickhouse, context.config.pipeline), instruments)


@asynccontextmanager
async def watching(watch: HistoryMonitor | None) -> AsyncIterator[None]:
    """Watch while the block runs. Raises DestinationChangedError, which ends the block."""
    if watch is None:
        yield
        return
    async with in_background(watch.run(), "histories"):
        yield

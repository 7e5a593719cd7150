"""The clean-up of tombstones beside a session of the pipeline, for the tables that ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.context import AppContext
from dyncdc.pipeline.checkpoint.tombstone_cleanup import TableToClean, TombstoneCleaner, TombstoneStores
from dyncdc.pipeline.runtime import in_background
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.tables.tombstones import CleanedTable, ClickHouseTombstones
from dyncdc.telemetry.task_health import TaskHealth


@asynccontextmanager
async def cleaning(context: AppContext, assembly: Assembly, health: TaskHealth) -> AsyncIterator[None]:
    """Clean up while the block runs, as the member that leads; it never ends the block.

    It asks ClickHouse for all that it knows, so that what other members read and write counts as well.
    """
    cleaner = _cleaner(context, assembly, health)
    if cleaner is None:
        yield
        return
    async with in_background(cleaner.run(), "tombstones"):
        yield


def _cleaner(context: AppContext, assembly: Assembly, health: TaskHealth) -> TombstoneCleaner | None:
    tables = {table.spec.source_table: table for table in assembly.tables if table.config.clean_tombstones}
    if not tables or not context.assignment.is_leader:
        return None
    pipeline = context.config.pipeline
    standing = {task.plan.table: task.plan.standing for task in assembly.snapshots}
    return TombstoneCleaner(
        [
            TableToClean(name, stream.source, tables[name].uuid, standing.get(name))
            for stream in assembly.streams
            for name in stream.tables
            if name in tables
        ],
        TombstoneStores(
            checkpoints=ClickHouseCheckpoints(context.clickhouse, pipeline),
            snapshots=ClickHouseSnapshots(context.clickhouse, pipeline),
            recovery=ClickHouseRecovery(context.clickhouse, pipeline),
            tombstones=ClickHouseTombstones(
                context.clickhouse,
                pipeline,
                {name: CleanedTable(table.spec, table.uuid) for name, table in tables.items()},
            ),
        ),
        health,
        replay_seconds=context.config.clickhouse.replay_after_restart_seconds,
    )

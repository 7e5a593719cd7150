"""A start that is refused because a table's destination is off is the only one to see it: its gap is written down.

Once someone has switched it on again, AWS says nothing of the time in between.
"""

from __future__ import annotations

from functools import partial

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.model.gaps import Gap
from dyncdc.pipeline.destinations.streaming_monitor import WAS_OFF
from dyncdc.pipeline.recovery.gaps import last_covered
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.tables import TABLE_SOURCES
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sources.stream import StreamSource


async def record_disabled_streaming(context: AppContext, table: TableConfig, source: StreamSource) -> None:
    """Write the gap of a table that was loaded and followed on ``source`` before; no other has anything to lose."""
    clickhouse, pipeline = context.clickhouse, context.config.pipeline
    if await context.retry(lambda: read_table(clickhouse, TABLE_SOURCES)) is None:
        return
    destination = await context.retry(lambda: read_table(clickhouse, table.destination))
    recovery = ClickHouseRecovery(clickhouse, pipeline)
    followed = [
        row
        for row in await context.retry(recovery.table_sources)
        if row.table == table.dynamodb and row.source == source.id
    ]
    loaded = [
        snapshot
        for snapshot in await context.retry(ClickHouseSnapshots(clickhouse, pipeline).load)
        if snapshot.table == table.dynamodb and snapshot.covered_from
        if destination is not None and snapshot.destination_uuid == destination.uuid
    ]
    if not followed or not loaded:
        return
    rows = await context.retry(ClickHouseCheckpoints(clickhouse, pipeline).load)
    begin = last_covered(followed[0], {row.shard: row.mark for row in rows if row.source == source.id})
    noticed_at = await context.retry(recovery.server_time)
    end = max(source.server_time, begin + 1.0)
    gap = Gap(table.dynamodb, source.id, "", begin, end, reason=WAS_OFF, noticed_at=noticed_at)
    await context.retry(partial(recovery.save_gaps, [gap]))

"""``dyncdc_watermarks`` in ClickHouse: up to when each table is complete, as each member says of its own shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dyncdc.model.shards import SourceId
from dyncdc.model.watermarks import Watermark
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.rows import MICROSECONDS, append_rows, catch_up, time_text
from dyncdc.sinks.state.tables import WATERMARKS


class ClickHouseWatermarks:
    """The watermarks of one pipeline. Implements ``WatermarkStore``."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._dead_letters = ClickHouseDeadLetters(clickhouse, pipeline)

    async def load(self) -> Sequence[Watermark]:
        """The newest row of every member, the newest of all last."""
        await catch_up(self._clickhouse, WATERMARKS)
        rows = await self._clickhouse.fetch(
            "SELECT table, member, members, toUnixTimestamp64Micro(argMax(tuple(complete_until), updated_at).1),"
            " toUnixTimestamp64Micro(max(updated_at))"
            f" FROM {WATERMARKS} WHERE pipeline = {quote_text(self._pipeline)}"
            " GROUP BY table, members, member ORDER BY max(updated_at), member",
            doing="loading watermarks",
        )
        return [
            Watermark(table, member, members, None if until is None else until / MICROSECONDS, saved_at / MICROSECONDS)
            for table, member, members, until, saved_at in rows
        ]

    async def save(self, rows: Sequence[Watermark]) -> None:
        """Append rows, updated now by ClickHouse's clock."""
        values = [
            {
                "pipeline": self._pipeline,
                "table": row.table,
                "member": row.member,
                "members": row.members,
                "complete_until": None if row.complete_until is None else time_text(row.complete_until),
            }
            for row in rows
        ]
        await append_rows(self._clickhouse, WATERMARKS, values, "saving watermarks")

    async def open_dead_letters(self) -> Collection[tuple[str, SourceId]]:
        """Tables and sources with open dead letters; table "" for a record that names none."""
        return await self._dead_letters.open_sources()

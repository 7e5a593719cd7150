"""``dyncdc_histories`` in ClickHouse: since when each history has the changes of its table, and what it held."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dyncdc.pipeline.destinations.bindings import DestinationContents, DestinationState
from dyncdc.pipeline.destinations.history_monitor import KeptHistory
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse

from .destinations import ClickHouseDestinations
from .rows import MICROSECONDS, append_rows, catch_up, time_text
from .tables import HISTORIES


class ClickHouseHistories:
    """The histories of one pipeline. Implements ``history_monitor.HistoryStore``."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._tables = ClickHouseDestinations(clickhouse, {})

    async def look(self, histories: Collection[str]) -> Mapping[str, DestinationState]:
        """One query for all."""
        return await self._tables.read_state(histories)

    async def caught_up(self, history: str) -> bool:
        """Whether no part is on its way from another replica."""
        return await self._tables.caught_up(history)

    async def kept(self) -> Sequence[KeptHistory]:
        """The newest row of each."""
        await catch_up(self._clickhouse, HISTORIES)
        rows = await self._clickhouse.fetch(
            "SELECT `table`, history, uuid, number, toUnixTimestamp64Micro(since), reason, mapKeys(blocks),"
            f" mapValues(blocks), rows, revision, toUnixTimestamp64Micro(saved_at) FROM {HISTORIES}"
            f" WHERE pipeline = {quote_text(self._pipeline)}"
            " ORDER BY number DESC, revision DESC, saved_at DESC LIMIT 1 BY `table`, history",
            doing="loading since when each history is whole",
        )
        return [
            KeptHistory(
                table,
                history,
                uuid,
                number,
                since / MICROSECONDS,
                reason,
                DestinationContents(dict(zip(partitions, blocks, strict=True)), held_rows, live=True),
                revision,
                saved_at / MICROSECONDS,
            )
            for table, history, uuid, number, since, reason, partitions, blocks, held_rows, revision, saved_at in rows
        ]

    async def keep(self, rows: Sequence[KeptHistory]) -> None:
        """Append rows in one insert."""
        values = [
            {
                "pipeline": self._pipeline,
                "table": row.table,
                "history": row.history,
                "uuid": row.uuid,
                "number": row.number,
                "since": time_text(row.since),
                "reason": row.reason,
                "blocks": row.held.blocks,
                "rows": row.held.rows,
                "revision": row.revision,
            }
            for row in rows
        ]
        await append_rows(self._clickhouse, HISTORIES, values, f"saving what {len(rows)} histories hold")

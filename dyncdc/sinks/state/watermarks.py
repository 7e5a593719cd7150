"""``dyncdc_watermarks`` in ClickHouse: up to when each table is complete, as each member says of its own shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dyncdc.model.shards import SourceId
from dyncdc.model.watermarks import Watermark
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse

from .rows import MICROSECONDS, append_rows, catch_up, size_of, time_text, until_made_again
from .tables import DEAD_LETTERS, WATERMARKS


class ClickHouseWatermarks:
    """The watermarks of one pipeline. Implements ``WatermarkStore``."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._dead_letters: frozenset[tuple[str, SourceId]] = frozenset()
        self._letters_size: tuple[int, int] | None = None
        """Of the table of dead letters, just before it was read."""

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
        """Tables and sources with open dead letters; table "" for a record that names none.

        Asked every few seconds: dead letters, closed ones included, are read only where the table has changed since.
        """
        with until_made_again():
            await catch_up(self._clickhouse, DEAD_LETTERS)
            size = await size_of(self._clickhouse, DEAD_LETTERS)
            if size is not None and size == self._letters_size:
                return self._dead_letters
            rows = await self._clickhouse.fetch(
                f"SELECT DISTINCT table, source FROM (SELECT id, any(table) AS table, any(source) AS source"
                f" FROM {DEAD_LETTERS} WHERE pipeline = {quote_text(self._pipeline)}"
                " GROUP BY id HAVING max(replayed_at) IS NULL)",
                doing="looking for open dead letters",
            )
        self._dead_letters = frozenset((table, SourceId(source)) for table, source in rows)
        self._letters_size = size
        return self._dead_letters

"""``dyncdc_settings`` in ClickHouse: the settings that decided the rows, with their time."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.pipeline.destinations.row_settings import RecordedSettings, RowSettings
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError

from .rows import MICROSECONDS, append_rows, catch_up
from .tables import SETTINGS


class ClickHouseRowSettings:
    """The settings of one pipeline's tables. Append-only."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline

    async def load(self, table: str) -> Sequence[RecordedSettings]:
        """Everything that was noted of a table, DynamoDB's name, the oldest first."""
        await catch_up(self._clickhouse, SETTINGS)
        try:
            rows = await self._clickhouse.fetch(
                "SELECT destination_uuid, settings, toUnixTimestamp64Micro(recorded_at), member, number"
                f" FROM {SETTINGS} FINAL WHERE pipeline = {quote_text(self._pipeline)} AND table = {quote_text(table)}"
                " ORDER BY number, recorded_at, member",
                doing="loading the settings of former sessions",
            )
        except TableGoneError:
            return ()  # as a version left it that had none
        return [
            RecordedSettings(str(uuid), RowSettings.of_text(str(settings)), at / MICROSECONDS, int(member), int(number))
            for uuid, settings, at, member, number in rows
        ]

    async def save(self, table: str, noted: RecordedSettings) -> None:
        """Append what a session goes by, noted now by ClickHouse's clock."""
        row = {
            "pipeline": self._pipeline,
            "table": table,
            "member": noted.member,
            "number": noted.number,
            "destination_uuid": noted.uuid,
            "settings": noted.settings.text(),
        }
        await append_rows(self._clickhouse, SETTINGS, [row], f"noting the settings of {table}")

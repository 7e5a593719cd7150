"""Inserts that a loss of power does not take back: settings of tables.

Those of dyncdc's own that are written seldom are made with them; all others where ``clickhouse.insert_fsync`` is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dyncdc.schema.sql.quoting import on_cluster, qualified, quote_text

from .client import ClickHouse

FSYNC: Final = "fsync_after_insert = 1, fsync_part_directory = 1"
"""The part's files, and the directory that makes them a part. Source: system.merge_tree_settings, 23.8 and 26.9."""

_IS_SET: Final = " AND ".join(
    f"match(engine_full, '{name} = (1|true)')" for name in ("fsync_after_insert", "fsync_part_directory")
)


def with_fsync(statements: Iterable[str]) -> list[str]:
    """Statements of ours, in which every table is made with these settings: each ends in its SETTINGS."""
    return [f"{text}, {FSYNC}" if _lacks_fsync(text) else text for text in statements]


def _lacks_fsync(statement: str) -> bool:
    return statement.startswith("CREATE TABLE ") and not statement.endswith(FSYNC)


async def without_fsync(clickhouse: ClickHouse, tables: Iterable[str]) -> list[str]:
    """Which of these tables lack one of the settings; those that are not there, or keep no parts, lack nothing."""
    names = ", ".join(map(quote_text, tables))
    rows = await clickhouse.fetch(
        f"SELECT name FROM system.tables WHERE database = currentDatabase() AND name IN ({names})"
        f" AND engine LIKE '%MergeTree' AND engine NOT LIKE 'Shared%' AND NOT ({_IS_SET}) ORDER BY name",
        doing="looking for tables without fsync",
    )
    return [name for (name,) in rows]


def set_fsync(table: str, cluster: str | None) -> str:
    """Return the statement that gives a table the settings. It needs the grant ALTER SETTINGS."""
    return f"ALTER TABLE {qualified(table)}{on_cluster(cluster)} MODIFY SETTING {FSYNC}"

"""How rows of dyncdc's own tables are written and read: JSON by column, times as text in UTC, never from a replica that
lags.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import orjson

from dyncdc.errors import FatalError, RefusedError, RejectedRowsError, RetryableError
from dyncdc.schema.sql.quoting import quote_name, quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import SchemaChangedError, TableGoneError

MICROSECONDS: Final = 1_000_000

ORDINAL_BITS: Final = 64
"""A rank holds the epoch of a session above these bits, and the number of the row in the session in them."""


def time_text(seconds: float) -> str:
    """A time as a DateTime64 column in UTC reads it; a bare number of seconds is not read alike for all magnitudes."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@contextmanager
def until_made_again() -> Iterator[None]:
    """A table of dyncdc's own that someone dropped is waited for: everything else goes on. Raises RetryableError."""
    try:
        yield
    except TableGoneError as error:
        raise RetryableError(str(error), hint="make the table again: `dyncdc ddl --apply`") from None


async def append_rows(clickhouse: ClickHouse, table: str, rows: Sequence[Mapping[str, object]], doing: str) -> None:
    """Append rows of one set of columns in one insert.

    Its token is its own: what is said again, or was said by a process that is no more, must not be dropped as a repeat.

    Raises TableGoneError only where the table itself is gone, which another session makes again. RefusedError where it
    is there: what is said is what it always was, so a materialized view of it is to be fixed.
    """
    columns = ", ".join(map(quote_name, rows[0]))
    values = b"\n".join(map(orjson.dumps, rows)).decode()
    statement = f"INSERT INTO {table} ({columns}) FORMAT JSONEachRow {values}"
    token = {"insert_deduplication_token": secrets.token_hex(16)}
    try:
        await clickhouse.execute(statement, settings=token, doing=doing)
    except (SchemaChangedError, RejectedRowsError, FatalError) as error:
        if not error.code or not await _is_there(clickhouse, table):
            raise
        hint = f"{table} itself is there: look at its materialized views and what they write to"
        refused = RefusedError(str(error), hint=hint)
        refused.code = error.code
        raise refused from error


async def _is_there(clickhouse: ClickHouse, table: str) -> bool:
    """Whether the table is there: a view of the user's over it answers an insert as a missing table does."""
    rows = await clickhouse.fetch(
        f"SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = {quote_text(table)}",
        doing=f"looking at {table}",
    )
    return bool(rows)


async def catch_up(clickhouse: ClickHouse, table: str) -> None:
    """Wait until the replica that we are connected to has all rows that any replica has acknowledged.

    A position from before the last save would only be read again; a table that looks empty would mean a fresh start.
    """
    rows = await clickhouse.fetch(
        f"SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = {quote_text(table)}",
        doing=f"looking at {table}",
    )
    if rows and str(rows[0][0]).startswith(("Replicated", "Shared")):
        await clickhouse.execute(
            f"SYSTEM SYNC REPLICA {table} LIGHTWEIGHT", doing=f"waiting for this replica of {table}"
        )


async def size_of(clickhouse: ClickHouse, table: str) -> tuple[int, int] | None:
    """Rows and bytes of a table as this replica has it, without reading it: another size, other rows. None: unknown."""
    rows = await clickhouse.fetch(
        "SELECT total_rows, total_bytes FROM system.tables WHERE database = currentDatabase()"
        f" AND name = {quote_text(table)}",
        doing=f"looking at {table}",
    )
    return None if not rows or None in rows[0] else (int(rows[0][0]), int(rows[0][1]))

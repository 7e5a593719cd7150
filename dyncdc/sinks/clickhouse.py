"""ClickHouseSink: blocks into tables, one statement each. Values are checked before, by the decoder, not here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

from ..errors import RejectedRowsError
from ..model import Block
from ..pipeline.batch import by_presence
from .codes import SchemaChangedError, TableGoneError, UnknownCodeError
from .column_watch import ColumnWatch
from .connection import ClickHouse
from .names import qualified, quote_name
from .own_rows import until_made_again
from .own_tables import DEAD_LETTERS
from .protocol import Statement

INSERT_COPIES: Final = 0.25
"""Memory that one insert takes while it is sent, beside its block, as a multiple of the statement: an upper bound.

Measured at 4 MiB: 0.1 to 0.21, with and without an emoji, with asyncio and uvloop. It is a few ``PIECE_BYTES``, so
larger statements need less. Joining blocks into one, which the writer does, is not part of it.
"""

INSERT_SETTINGS: Final = {"date_time_input_format": "best_effort"}
"""Times carry their zone, which the basic format drops; the default only since ClickHouse 26."""


class ClickHouseSink:
    """Implements ``ports.Sink``."""

    def __init__(self, clickhouse: ClickHouse, watch: ColumnWatch | None = None) -> None:
        """``watch``: tells whether the destinations are still what their rows are made for."""
        self._clickhouse = clickhouse
        self._watch = watch

    async def insert(self, block: Block, token: str) -> None:
        """Insert the block's rows under a deduplication token. Returning means durable.

        Raises RetryableError (which includes "timed out, may have been applied", SchemaChangedError, and a dead-letter
        table that is gone: everything else goes on meanwhile), RejectedRowsError, FatalError, and of these
        DestinationChangedError when the block was made for another table than there is.
        """
        if not block.rows:
            return
        try:
            for part in by_presence(block):
                left = [name for name in block.columns if name not in part.columns]
                await self._insert(part, f"{token}/without {','.join(left)}" if left else token)
        except (SchemaChangedError, RejectedRowsError, UnknownCodeError, TableGoneError):
            await self._check(block)  # a row is not to blame for a column that was changed under it
            raise
        await self._check(block)

    async def _check(self, block: Block) -> None:
        if self._watch is not None:
            await self._watch.check(block)

    async def _insert(self, block: Block, token: str) -> None:
        with until_made_again() if block.table == DEAD_LETTERS else nullcontext():
            await self._clickhouse.execute(
                insert_statement(block),
                settings={**INSERT_SETTINGS, "insert_deduplication_token": token},
                doing=f"inserting {block.rows:,} rows into {block.table}",
                columns=block.columns,
            )


def insert_statement(block: Block) -> Statement:
    """Return the insert of a block; its cells are not copied."""
    columns = ", ".join(map(quote_name, block.columns))
    return Statement.of(
        f"INSERT INTO {qualified(block.table)} ({columns}) FORMAT JSONCompactColumns ", tuple(_body(block.cells))
    )


def _body(cells: list[bytes]) -> Iterator[bytes]:
    between = b"[["
    for cell in cells:
        yield between
        yield cell
        between = b"],["
    yield b"]]"

"""ClickHouseSink: blocks into tables, one statement each. Values are checked before, by the decoder, not here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Final

from dyncdc.errors import DyncdcError, FatalError, RefusedError, RejectedRowsError, RetryableError, TooLargeError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.writing.batch import by_presence
from dyncdc.schema.sql.quoting import qualified, quote_name
from dyncdc.schema.types.encodings import dump_rows
from dyncdc.sinks.client.asynch_connection import Statement
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import SchemaChangedError, TableGoneError
from dyncdc.sinks.client.query_settings import Settings
from dyncdc.sinks.state.rows import until_made_again
from dyncdc.sinks.state.tables import DEAD_LETTERS
from dyncdc.sinks.tables.schema_check import SchemaCheck

INSERT_COPIES: Final = 0.25
"""Memory that one insert takes while it is sent, beside its block, as a multiple of the statement: an upper bound.

Measured at 4 MiB: 0.1 to 0.21, with and without an emoji, with asyncio and uvloop. It is a few ``PIECE_BYTES``, so
larger statements need less. Joining blocks into one, which the writer does, is not part of it.
"""

INSERT_SETTINGS: Final = {"date_time_input_format": "best_effort"}
"""Times carry their zone, which the basic format drops; the default only since ClickHouse 26."""

ROWS_AT_ONCE: Final = 1000
"""Rows that are written before others have their turn."""

MANY_PARTITIONS: Final = {"max_partitions_per_insert_block": 0}
"""A table, or the target of its view, that is partitioned by day gets a year's items in one statement."""

PAST_VIEWS: Final = {"materialized_views_ignore_errors": 1}

NOT_ALLOWED: Final = frozenset({164, 452, 472})
"""Answers to a setting that the user may not change: READONLY, SETTING_CONSTRAINT_VIOLATION, READONLY_SETTING."""

TOO_MANY_PARTS: Final = 252
"""Also what too many partitions for one statement are answered with."""


class ClickHouseSink:
    """Implements ``ports.Sink``."""

    def __init__(self, clickhouse: ClickHouse, watch: SchemaCheck | None = None) -> None:
        """``watch``: tells whether the destinations are still what their rows are made for."""
        self._clickhouse = clickhouse
        self._watch = watch
        self._partitions: Settings = MANY_PARTITIONS
        """Empty once the user turned out not to be allowed to say so."""

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        """Insert the block's rows under a deduplication token. Returning means durable.

        ``past_views``: what a materialized view of the table refuses does not count.

        Raises RetryableError (which includes "timed out, may have been applied", SchemaChangedError, and a dead-letter
        table that is gone: everything else goes on meanwhile), RejectedRowsError, FatalError, and of these
        DestinationChangedError when the block was made for another table than there is.
        """
        if not block.rows:
            return
        try:
            settings = PAST_VIEWS if past_views else {}
            parts = by_presence(block)
            if parts is None:
                await self._insert(block, await _row_by_row(block), token, settings)
            for part in parts or ():
                left = [name for name in block.columns if name not in part.columns]
                part_token = f"{token}/without {','.join(left)}" if left else token
                await self._insert(part, insert_statement(part), part_token, settings)
        except (SchemaChangedError, RejectedRowsError, RefusedError, FatalError) as error:
            if isinstance(error, FatalError) and not error.code:
                raise
            await self._check(block)  # a row is not to blame for a column that was changed under it
            raise await self._of_table(error, block.table) from error
        await self._check(block)

    async def _check(self, block: Block) -> None:
        if self._watch is not None:
            await self._watch.check(block)

    async def _of_table(self, error: DyncdcError, table: str) -> DyncdcError:
        """What an answer means for a table that is as it was: it waits, whatever a person must do, and others go on.

        The statement is what it always was. So an expression, a view, or a grant of the table is to be fixed. Of a
        history, which no one watches, it is enough that it is there.
        """
        if isinstance(error, TableGoneError | SchemaChangedError):
            if self._watch is None or not (self._watch.knows(table) or await self._watch.is_there(table)):
                return error
            hint = f"{table} itself is as it was: look at its materialized views and what they write to"
            return _as(RetryableError, error, hint)
        return _as(RefusedError, error, error.hint) if isinstance(error, FatalError) else error

    async def _insert(self, block: Block, statement: Statement, token: str, settings: Settings) -> None:
        try:
            await self._execute(block, statement, token, {**self._partitions, **settings})
        except (RetryableError, FatalError) as error:
            if error.code in NOT_ALLOWED and self._partitions:
                self._partitions = {}
                await self._insert(block, statement, token, settings)
            elif error.code in NOT_ALLOWED and settings:
                raise _as(RefusedError, error, error.hint) from error
            elif error.code == TOO_MANY_PARTS and not self._partitions:  # perhaps too many partitions
                raise _as(TooLargeError, error, error.hint) from error
            else:
                raise

    async def _execute(self, block: Block, statement: Statement, token: str, settings: Settings) -> None:
        with until_made_again() if block.table == DEAD_LETTERS else nullcontext():
            await self._clickhouse.execute(
                statement,
                settings={**INSERT_SETTINGS, **settings, "insert_deduplication_token": token},
                doing=f"inserting {block.rows:,} rows into {block.table}",
                columns=block.columns,
            )


def _as(kind: type[DyncdcError], error: DyncdcError, hint: str) -> DyncdcError:
    found = kind(str(error), hint=hint)
    found.code = error.code
    return found


def insert_statement(block: Block) -> Statement:
    """Return the insert of a block; its cells are not copied."""
    return Statement.of(f"{_head(block)} FORMAT JSONCompactColumns ", tuple(_body(block.cells)))


async def _row_by_row(block: Block) -> Statement:
    """Return the insert of a block in which a row without a value of an optional column says nothing of it."""
    rows = dump_rows(block.columns, block.cells, block.optional)
    body = []
    while piece := b"".join(islice(rows, ROWS_AT_ONCE)):
        body.append(piece)
        await asyncio.sleep(0)
    return Statement.of(f"{_head(block)} FORMAT JSONEachRow ", body)


def _head(block: Block) -> str:
    columns = ", ".join(map(quote_name, block.columns))
    return f"INSERT INTO {qualified(block.table)} ({columns})"


def _body(cells: list[bytes]) -> Iterator[bytes]:
    between = b"[["
    for cell in cells:
        yield between
        yield cell
        between = b"],["
    yield b"]]"

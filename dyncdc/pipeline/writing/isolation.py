"""Isolation: which rows a refusal is about, found by sending parts of the statement, whatever the code.

A table that is broken, and an outage, refuse every part alike: then nothing is known of the rows, and all of them wait.
What ClickHouse refuses for good by a code of its own for rows needs no comparison, unless it is a view that refuses it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, Protocol

from dyncdc.errors import RefusedError, RejectedRowsError, TooLargeError
from dyncdc.model.blocks import Block

from .batch import join, take, winners

SAMPLE_ROWS: Final = 8
"""So many rows, chosen at random, are sent alone: when none of them is taken, the table takes nothing."""

ROUNDS: Final = 3
ROUND_SECONDS: Final = 1.0
"""A row is to blame when it is refused alone in so many rounds, between which a good row is taken each time."""

LOOK_AFTER: Final = 16
"""After so many refusals in a row a good row is sent: an outage may have begun."""

Row = tuple[int, int]
"""Number of the block, and of the row in it."""

Refusal = RejectedRowsError | RefusedError


class Insert(Protocol):
    """Sends rows until ClickHouse has answered, and raises what it refuses: RejectedRowsError, RefusedError."""

    async def __call__(self, block: Block, token: str, *, past_views: bool) -> None:
        """``token`` and ``past_views`` as in ``Sink.insert``."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row that was refused alone, under this token."""

    token: str
    error: Refusal


class Isolation:
    """One attempt to divide a statement that was refused. Nothing else is inserted into its table meanwhile.

    Only the rows that would win are sent, so that their order does not matter. Those that they would replace count
    again where the winner is refused: see ``left``.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tokens: Iterator[str],
        insert: Insert,
        *,
        on_taken: Callable[[Iterable[tuple[int, Block]]], None],
        on_refused: Callable[[Row, RejectedRowsError], None],
    ) -> None:
        self._blocks = blocks
        self._tokens = tokens
        self._insert = insert
        self._on_taken = on_taken
        self._on_refused = on_refused
        self._rows = winners(blocks)
        self._taken: set[Row] = set()
        self._refused: set[Row] = set()
        self._in_table: set[Row] = set()
        self._suspects: dict[Row, Suspect] = {}
        self._streak = 0
        self._compared = False

    async def run(self, token: str, error: RejectedRowsError | RefusedError) -> bool:
        """Find what there is to find; return whether anything was. ``error``: what the whole was refused with."""
        if isinstance(error, RejectedRowsError | TooLargeError):
            await self._divide(self._rows, (token, error))
        elif await self._compare():
            await self._divide([row for row in self._rows if row not in self._taken and row not in self._suspects])
        if self._suspects and self._taken:
            await self._confirm()
        return bool(self._taken or self._refused)

    def left(self) -> Iterator[tuple[int, Block]]:
        """Yield what is neither durable nor refused, each with the number of its block: in the order of delivery."""
        present = self._taken | (self._refused & self._in_table)
        keys = {self._blocks[number].keys[row] for number, row in present if self._blocks[number].keys}
        done = present | self._refused
        for number, block in enumerate(self._blocks):
            rows = [row for row in range(block.rows) if (number, row) not in done]
            if block.keys:
                rows = [row for row in rows if block.keys[row] not in keys]
            if rows:
                yield number, take(block, rows)

    async def _compare(self) -> bool:
        """Send some rows alone until one is taken; return whether one was. A single row has nothing to compare with."""
        self._compared = True
        untried = [row for row in self._rows if row not in self._suspects and row not in self._refused]
        for row in random.sample(untried, min(SAMPLE_ROWS, len(untried))) if len(self._rows) > 1 else ():
            token = next(self._tokens)
            error = await self._send([row], token)
            if error is None:
                return True
            await self._judge(row, token, error)
        return False

    async def _divide(self, rows: list[Row], refusal: tuple[str, Refusal] | None = None) -> None:
        """Halve what is refused, in order, down to single rows; stop when the table takes nothing.

        ``refusal``: of all these rows together, when they have been sent already.
        """
        pending = [rows] if rows else []
        while pending:
            piece = pending.pop()
            token, error = refusal or (token := next(self._tokens), await self._send(piece, token))
            refusal = None
            if error is not None and len(piece) > 1:
                middle = len(piece) // 2
                pending += [piece[middle:], piece[:middle]]
            elif error is not None:
                await self._judge(piece[0], token, error)
                if await self._hopeless():
                    self._suspects.clear()
                    return

    async def _judge(self, row: Row, token: str, error: Refusal) -> None:
        """Say what a row is that was refused alone."""
        if isinstance(error, RefusedError):
            if not isinstance(error, TooLargeError):
                self._suspects[row] = Suspect(token, error)
        elif await self._past_views(row):
            self._suspects[row] = Suspect(token, error)
        else:
            self._refuse(row, error)

    async def _hopeless(self) -> bool:
        """Whether it is likelier that the table takes nothing than that so many rows are bad."""
        if not self._taken:
            return len(self._suspects) >= SAMPLE_ROWS and (self._compared or not await self._compare())
        if self._streak < LOOK_AFTER:
            return False
        self._streak = 0
        return not await self._good_row_taken()

    async def _confirm(self) -> None:
        """See that the suspects, and they alone, are refused again and again."""
        for _ in range(ROUNDS):
            await asyncio.sleep(ROUND_SECONDS)
            if not await self._good_row_taken():
                return
            for row, suspect in list(self._suspects.items()):
                if await self._send([row], suspect.token) is None:
                    del self._suspects[row]
        if not await self._good_row_taken():
            return
        for row, suspect in sorted(self._suspects.items()):
            await self._past_views(row)
            self._refuse(row, suspect.error)

    async def _good_row_taken(self) -> bool:
        """Send a row again that was taken in this assignment: what stands is not changed by it."""
        return await self._send([min(self._taken)], next(self._tokens)) is None

    async def _past_views(self, row: Row) -> bool:
        """Whether the table itself takes the row. It then holds it, as it would if no view had refused it."""
        if await self._send([row], next(self._tokens), past_views=True) is not None:
            return False
        self._in_table.add(row)
        return True

    def _refuse(self, row: Row, error: Refusal) -> None:
        view = " (in a materialized view: the row is in the table)" if row in self._in_table else ""
        self._refused.add(row)
        column = error.column if isinstance(error, RejectedRowsError) else ""
        found = RejectedRowsError(f"{error}{view}", hint=error.hint, column=column)
        found.code = error.code
        self._on_refused(row, found)

    async def _send(self, rows: list[Row], token: str, *, past_views: bool = False) -> Refusal | None:
        """Send some rows; return what they are refused with."""
        pieces = [
            (number, take(self._blocks[number], [row for _, row in some]))
            for number, some in groupby(sorted(rows), key=itemgetter(0))
        ]
        try:
            await self._insert(join([block for _, block in pieces]), token, past_views=past_views)
        except (RejectedRowsError, RefusedError) as error:
            self._streak += 1
            return error
        if not past_views:
            self._streak = 0
            if not self._taken.issuperset(rows):
                self._taken.update(rows)
                self._on_taken(pieces)
        return None

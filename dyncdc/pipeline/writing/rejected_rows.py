"""Rows that ClickHouse rejects become dead letters that hold the records they were made of.

The record itself is long gone by then, so it is read again from its source: docs/decisions tells why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from dyncdc.errors import CorruptSnapshotError, FatalError, PositionLostError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.model.shards import Position, Shard, SourceId
from dyncdc.pipeline.ports.source import Rereading
from dyncdc.pipeline.runtime import Backoff

REREAD_SECONDS = 10.0
"""How long the records of one statement's rejected rows are looked for. Without it a dead letter holds the row."""

ROWS_AT_ONCE = 100
BYTES_AT_ONCE = 2**20
"""Records in memory beside the budget: those of so many rows, or of rows of so many bytes, whichever is less."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that ClickHouse refuses, alone in its block. ``position``: its record's, or its chunk's end if unknown."""

    block: Block
    shard: Shard
    position: Position
    error: RejectedRowsError


class DeadLetterSource(Protocol):
    """Makes the dead letter of a row that ClickHouse refuses."""

    def name(self, row: RejectedRow) -> DeadLetter:
        """Return table and reason of the dead letter to be. The ordinal means nothing."""

    def __call__(self, row: RejectedRow, record: bytes | None) -> Block:
        """Return the dead letter. ``record``: what the row was made of, None where it cannot be had any more."""


async def dead_letters_of(
    rows: Sequence[RejectedRow], sources: Mapping[SourceId, Rereading], dead_letter_of: DeadLetterSource
) -> AsyncGenerator[list[Block], None]:
    """Yield the dead letters of all rows, one block each, as many at a time as may be in memory."""
    by_shard: dict[Shard, list[RejectedRow]] = {}
    for row in rows:
        by_shard.setdefault(row.shard, []).append(row)
    deadline = asyncio.get_running_loop().time() + REREAD_SECONDS
    for shard, refused in by_shard.items():
        for some in _slices(refused):
            source = sources.get(shard.source)
            records: Mapping[Position, bytes] = {}
            if source is not None:
                records = await _read_again(source, shard, [row.position for row in some], deadline)
            yield [dead_letter_of(row, records.get(row.position)) for row in some]


def _slices(rows: Sequence[RejectedRow]) -> Iterator[list[RejectedRow]]:
    some: list[RejectedRow] = []
    nbytes = 0
    for row in rows:
        nbytes += row.block.nbytes
        if some and (len(some) >= ROWS_AT_ONCE or nbytes > BYTES_AT_ONCE):
            yield some
            some, nbytes = [], row.block.nbytes
        some.append(row)
    yield some


async def _read_again(
    source: Rereading, shard: Shard, positions: Sequence[Position], deadline: float
) -> dict[Position, bytes]:
    """The records that can still be had before the deadline."""
    found: dict[Position, bytes] = {}
    backoff = Backoff(first_seconds=0.2, ceiling_seconds=2.0)
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    missing = [position for position in positions if position not in found]
                    await _collect(source, shard, missing, found)
                except RetryableError:  # throttled: the shard's own reader goes on meanwhile
                    await asyncio.sleep(backoff.next_seconds())
                else:
                    return found
    except (TimeoutError, PositionLostError, CorruptSnapshotError, FatalError):
        return found


async def _collect(
    source: Rereading, shard: Shard, positions: Sequence[Position], found: dict[Position, bytes]
) -> None:
    async with aclosing(source.reread(shard, positions)) as records:
        async for position, record in records:
            found[position] = record  # noqa: PERF403  # what came before an error stays

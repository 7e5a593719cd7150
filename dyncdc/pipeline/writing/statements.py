"""Statements: the rows of a batch become durable, those that ClickHouse refuses as dead letters."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

from dyncdc.errors import RefusedError, RejectedRowsError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.runtime import Backoff, Instruments
from dyncdc.telemetry.task_health import TaskProgress

from .batch import collapse, join, statement, take
from .inserts import Inserts
from .isolation import Isolation, Refusal, Row
from .open_batch import OpenBatch, OpenBatches, Part
from .rejections import Rejections

DIVIDE_AFTER_SECONDS = 5.0
"""A statement that has been refused for so long, by codes that may be of its rows, is divided."""

DIVIDE_AGAIN_SECONDS = 60.0
"""The longest until it is divided again, after attempts in which nothing was taken."""


class StatementWriter:
    """Makes batches durable, one statement after the other. ``token_prefix``: of this session alone."""

    def __init__(
        self,
        batches: OpenBatches,
        inserts: Inserts,
        rejections: Rejections,
        instruments: Instruments,
        *,
        token_prefix: str,
        statement_bytes: int,
    ) -> None:
        self._batches = batches
        self._inserts = inserts
        self._capacity = inserts.capacity
        self._rejections = rejections
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._clock = instruments.clock
        self._token_prefix = token_prefix
        self._statement_bytes = statement_bytes
        self._ordinal = 0

    async def write(self, batch: OpenBatch, task: TaskProgress) -> None:
        """Make a batch durable; a receipt is acknowledged once the statement that holds its block has returned."""
        while batch.parts:
            parts = statement(batch.parts, self._statement_bytes)
            token = self._token()
            await self._write(batch, parts, token, task)
            await self._rejections.save(batch.table, token, task)
            self._metrics.arrived(batch.table, max(block.created for block, _ in parts), self._clock())
            batch.settle(parts)
            self._capacity.freed()

    def _token(self) -> str:
        self._ordinal += 1
        return f"{self._token_prefix}/{self._ordinal}"

    async def _write(self, batch: OpenBatch, parts: list[Part], token: str, task: TaskProgress) -> None:
        """Make the rows durable, those aside that are refused: they are kept in the rejections.

        ``parts`` grows when there is nothing to compare refused rows with, by what has come since.
        """
        left, divide_after_seconds = list(parts), DIVIDE_AFTER_SECONDS
        tokens = _below(token)
        while left:
            try:
                block = join(collapse([block for block, _ in left]))
                await self._inserts.insert(block, token, task, give_up_seconds=divide_after_seconds)
            except (RejectedRowsError, RefusedError) as error:
                self._metrics.error("insert", error)
                self._inserts.note_refusal(batch.table, task, error)
                found, left = await self._isolate(left, (token, tokens), task, error)
                if left and not found:
                    await self._rest(batch.table, error, divide_after_seconds)
                    divide_after_seconds = min(2 * divide_after_seconds, DIVIDE_AGAIN_SECONDS)
                    found = self._widen(batch, parts, left)
                if found:  # other rows than before
                    token = self._token()
                    tokens = _below(token)
            else:
                self._accept(batch.table, left)
                return
        self._capacity.refused.pop(batch.table, None)

    async def _isolate(
        self, parts: list[Part], tokens: tuple[str, Iterator[str]], task: TaskProgress, error: Refusal
    ) -> tuple[bool, list[Part]]:
        """Divide what is refused. Return whether that told anything, and what is still to be made durable.

        ``tokens``: that of the whole, and those for parts of it.
        """

        async def insert(block: Block, token: str, *, past_views: bool) -> None:
            await self._inserts.insert(block, token, task, past_views=past_views, give_up_seconds=0.0)

        def on_refused(row: Row, error: RejectedRowsError) -> None:
            block, receipt = parts[row[0]]
            self._rejections.add(take(block, [row[1]]), receipt, error)

        table = parts[0][0].table
        isolation = Isolation(
            [block for block, _ in parts],
            tokens[1],
            insert,
            on_taken=lambda taken: self._accept(table, [(block, parts[number][1]) for number, block in taken]),
            on_refused=on_refused,
        )
        found = await isolation.run(tokens[0], error)
        return found, [(block, parts[number][1]) for number, block in isolation.left()]

    def _accept(self, table: str, parts: Sequence[Part]) -> None:
        self._rejections.limiter.count_accepted(table, ((receipt.shard, block.positions) for block, receipt in parts))

    async def _rest(self, table: str, error: Refusal, longest_seconds: float) -> None:
        """Pause, since the table takes nothing: for long where no other pause was."""
        backoff = Backoff(longest_seconds, longest_seconds) if isinstance(error, RejectedRowsError) else Backoff()
        pause_seconds = backoff.next_seconds()
        self._health.log_retry(f"insert:{table}", error, pause_seconds)
        await asyncio.sleep(pause_seconds)

    def _widen(self, batch: OpenBatch, parts: list[Part], left: list[Part]) -> bool:
        """Let rows that came since join those that wait; return whether any did."""
        self._batches.absorb_newer(batch)
        held = sum(len(cell) for block, _ in left for cell in block.cells)
        more: list[Part] = []
        while batch.parts and batch.parts[0][0].columns == left[0][0].columns:
            held += sum(map(len, batch.parts[0][0].cells))
            if held > self._statement_bytes:
                break
            more.append(batch.parts.popleft())
        parts += more
        left += more
        return bool(more)


def _below(token: str) -> Iterator[str]:
    """Tokens for parts of a statement: each for other rows."""
    return (f"{token}/{number}" for number in itertools.count(1))

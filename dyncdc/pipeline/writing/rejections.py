"""Rejections: the rows of a statement that ClickHouse refuses, until their dead letters are durable."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from dyncdc.errors import FatalError, RejectedRowsError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, SourceId
from dyncdc.pipeline.checkpoint.ledger import Receipt
from dyncdc.pipeline.ports.source import Rereading
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

from .batch import join, statement
from .dead_letter_limits import DeadLetterLimiter
from .inserts import Inserts
from .rejected_rows import DeadLetterSource, RejectedRow, dead_letters_of


@dataclass(frozen=True, slots=True)
class DeadLetterHandling:
    """What becomes of rejected rows. ``source`` makes their dead letters; ``limiter`` ends a session with too many."""

    source: DeadLetterSource
    limiter: DeadLetterLimiter


class Rejections:
    """The rejected rows of the statements under way, by table."""

    def __init__(
        self, handling: DeadLetterHandling, inserts: Inserts, health: TaskHealth, *, statement_bytes: int
    ) -> None:
        self._source = handling.source
        self.limiter = handling.limiter
        self._inserts = inserts
        self._health = health
        self._statement_bytes = statement_bytes
        self._rejected: dict[str, list[RejectedRow]] = {}
        self.sources: dict[SourceId, Rereading] = {}
        """Where records can be read again."""

    def add(self, block: Block, receipt: Receipt, error: RejectedRowsError) -> None:
        """Keep a refused row for its dead letter. Raises LimitReached when there are too many."""
        position = Position(orjson.loads(block.positions)) if block.positions else receipt.mark.position
        row = RejectedRow(block, receipt.shard, position, error)
        rejected = self._rejected.setdefault(block.table, [])
        rejected.append(row)
        dead_letter = self._source.name(row)
        self._health.diverted([dead_letter])
        self.limiter.count_rejected(block.table, row.shard, dead_letter, (rejected[0].shard, rejected[0].position))

    async def save(self, table: str, token: str, task: TaskProgress) -> None:
        """Make the dead letters of a table's rejected rows durable. ``token``: of the statement that held them."""
        rejected = self._rejected.pop(table, [])
        if not rejected:
            return
        task.waiting_for("the records of refused rows")
        number = 0
        async with aclosing(dead_letters_of(rejected, self.sources, self._source)) as slices:
            async for dead_letters in slices:
                pending = deque((dead_letter, None) for dead_letter in dead_letters)
                while pending:
                    block = join([dead_letter for dead_letter, _ in statement(pending, self._statement_bytes)])
                    number += 1
                    await self._insert(block, f"{token}/dead/{number}", task)

    async def _insert(self, dead_letters: Block, token: str, task: TaskProgress) -> None:
        try:
            await self._inserts.insert(dead_letters, token, task)
        except RejectedRowsError as error:
            raise FatalError(str(error), hint=f"{dead_letters.table} is not as dyncdc made it: move it away") from error

"""The dead letter of a row that decoded well and that ClickHouse refused all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from ..decode.dead_letters import DeadLetters
from ..model import Block, Buried
from ..pipeline.burial import RefusedRow

REFUSED: Final = "refused_by_clickhouse"
"""Reason of such a letter. Its ``raw`` is the record, as in any other; where that could not be read again, the row."""

ROW: Final = "dyncdc_row"
"""The only member of a ``raw`` that is a row: ``{"dyncdc_row": {"table": destination, "columns": {name: value}}}``."""


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """Makes letters for the writer. ``tables``: DynamoDB's name by destination; ``count`` gets it with the reason."""

    pipeline: str
    tables: Mapping[str, str]
    count: Callable[[str, str], None] = field(default=lambda _table, _reason: None)

    def name(self, row: RefusedRow) -> Buried:
        """What the letter will say."""
        table = self.tables.get(row.block.table, row.block.table)
        return Buried(0, row.position, table, REFUSED, row.error.column)

    def __call__(self, row: RefusedRow, record: bytes | None) -> Block:
        """Return the letter; its id is that of any letter of this record."""
        letter = self.name(row)
        letters = DeadLetters(self.pipeline, row.shard.source, row.shard.id)
        letters.add(
            table=letter.table,
            reason=letter.reason,
            column=letter.column,
            error=str(row.error),
            position=letter.position,
            raw=row_as_raw(row.block) if record is None else record,
        )
        self.count(letter.table, letter.reason)
        block = letters.block()
        if block is None:
            raise AssertionError("a letter was added")
        return block


def row_as_raw(block: Block) -> bytes:
    """Return a block's only row as what a letter holds instead of a record that is gone."""
    names = map(orjson.dumps, block.columns)
    columns = b",".join(b"%b:%b" % pair for pair in zip(names, block.cells, strict=True))
    return b'{"%b":{"table":%b,"columns":{%b}}}' % (ROW.encode(), orjson.dumps(block.table), columns)

"""The dead letter of a row that decoded well and that ClickHouse refused all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dyncdc.decode.dead_letters.kept_rows import row_as_raw
from dyncdc.decode.dead_letters.rows import DeadLetterRows
from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.pipeline.writing.rejected_rows import RejectedRow
from dyncdc.schema.types.reject_reasons import REFUSED_BY_CLICKHOUSE


@dataclass(frozen=True, slots=True)
class RejectedRowRecords:
    """Makes dead letters for the writer. ``tables``: DynamoDB's name by destination; ``count`` takes both."""

    pipeline: str
    tables: Mapping[str, str]
    count: Callable[[str, str], None] = field(default=lambda _table, _reason: None)
    keepable: Callable[[str, bytes], bytes] = field(default=lambda _table, record: record)
    """What a dead letter may keep of a record of a table: not what is masked or left out."""

    def name(self, row: RejectedRow) -> DeadLetter:
        """What the dead letter will say."""
        table = self.tables.get(row.block.table, row.block.table)
        return DeadLetter(0, row.position, table, REFUSED_BY_CLICKHOUSE, row.error.column)

    def __call__(self, row: RejectedRow, record: bytes | None) -> Block:
        """Return the dead letter; its id is that of any dead letter of this record."""
        dead_letter = self.name(row)
        dead_letters = DeadLetterRows(self.pipeline, row.shard.source, row.shard.id)
        dead_letters.add(
            table=dead_letter.table,
            reason=dead_letter.reason,
            column=dead_letter.column,
            error=str(row.error),
            position=dead_letter.position,
            raw=row_as_raw(row.block) if record is None else self.keepable(dead_letter.table, record),
        )
        self.count(dead_letter.table, dead_letter.reason)
        block = dead_letters.block()
        if block is None:
            raise AssertionError("a dead letter was added")
        return block

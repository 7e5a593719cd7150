"""The dead letter of a row that decoded well and that ClickHouse refused all the same."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from dyncdc.decode.dead_letter_rows import DeadLetterRows
from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.pipeline.writing.rejected_rows import RejectedRow
from dyncdc.schema.types.encodings import load_cells
from dyncdc.schema.types.reject_reasons import REFUSED_BY_CLICKHOUSE

ROW: Final = "dyncdc_row"
"""The only member of a ``raw`` that is a row: ``{"dyncdc_row": {"table": destination, "columns": {name: value}}}``.

Values that are no text at all (raw bytes) stand in base64 in a further member, ``base64``.
"""


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


def row_as_raw(block: Block) -> bytes:
    """Return a block's only row as what a dead letter holds instead of a record that is gone."""
    plain: list[bytes] = []
    encoded: dict[str, str] = {}
    for name, cell in zip(block.columns, block.cells, strict=True):
        (value,) = load_cells(cell)
        if isinstance(value, bytes):
            encoded[name] = base64.b64encode(value).decode()
        else:
            plain.append(b"%b:%b" % (orjson.dumps(name), cell))
    rest = b',"base64":' + orjson.dumps(encoded) if encoded else b""
    return b'{"%b":{"table":%b,"columns":{%b}%b}}' % (ROW.encode(), orjson.dumps(block.table), b",".join(plain), rest)


def row_of_raw(raw: bytes) -> tuple[str, dict[str, object]]:
    """Return what such a dead letter holds: the destination, and the values by column; raw bytes as bytes."""
    row = orjson.loads(raw)[ROW]
    values: dict[str, object] = dict(row["columns"])
    values |= {name: base64.b64decode(text) for name, text in row.get("base64", {}).items()}
    return str(row["table"]), values

"""The dead letter of a row that decoded well and that ClickHouse refused all the same."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ..decode.dead_letters import DEAD_LETTER_COLUMNS, DEAD_LETTER_TABLE, dead_letter_id
from ..errors import RejectedRowsError
from ..model import Block
from ..pipeline.ledger import Receipt

REFUSED = "refused_by_clickhouse"
"""Reason of such a letter. ``raw`` is the row as JSON, by column: the record itself is gone by then."""


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """Makes letters for the writer. ``tables``: DynamoDB's name by destination."""

    pipeline: str
    tables: Mapping[str, str]

    def __call__(self, block: Block, receipt: Receipt, error: RejectedRowsError) -> Block:
        """Return the letter for ``block``'s one row. Its position is its chunk's end, at or behind the record."""
        names = map(orjson.dumps, block.columns)
        raw = b"{%s}" % b",".join(b"%s:%s" % pair for pair in zip(names, block.cells, strict=True))
        table = self.tables.get(block.table, block.table)
        shard, position = receipt.shard, receipt.mark.position
        # Several rows of one chunk can be refused, so the row itself is part of the id.
        place = f"{position}/{hashlib.blake2b(raw, digest_size=16).hexdigest()}"
        texts = (
            dead_letter_id(shard.source, shard.id, place, table),
            self.pipeline,
            table,
            REFUSED,
            "",
            str(error),
            shard.source,
            shard.id,
            position,
            base64.b64encode(raw).decode(),
        )
        return Block(DEAD_LETTER_TABLE, DEAD_LETTER_COLUMNS, [orjson.dumps(text) for text in texts], 1)

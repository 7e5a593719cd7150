"""Rows of the dead-letter table: what could not become a row, whole, with the reason and where it was read."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import orjson

from dyncdc.model.blocks import Block
from dyncdc.schema.types.cells import compact, trimmed
from dyncdc.schema.types.encodings import load_cells

DEAD_LETTER_TABLE: Final = "dyncdc_dead_letters"

DEAD_LETTER_COLUMNS: Final = (
    "id",
    "pipeline",
    "table",
    "reason",
    "column",
    "error",
    "source",
    "shard",
    "position",
    "raw",
)
"""All String. ``raw`` is base64; ``received_at`` has the server's default; ``table`` is DynamoDB's name for it."""


def dead_letter_id(source: str, shard: str, position: str, table: str) -> str:
    """Return the id: the same record read again gives the same row. 32 hexadecimal digits."""
    where = orjson.dumps([source, shard, position, table])
    return hashlib.blake2b(where, digest_size=16).hexdigest()


def text_of_raw(raw: bytes) -> str:
    """Return bytes as the column ``raw`` holds them."""
    return base64.b64encode(raw).decode()


def raw_of_text(text: str) -> bytes:
    """Return the bytes that a value of the column ``raw`` stands for."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:  # someone wrote it by hand
        return text.encode()


def first_error(block: Block) -> str:
    """Return why the first dead letter of a block is one."""
    return str(load_cells(block.cells[DEAD_LETTER_COLUMNS.index("error")])[0])


class DeadLetterRows:
    """Collects dead letters of one sub-batch into one block."""

    def __init__(self, pipeline: str, source: str, shard: str) -> None:
        self._pipeline = pipeline
        self._source = source
        self._shard = shard
        self._rows: list[list[bytes]] = []

    def add(self, *, table: str, reason: str, column: str, error: str, position: str, raw: bytes) -> None:
        """Add one. ``error`` must not hold values of the item; ``raw`` is the record as it was read."""
        texts = (
            dead_letter_id(self._source, self._shard, position, table),
            self._pipeline,
            table,
            reason,
            column,
            error,
            self._source,
            self._shard,
            position,
            text_of_raw(raw),
        )
        self._rows.append(trimmed(map(orjson.dumps, texts)))

    def block(self) -> Block | None:
        """Return the rows so far as a block, None when there are none."""
        if not self._rows:
            return None
        cells = [compact(column) for column in zip(*self._rows, strict=True)]
        return Block(DEAD_LETTER_TABLE, DEAD_LETTER_COLUMNS, cells, len(self._rows))

"""Rows that a dead letter holds instead of records that are gone."""

from __future__ import annotations

import base64
from typing import Final

import orjson

from dyncdc.model.blocks import Block
from dyncdc.schema.types.encodings import load_cells

_ROW: Final = "dyncdc_row"
"""The only member of a ``raw`` that is a row: ``{"dyncdc_row": {"table": destination, "columns": {name: value}}}``.

Values that are no text at all (raw bytes) stand in base64 in a further member, ``base64``.
"""


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
    return b'{"%b":{"table":%b,"columns":{%b}%b}}' % (_ROW.encode(), orjson.dumps(block.table), b",".join(plain), rest)


def row_of_raw(raw: bytes) -> tuple[str, dict[str, object]]:
    """Return what such a dead letter holds: the destination, and the values by column; raw bytes as bytes."""
    row = orjson.loads(raw)[_ROW]
    values: dict[str, object] = dict(row["columns"])
    values |= {name: base64.b64decode(text) for name, text in row.get("base64", {}).items()}
    return str(row["table"]), values


def is_kept_row(raw: bytes) -> bool:
    """Return whether a dead letter holds its row and not its record."""
    return raw.startswith(b'{"%b":' % _ROW.encode())

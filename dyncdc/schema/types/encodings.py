"""Columns that hold something else than their type suggests: DynamoDB's typed JSON, raw bytes of B, epochs of a unit.

Raw bytes travel as the bytes of a JSON text that need not be UTF-8: ClickHouse takes them as they are (measured on
26.9), and only ``load_cells`` parses such a cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, cast

import orjson

from dyncdc.schema.table_spec import AttributeType

from .cells import Encoder
from .dynamodb_values import binary, canonical

TYPED_TYPES: Final[tuple[AttributeType, ...]] = ("S", "N", "B", "BOOL", "SS", "NS", "BS", "L", "M")
"""What a column of typed JSON takes unless its mapping names less."""

UNIT_PLACES: Final[Mapping[str, int]] = {"epoch_ms": 3, "epoch_us": 6}
"""Digits below the second, by encoding."""


def epoch_unit(numbers: Iterable[str]) -> Literal["", "epoch_ms", "epoch_us"]:
    """Return the encoding of numbers that can only be milliseconds or microseconds: as seconds they end after 5000."""
    sizes = [abs(Decimal(number)) for number in numbers if number != "0"]
    for encoding, low, high in (("epoch_ms", 10**11, 10**14), ("epoch_us", 10**14, 10**17)):
        if sizes and all(low <= size < high for size in sizes):
            return "epoch_ms" if encoding == "epoch_ms" else "epoch_us"
    return ""


def typed_encoder(tag: str) -> Encoder:
    """Values of one type into the canonical typed JSON text: ``{"N":"1"}``. Exact for every value."""

    def encode(payload: object) -> bytes:
        text = orjson.dumps(canonical({tag: payload}), option=orjson.OPT_SORT_KEYS)
        return orjson.dumps(text.decode())

    return encode


def raw_encoder(nbytes: int | None) -> Encoder:
    """B as its bytes; ``nbytes`` of a FixedString, which must be filled exactly and pads with zeros."""

    def encode(payload: object) -> bytes | None:
        found = binary(payload)
        if nbytes is not None and (len(found) != nbytes or found.endswith(b"\0")):
            return None
        return _raw_text(orjson.dumps(found.decode("latin-1")))

    return encode


def load_cells(cells: bytes) -> list[object]:
    """Parse cells joined by commas, as ``dump_cells`` writes them again, byte by byte."""
    try:
        return cast("list[object]", orjson.loads(b"[" + cells + b"]"))
    except orjson.JSONDecodeError:  # a byte is a character of its own: nothing here is escaped but ASCII
        loaded = orjson.loads("[" + cells.decode("latin-1") + "]")
        return [each if each is None else str(each).encode("latin-1") for each in loaded]


def dump_cells(values: Sequence[object]) -> bytes:
    """Write cells joined by commas; ``bytes`` as raw bytes."""
    if not any(type(value) is bytes for value in values):
        return orjson.dumps(values)[1:-1]
    texts = [value.decode("latin-1") if type(value) is bytes else value for value in values]
    return _raw_text(orjson.dumps(texts))[1:-1]


def dump_rows(columns: Sequence[str], cells: Sequence[bytes], optional: Collection[str]) -> Iterator[bytes]:
    """Write rows as JSON objects, one on a line; a value of an ``optional`` column that is null is left out."""
    loaded = map(load_cells, cells)
    for row in zip(*loaded, strict=True):
        yield orjson.dumps(
            {
                name: orjson.Fragment(dump_cells([value])) if type(value) is bytes else value
                for name, value in zip(columns, row, strict=True)
                if value is not None or name not in optional
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def _raw_text(utf8: bytes) -> bytes:
    return utf8.decode().encode("latin-1")

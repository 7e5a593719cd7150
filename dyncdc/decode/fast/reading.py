"""Objects and columns of a sub-batch read together as far as they can be, and which of them cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from .columns import Cells, NotPlainError
from .columns import Column as Encoder
from .objects import UNREADABLE, Column, Object, ObjectReader, Other


def read_objects(
    reader: ObjectReader, objects: list[Object | None], slow: set[int], *, is_open: bool = False
) -> tuple[Sequence[Column], Sequence[Other]]:
    """Return the values by name, and with ``is_open`` those of other names.

    Objects that cannot be read become None, and their rows slow.
    """
    try:
        return reader.open_columns(objects) if is_open else (reader.columns(objects), ())
    except UNREADABLE:
        for row, each in enumerate(objects):
            if each is not None and not reader.readable(each):
                slow.add(row)
                objects[row] = None
    return reader.open_columns(objects) if is_open else (reader.columns(objects), ())


def bytes_left(
    reader: ObjectReader, objects: Sequence[Object | None], columns: Sequence[Column], absent: Mapping[str, int]
) -> int:
    """Return how many bytes of all objects are not accounted for; ``absent``: in how many rows each name is not."""
    there = [each for each in objects if each is not None]
    left = len(b"".join(there)) - len(there) * reader.braces
    for name, overhead, mark, column in zip(reader.names, reader.overheads, reader.absents, columns, strict=True):
        missing = absent[name]
        left -= len(b"".join(column)) - missing * len(mark) + (len(column) - missing) * overhead
    return left


def encoded(encoder: Encoder, raws: Column) -> tuple[Cells, list[int]]:
    """Encode all values but the odd ones, whose rows are returned; they count as absent."""
    try:
        return encoder.encode(raws), []
    except NotPlainError:
        absent = encoder.absent
        odd = [row for row, raw in enumerate(raws) if raw is not absent and not encoder.plain(raw)]
    rest = list(raws)
    for row in odd:
        rest[row] = absent
    try:
        return encoder.encode(rest), odd
    except NotPlainError:  # what is plain alone need not be so together: then nothing is
        odd = [row for row, raw in enumerate(raws) if raw is not absent]
        return encoder.encode([absent] * len(raws)), odd


def parsed(raws: Sequence[msgspec.Raw], levels: int) -> list[Any] | None:
    """Parse values as deep inside a document as the exact path meets them; None if orjson refuses.

    It looks into texts more closely than msgspec, and at how deep things nest.
    """
    try:
        found: Any = orjson.loads(b"%b%b%b" % (b"[" * levels, b",".join(raws), b"]" * levels))
    except orjson.JSONDecodeError:
        return None
    for _ in range(levels - 1):
        (found,) = found
    return list(found)

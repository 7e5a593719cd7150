"""M or L into plain JSON text, many values by one parse and one dump. Numbers stay text on the way.

A number becomes a marked text in the tree, and the mark and its quotes are cut out of the dump: no object a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

import msgspec
import orjson

from ..attributes import MAX_DEPTH
from .columns import Cells, NotPlainError

PART_BYTES: Final = 32 * 1024
"""Parsed at once. Trees that are kept longer than it takes to write them again cost ten times as much (measured)."""

_NUMBER_MARK: Final = "\x7f"
_MARKS: Final = (b"\x7f", b"\\u007")
"""How a text of its own can come to hold the mark: as it is, or escaped."""

_NUMBERS: Final = re.compile(
    rb'"\x7f(?=[^"]{1,38}")(?:(-?(?:0|[1-9][0-9]*+)\.[0-9]*[1-9])0*|(-?[1-9][0-9]*+|0)(?:\.0+)?)"'
).split
"""Marked numbers: the canonical part of those that are canonical but for zeros behind the last digit."""

_END: Final = orjson.Fragment(b"\x01")
_BETWEEN: Final = b",\\u0001,"
"""How the end of a value looks when the whole is made a JSON text: in no text of its own can it look so."""

_ABSENT: Final = b"0"
_ODD: Final = (orjson.JSONDecodeError, AttributeError, KeyError, TypeError)
"""What parsing and unwrapping raise for values that are none."""


class DocumentColumn:
    """M, or L, into a String as plain JSON text."""

    def __init__(self, tag: str, default: bytes) -> None:
        self.absent = msgspec.Raw(_ABSENT)
        self._tag = tag
        self._default = default

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        rows = len(raws) * PART_BYTES // (sum(map(len, raws)) + 1) + 1
        if rows >= len(raws):
            return self._encode(raws)
        parts = [self._encode(raws[first : first + rows]) for first in range(0, len(raws), rows)]
        nulls = [first * rows + row for first, part in enumerate(parts) for row in part.nulls]
        return Cells(b",".join([part.body for part in parts]), sum(part.absent for part in parts), nulls)

    def _encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        text = b",".join(raws)
        if any(mark in text for mark in _MARKS):
            raise NotPlainError
        nulls: list[int] = []
        try:
            values = self._unwrapped(orjson.loads(b"[%b]" % text), raws, nulls)
        except _ODD:
            raise NotPlainError from None
        cells = Cells(_quoted(values), values.count(0) - len(nulls), nulls)
        if cells.absent or nulls:
            cells.body = cells.body.replace(b'"0"', self._default)
        return cells

    def _unwrapped(self, values: list[Any], raws: Sequence[msgspec.Raw], nulls: list[int]) -> list[Any]:
        """Unwrap whole values, in place; absent ones and NULLs, whose rows go to ``nulls``, are 0."""
        wanted, unwrap = self._tag, _map if self._tag == "M" else _list
        for row, value in enumerate(values):
            if raws[row] is self.absent:
                continue
            tag, payload = value.popitem()
            if value:
                raise NotPlainError
            if tag == wanted:
                values[row] = unwrap(payload, MAX_DEPTH - 1)
            elif tag == "NULL" and payload is True:
                nulls.append(row)
                values[row] = 0
            else:
                raise NotPlainError
        return values

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value alone would be encoded."""
        try:
            self._encode([raw])
        except NotPlainError:
            return False
        return True


def _map(entries: dict[str, Any], levels: int) -> dict[str, Any]:
    """Unwrap a map's values in place. Raises what ``_ODD`` names, NotPlainError."""
    for name, value in entries.items():
        tag, payload = value.popitem()
        if value:
            raise NotPlainError
        if tag == "S" and type(payload) is str:
            entries[name] = payload
        elif tag == "N":
            entries[name] = _NUMBER_MARK + payload
        elif tag == "M" and levels > 0:
            entries[name] = _map(payload, levels - 1)
        else:
            entries[name] = _other(tag, payload, levels)
    return entries


def _list(members: list[Any], levels: int) -> list[Any]:
    """Unwrap a list's values in place. Raises what ``_ODD`` names, NotPlainError."""
    if type(members) is not list:
        raise NotPlainError
    for place, value in enumerate(members):
        tag, payload = value.popitem()
        if value:
            raise NotPlainError
        if tag == "S" and type(payload) is str:
            members[place] = payload
        elif tag == "N":
            members[place] = _NUMBER_MARK + payload
        elif tag == "M" and levels > 0:
            members[place] = _map(payload, levels - 1)
        else:
            members[place] = _other(tag, payload, levels)
    return members


def _other(tag: str, payload: Any, levels: int) -> object:
    if tag == "L" and levels > 0:
        return _list(payload, levels - 1)
    if tag == "BOOL" and type(payload) is bool:
        return payload
    if tag == "NULL" and payload is True:
        return None
    raise NotPlainError


def _quoted(values: list[Any]) -> bytes:
    """Return each value's JSON text as a JSON text, joined by commas. Raises NotPlainError for an odd number."""
    written = written_apart(values)
    parts = _NUMBERS(written)
    if len(parts) != 3 * written.count(b"\x7f") + 1:
        raise NotPlainError
    return as_texts(b"".join(filter(None, parts)))


def written_apart(values: list[Any]) -> bytes:
    """Write values with their keys sorted, and a mark behind each; ``as_texts`` knows the marks."""
    marked = list(chain.from_iterable(zip(values, repeat(_END), strict=False)))
    return orjson.dumps(marked, option=orjson.OPT_SORT_KEYS)[1:-1]


def as_texts(written: bytes) -> bytes:
    """Make a JSON text of each value's JSON text, joined by commas."""
    whole = orjson.dumps(written.decode())
    return whole[: -len(_BETWEEN)].replace(_BETWEEN, b'","') + b'"'

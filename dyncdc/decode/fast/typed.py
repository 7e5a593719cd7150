"""Values of any type into a String as DynamoDB's typed JSON: parsed and written again with sorted keys, then checked.

Sets are left to the exact path, which sorts them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import orjson

from .columns import Cells, NotPlainError
from .documents import as_texts, written_apart
from .patterns import NUMBER

_TEXT: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BINARY: Final = '"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"'
_VALUES: Final = re.compile(
    (
        rf'(?:\{{"(?:S":{_TEXT}\}}|N":"{NUMBER}"\}}|B":{_BINARY}\}}|M":\{{(?:{_TEXT}:|\}}\}})|L":\[(?:\]\}})?'
        rf'|BOOL":(?:true|false)\}}|NULL":true\}})|,(?:{_TEXT}:|\x01,)?|\}}\}}|\]\}}|(?<![^,])0(?=,\x01))*+\x01'
    ).encode(),
    re.DOTALL,
).fullmatch
"""Canonical typed values, as ``written_apart`` writes them; 0 for those that are not there."""

_ZEROS: Final = re.compile(rb'(\{"N":"-?[0-9]+\.[0-9]*[1-9])0{1,100}(?=")').split
_NO_FRACTION: Final = re.compile(rb'(\{"N":"-?[0-9]+)\.0{1,100}(?=")').split

_SETS: Final = (b'{"SS":', b'{"NS":', b'{"BS":')

MAX_OPENINGS: Final = 60
"""A value with fewer maps and lists than this cannot nest too deep."""

_OPENING_BYTES: Final = len(b'{"L":[]}')


class TypedColumn:
    """Any value into a String as typed JSON. ``takes``: its DynamoDB types."""

    def __init__(self, takes: Collection[str], default: bytes) -> None:
        self.absent = msgspec.Raw(b"0")
        self._takes = frozenset(takes)
        self._default = default

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        nulls: list[int] = []
        try:
            values: list[Any] = orjson.loads(b"[%b]" % b",".join(raws))
        except orjson.JSONDecodeError:
            raise NotPlainError from None
        for row, value in enumerate(values):
            if raws[row] is not self.absent:
                tag = next(iter(value), "") if type(value) is dict else ""
                if tag == "NULL":
                    nulls.append(row)
                elif tag not in self._takes:
                    raise NotPlainError
        written = _checked(_written(values))
        for row in nulls:
            values[row] = 0
        if nulls:
            written = _checked(written_apart(values))
        cells = Cells(as_texts(written), values.count(0) - len(nulls), nulls)
        if cells.absent or nulls:
            cells.body = cells.body.replace(b'"0"', self._default)
        return cells

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value alone would be encoded."""
        try:
            self.encode([raw])
        except NotPlainError:
            return False
        return True


def canonical_texts(raws: Sequence[msgspec.Raw]) -> list[bytes | None]:
    """Return the canonical JSON text of each typed value, None where only the exact path can tell."""
    try:
        return [*_texts(raws)]
    except NotPlainError:
        return [_text(raw) for raw in raws]


def is_set(raw: msgspec.Raw) -> bool:
    """Whether a value is a set, which only the exact path sorts."""
    return bytes(raw).startswith(_SETS)


def _text(raw: msgspec.Raw) -> bytes | None:
    try:
        return _texts([raw])[0]
    except NotPlainError:
        return None


def _texts(raws: Sequence[msgspec.Raw]) -> list[bytes]:
    try:
        values = orjson.loads(b"[%b]" % b",".join(raws))
    except orjson.JSONDecodeError:
        raise NotPlainError from None
    if 0 in values:  # what the check takes for a value that is not there
        raise NotPlainError
    return _checked(_written(values))[: -len(b",\x01")].split(b",\x01,")


def _checked(written: bytes) -> bytes:
    """Return written values if they are canonical, or after that of zeros. Raises NotPlainError."""
    if _VALUES(written):
        return written
    written = b"".join(_NO_FRACTION(b"".join(_ZEROS(written))))
    if _VALUES(written):
        return written
    raise NotPlainError


def _written(values: list[Any]) -> bytes:
    """Write values apart. Raises NotPlainError if one may be beyond the limit of the exact path.

    Only what is written says how deep it nests: in what was read, a type may be escaped or stand before a space.
    """
    try:
        written = written_apart(values)
    except orjson.JSONEncodeError:  # beyond the limit of orjson
        raise NotPlainError from None
    if any(map(_may_nest_too_deep, written.split(b"\x01"))):
        raise NotPlainError
    return written


def _may_nest_too_deep(text: bytes) -> bool:
    """Whether a written value has so many maps and lists that it could be beyond the limit of the exact path."""
    if len(text) <= MAX_OPENINGS * _OPENING_BYTES:
        return False
    return text.count(b'"M":') + text.count(b'"L":') > MAX_OPENINGS

"""M or L into plain JSON text, for a whole sub-batch by a few replacements and one parse.

A regular expression has checked first that the text consists of nothing but well-formed typed values. Then every
wrapper ``{"S":...}`` is opened by a replacement; of the braces behind a value, every second one closes a wrapper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Final

import msgspec
import orjson

from .columns import Cells, NotPlainError

_TEXT: Final = r'[^"\\{}\x7f]*+(?:\\.[^"\\{}\x7f]*+)*+'
_NAME: Final = rf'"{_TEXT}":'
_TAGS: Final = '"(?:S|N|M|L|BOOL|NULL)":'
_ABSENT: Final = '"\x01"'
"""Stands for an absent value. No JSON has it: a control character in a text is always escaped."""

_VALUES: Final = re.compile(
    (
        r'(?:\{"(?:'
        rf'S":"{_TEXT}"\}}|N":"[-0-9.]{{1,138}}"\}}|M":\{{(?!{_TAGS}){_NAME}|L":\[|BOOL":(?:true|false)\}}|NULL":true\}}'
        rf")|,(?:{_NAME})?|\}}\}}|\]\}}|{_ABSENT})*+"
    ).encode(),
    re.DOTALL,
).fullmatch
"""Typed values without braces in texts, without empty maps, sets and binaries. That it is JSON is known already.

No map may begin with a name that looks like a type: its brace would pass for a wrapper's.
"""

_NUMBERS: Final = re.compile(
    rb'"\x7f(?=[^"]{1,38}")(?:(-?(?:0|[1-9][0-9]*+)\.[0-9]*[1-9])0*|(-?[1-9][0-9]*+|0)(?:\.0+)?)"'
).split
"""Marked numbers: the canonical part of those that are canonical but for zeros behind the last digit."""

_OPENINGS: Final = ((b'{"S":', b""), (b'{"N":"', b'"\x7f'), (b'{"M":', b""), (b'{"L":', b""))
_RARE_OPENINGS: Final = ((b'{"BOOL":', b""), (b'{"NULL":true', b"null"))

_MARK: Final = orjson.Fragment(b"\x01")
_BETWEEN: Final = b",\\u0001,"
MAX_OPENINGS: Final = 60
"""A value with fewer maps and lists than this cannot nest too deep."""

_OPENING_BYTES: Final = len(b'{"L":[]}')


class DocumentColumn:
    """M, or L, into a String as plain JSON text."""

    def __init__(self, tag: str, default: bytes) -> None:
        self.absent = msgspec.Raw(_ABSENT.encode())
        self._default = default
        self._kind: type = dict if tag == "M" else list

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        text = b",".join(raws)
        if not _VALUES(text) or _may_nest_too_deep(raws):
            raise NotPlainError
        opened, numbers = _without_wrappers(text)
        return self._cells(opened, numbers, len(raws))

    def _cells(self, opened: bytes, numbers: int, rows: int) -> Cells:
        try:
            values = orjson.loads(b"[%b]" % opened)
        except orjson.JSONDecodeError:
            raise NotPlainError from None
        kinds = set(map(type, values))
        if len(values) != rows or not kinds <= {self._kind, int, type(None)}:
            raise NotPlainError
        body = _quoted(values, numbers)
        cells = Cells(body)
        if int in kinds:
            cells.absent = values.count(0)
            cells.body = body = body.replace(b'"0"', self._default)
        if type(None) in kinds:
            cells.nulls = [row for row, value in enumerate(values) if value is None]
            cells.body = body.replace(b'"null"', self._default)
        return cells

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value alone would be encoded."""
        try:
            self.encode([raw])
        except NotPlainError:
            return False
        return True


def _without_wrappers(text: bytes) -> tuple[bytes, int]:
    """Return the values as plain JSON, numbers as marked texts, and how many numbers there are."""
    numbers = 0
    for opening, inner in _OPENINGS:
        before = len(text)
        text = text.replace(opening, inner)
        if inner:
            numbers = (before - len(text)) // (len(opening) - len(inner))
    if b'{"BOOL"' in text or b'{"NULL"' in text:
        for opening, inner in _RARE_OPENINGS:
            text = text.replace(opening, inner)
    if b"\x01" in text:
        text = text.replace(_ABSENT.encode(), b"0")
    return text.replace(b"}}", b"\x02").replace(b"}", b"").replace(b"\x02", b"}"), numbers


def _quoted(values: list[object], numbers: int) -> bytes:
    """Return each value's JSON text as a JSON text, joined by commas. Raises NotPlainError for an odd number."""
    marked = list(chain.from_iterable(zip(values, repeat(_MARK))))
    parts = _NUMBERS(orjson.dumps(marked, option=orjson.OPT_SORT_KEYS)[1:-1])
    if len(parts) != 3 * numbers + 1:
        raise NotPlainError
    whole = orjson.dumps(b"".join(filter(None, parts)).decode())
    return whole[: -len(_BETWEEN)].replace(_BETWEEN, b'","') + b'"'


def _may_nest_too_deep(raws: Sequence[msgspec.Raw]) -> bool:
    """Whether some value has so many maps and lists that it could be beyond the limit of the exact path."""
    for raw in raws:
        if len(raw) > MAX_OPENINGS * _OPENING_BYTES:
            text = bytes(raw)
            if text.count(b'{"M":') + text.count(b'{"L":') > MAX_OPENINGS:
                return True
    return False

"""Columns of a sub-batch: the raw values of one attribute into cells, all at once, as long as every value is plain.

The values come as lines such as ``{"N":"12"}``. Absent ones come as ``{"N":null}`` (``Column.absent``) and NULL is
turned into ``{"N":{}}``, so that one replacement makes of the lines a JSON array that is checked as a whole. DynamoDB
sends neither mark, and whoever sends one fails the check or the accounting of lengths (see ``objects``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, Protocol

import msgspec
import orjson

from .patterns import BASE64, without_zeros

NULL_LINE: Final = b'{"NULL":true}'

_TEXTS: Final = {str}
_MARKED: Final = {str, dict, type(None)}


class NotPlainError(Exception):
    """Some value of the sub-batch is not plain; ``Column.plain`` tells which."""


@dataclass(slots=True)
class Cells:
    """One column of a sub-batch. ``body`` are its cells, joined by commas."""

    body: bytes
    absent: int = 0
    """How many rows do not have the attribute, as far as the marks tell."""
    nulls: Sequence[int] = ()
    """Rows whose attribute is NULL."""
    defaults: Sequence[int] = ()
    """Rows whose value looks like an absent one."""
    values: list[object] | None = field(default=None, repr=False)
    """What ``body`` was written from, where that is at hand."""

    def listed(self) -> list[object]:
        """Return the cells one by one, as orjson writes them. The caller may change the list."""
        if self.values is not None:
            return self.values
        found: list[object] = orjson.loads(b"[%b]" % self.body)
        return found


class Column(Protocol):
    """What encodes one attribute."""

    absent: msgspec.Raw
    """Stands for an absent attribute among the raw values."""

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch; at least one row. Raises NotPlainError."""

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value alone would be encoded; may err on the side of yes."""


class _Lines:
    """The common part: lines of one DynamoDB type into a JSON array without brackets."""

    def __init__(self, tag: str) -> None:
        self.absent = msgspec.Raw(b'{"%b":null}' % tag.encode())
        self._opening = b'{"%b":' % tag.encode()
        self._between = b"}\n" + self._opening
        self._null = self._opening + b"{}}"

    def array(self, raws: Sequence[msgspec.Raw]) -> tuple[bytes, int]:
        """Return the array's inside, and how many NULLs were marked in it. Raises NotPlainError.

        It parses, with as many members as there are lines, only if every line is an object of exactly this one type:
        a line of another leaves a brace unmatched, one of several a colon.
        """
        lines = b"\n".join(raws)
        nulls = 0
        if NULL_LINE in lines:
            nulls = lines.count(NULL_LINE)
            lines = lines.replace(NULL_LINE, self._null)
        if not lines.startswith(self._opening):
            raise NotPlainError
        return lines[len(self._opening) : -1].replace(self._between, b","), nulls


class PatternColumn:
    """Values whose text is the cell, provided that it matches a pattern without commas, braces and letters of null."""

    def __init__(self, tag: str, pattern: str, default: bytes, *, quoted: bool = True) -> None:
        token = f'"{pattern}"' if quoted else pattern
        self._lines = _Lines(tag)
        self.absent = self._lines.absent
        self._numbers = tag == "N"
        self._default = default
        self._all = re.compile(rf"(?:(?:{token}|null|\{{\}}),)*+".encode()).fullmatch
        self._one = re.compile(rf'\{{"(?:{tag}":{token}|NULL":true)\}}'.encode()).fullmatch

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        body, nulls = self._lines.array(raws)
        if not self._all(body + b","):
            body = without_zeros(body)
            if not self._numbers or not self._all(body + b","):
                raise NotPlainError
        return self._cells(body, nulls)

    def _cells(self, body: bytes, nulls: int) -> Cells:
        absent = body.count(b"null")
        cells = Cells(body, absent)
        if self._default != b"null" and self._default in body:
            cells.defaults = _places(body, self._default)
        if nulls or b"{" in body:
            cells.nulls = _places(body, b"{}")
            if len(cells.nulls) != nulls:
                raise NotPlainError
            cells.body = body = body.replace(b"{}", self._default)
        if absent and self._default != b"null":
            cells.body = body.replace(b"null", self._default)
        return cells

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value matches."""
        if self._one(raw) is not None:
            return True
        return self._numbers and self._one(without_zeros(bytes(raw))) is not None


class BinaryColumn(PatternColumn):
    """B as base64: the text is the cell, if it is canonical."""

    def __init__(self, default: bytes) -> None:
        super().__init__("B", BASE64, default)

    def _cells(self, body: bytes, nulls: int) -> Cells:
        tokens = body.split(b",")
        if tokens.count(b"null") != body.count(b"null"):  # base64 may spell it too
            raise NotPlainError
        lengths = set(map(len, body.replace(b"null", b'""').replace(b"{}", b'""').split(b",")))
        if any(length % 4 != 2 for length in lengths):
            raise NotPlainError
        return super()._cells(body, nulls)

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value is canonical base64."""
        if b"null" in bytes(raw):
            return False
        return super().plain(raw) and (len(raw) % 4 == len(b'{"B":""}') % 4 or bytes(raw) == NULL_LINE)


class FloatColumn(PatternColumn):
    """N as Float64: the shortest text of the float, which is the number again."""

    def __init__(self, pattern: str, default: bytes) -> None:
        super().__init__("N", pattern, default)
        self._fraction = re.compile(rb"(?=.{1,38}\Z)-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]").fullmatch

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch: by its texts, else by way of floats. Raises NotPlainError."""
        try:
            return super().encode(raws)
        except NotPlainError:
            body, nulls = self._lines.array(raws)
        tokens = body.split(b",")
        if nulls or len(tokens) != len(raws) or not all(map(self._prints_as_itself, tokens)):
            raise NotPlainError
        return Cells(body.replace(b"null", self._default), body.count(b"null"))

    def _prints_as_itself(self, token: bytes) -> bool:
        if token == b"null":
            return True
        text = token[1:-1]
        return self._fraction(text) is not None and repr(float(text)).encode() == text

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value's float prints as itself."""
        return super().plain(raw) or self._prints_as_itself(bytes(raw)[len(b'{"N":') : -1])


class TextColumn:
    """S into a String, or into an Enum if ``names`` are given."""

    def __init__(self, default: bytes, names: frozenset[str] | None = None) -> None:
        self._lines = _Lines("S")
        self.absent = self._lines.absent
        self._default: object = orjson.loads(default)
        self._names = names
        self._one = re.compile(rb'\{"(?:S":"(?:[^"\\\x00-\x1f]|\\.)*+"|NULL":true)\}', re.DOTALL).fullmatch

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        body, nulls = self._lines.array(raws)
        values = _loaded(body, len(raws))
        kinds = set(map(type, values))
        cells = Cells(b"", values=values)
        if kinds != _TEXTS or nulls:
            cells.nulls = _empty_objects(values, kinds, nulls)
            cells.absent = values.count(None)
        if self._names is not None and not self._names.issuperset(v for v in values if type(v) is str):
            raise NotPlainError
        if self._default is not None and self._default in values:
            cells.defaults = [row for row, value in enumerate(values) if value == self._default]
        if cells.nulls or (cells.absent and self._default is not None):
            cells.values = values = [value if type(value) is str else self._default for value in values]
        cells.body = orjson.dumps(values)[1:-1]
        return cells

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value is text."""
        if self._one(raw) is None:
            return False
        try:
            ((tag, payload),) = orjson.loads(memoryview(raw)).items()
        except ValueError:
            return False
        return tag == "NULL" or self._names is None or payload in self._names


class TextSetColumn:
    """SS into an Array(String): sorted, without repetition."""

    def __init__(self) -> None:
        self._lines = _Lines("SS")
        self.absent = self._lines.absent
        self._one = re.compile(rb'\{"(?:SS":\[[^\[\]{}]*+\]|NULL":true)\}').fullmatch

    def encode(self, raws: Sequence[msgspec.Raw]) -> Cells:
        """Encode a sub-batch. Raises NotPlainError."""
        body, nulls = self._lines.array(raws)
        values = _loaded(body, len(raws))
        kinds = set(map(type, values))
        if not kinds <= {list, dict, type(None)}:
            raise NotPlainError
        cells = Cells(b"", values.count(None), [row for row, value in enumerate(values) if type(value) is dict])
        if len(cells.nulls) != nulls or any(values[row] for row in cells.nulls):
            raise NotPlainError
        cells.defaults = [row for row, value in enumerate(values) if type(value) is list and not value]
        cells.values = _sorted_sets(values)
        cells.body = orjson.dumps(cells.values)[1:-1]
        return cells

    def plain(self, raw: msgspec.Raw) -> bool:
        """Whether one value is a set of texts."""
        if self._one(raw) is None:
            return False
        try:
            ((_, payload),) = orjson.loads(memoryview(raw)).items()
        except ValueError:
            return False
        return payload is True or all(type(member) is str for member in payload)


def bool_column(default: bytes) -> PatternColumn:
    """BOOL into a Bool."""
    return PatternColumn("BOOL", "(?:true|false)", default, quoted=False)


def _sorted_sets(values: list[Any]) -> list[object]:
    """Return the members of sets in their canonical order; absent sets are empty. Raises NotPlainError."""
    lists = [value if type(value) is list else [] for value in values]
    if not _TEXTS.issuperset(map(type, chain.from_iterable(lists))):
        raise NotPlainError
    return [
        value if len(value) < 2 or (len(value) == 2 and value[0] < value[1]) else sorted(set(value)) for value in lists
    ]


def _loaded(body: bytes, rows: int) -> list[object]:
    try:
        values: list[object] = orjson.loads(b"[%b]" % body)
    except orjson.JSONDecodeError:
        raise NotPlainError from None
    if len(values) != rows:
        raise NotPlainError
    return values


def _empty_objects(values: list[object], kinds: set[type], marked: int) -> list[int]:
    """Return the rows of the marks for NULL, of which there must be as many as were made. Raises NotPlainError."""
    if not kinds <= _MARKED:
        raise NotPlainError
    found = [row for row, value in enumerate(values) if type(value) is dict] if dict in kinds else []
    if len(found) != marked or any(values[row] for row in found):
        raise NotPlainError
    return found


def _places(body: bytes, token: bytes) -> list[int]:
    return [row for row, found in enumerate(body.split(b",")) if found == token]

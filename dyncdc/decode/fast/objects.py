"""JSON objects of known names into the raw values of each name, with an account of every byte.

msgspec passes over what it is not asked for without a word. So the lengths of the values found, of their names and of
the punctuation are added up: when they are as long as the objects were, nothing was passed over, no name came twice,
and there is no white space. Only a surplus is possible, so sums over a whole sub-batch tell as much as single ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson
from msgspec.structs import astuple

UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What reading raises for bytes that are no such objects."""

NAME_OVERHEAD: Final = len(b":,")
BRACES_LESS_COMMA: Final = len(b"{}") - len(b",")


Object = msgspec.Raw | bytes
Column = Sequence[msgspec.Raw]
"""The raw values of one name, a row each."""

Other = tuple[int, str, msgspec.Raw]
"""A row, and the name and value of an attribute without a column in it."""


class ObjectReader:
    """Reads objects of these names; ``absents`` stand for values that are not there.

    ``wrapped``: they come as typed values, ``{"M":{...}}``.
    Raises ValueError for a name that cannot be recognised by its bytes alone.
    """

    def __init__(self, names: Sequence[str], absents: Sequence[msgspec.Raw], *, wrapped: bool = False) -> None:
        fields: list[Any] = [
            (f"f{index}", msgspec.Raw, msgspec.field(name=name, default=absent))
            for index, (name, absent) in enumerate(zip(names, absents, strict=True))
        ]
        struct = msgspec.defstruct("Object", fields, gc=False)
        self.names = tuple(names)
        self.absents = tuple(absents)
        self._empty = struct()
        wrapper = msgspec.defstruct("Wrapper", [("M", struct)], gc=False) if wrapped else struct
        self._read_all = msgspec.json.Decoder(list[wrapper]).decode  # type: ignore[valid-type]
        self._wrapped = wrapped
        self.braces = BRACES_LESS_COMMA + (len(b'{"M":}') if wrapped else 0)
        """Bytes of an object beside its members, less the comma that the last one lacks."""
        self._read_open = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
        self.overheads = tuple(len(orjson.dumps(name)) + NAME_OVERHEAD for name in names)
        """Bytes of each name with its punctuation."""

    def columns(self, objects: Sequence[msgspec.Raw | bytes | None]) -> list[tuple[msgspec.Raw, ...]]:
        """Return the values of each name, all absent where there is no object. Raises msgspec.MsgspecError."""
        there = [each for each in objects if each is not None]
        rows: list[Any] = self._read_all(b"[%b]" % b",".join(there))
        if self._wrapped:
            rows = [row.M for row in rows]
        if len(there) < len(objects):
            empty, read = self._empty, iter(rows)
            rows = [empty if each is None else next(read) for each in objects]
        return list(zip(*map(astuple, rows), strict=True))

    def open_columns(
        self, objects: Sequence[msgspec.Raw | bytes | None]
    ) -> tuple[list[tuple[msgspec.Raw, ...]], list[tuple[int, str, msgspec.Raw]]]:
        """Return the values of each name, and those of other names with the object's number. Raises as ``columns``."""
        read = iter(self._read_open(b"[%b]" % b",".join([each for each in objects if each is not None])))
        nothing: dict[str, msgspec.Raw] = {}
        rows = [nothing if each is None else next(read) for each in objects]
        known = frozenset(self.names)
        others = [
            (number, name, value) for number, row in enumerate(rows) for name, value in row.items() if name not in known
        ]
        columns = [
            tuple([row.get(name, absent) for row in rows])
            for name, absent in zip(self.names, self.absents, strict=True)
        ]
        return columns, others

    def readable(self, document: msgspec.Raw | bytes) -> bool:
        """Whether one object can be read alone."""
        try:
            found = self.columns([document]) if self._wrapped else self.open_columns([document])
        except UNREADABLE:
            return False
        return bool(found)

    def surplus(
        self,
        objects: Sequence[msgspec.Raw | bytes | None],
        columns: Sequence[Sequence[msgspec.Raw]],
        others: Sequence[tuple[int, str, msgspec.Raw]] = (),
    ) -> list[int]:
        """Return the numbers of the objects that hold more than was found in them, or an absent value's very bytes."""
        rest = [0 if each is None else len(each) - self.braces for each in objects]
        for overhead, absent, column in zip(self.overheads, self.absents, columns, strict=True):
            for number, value in enumerate(column):
                if value is not absent:
                    rest[number] -= len(value) + overhead if value != absent else 0
        for number, name, value in others:
            rest[number] -= len(value) + overhead_of(name)
        return [number for number, left in enumerate(rest) if left]


def overhead_of(name: str) -> int:
    """Return the bytes of a name and its punctuation, as they are when nothing is escaped that need not be."""
    return len(orjson.dumps(name)) + NAME_OVERHEAD

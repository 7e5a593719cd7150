"""Maps as documents of ClickHouse's JSON type: for queries only, as it cannot hold them exactly.

Fractions become floats there, nulls and empty maps vanish, and dots merge: the attribute is in the spill as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import orjson

from .cells import Encoder, Inexact, Rounded
from .dynamodb_values import canonical_number, number_set, plain_text, string_set, unpack

TypedPaths = Mapping[str, Callable[[object], "bytes | None"]]
"""Encoders of typed values by the path that the column's type gives a type: ``JSON(a.b UInt32)``."""


def json_encoder(typed: TypedPaths) -> Encoder:
    """M into a JSON: None where two values have one path, or one does not fit its typed path."""

    def encode(payload: object) -> bytes | None:
        plain_text("M", payload)  # refuses what is no value or nests too deep
        document = _Document(typed)
        written = document.map_of(cast(dict[str, object], payload), "")
        if document.misfit or len(set(document.paths)) < len(document.paths):
            return None  # {"a.b": 1, "a": {"b": 2}}: the server would refuse the whole insert
        cell = orjson.dumps(written, option=orjson.OPT_SORT_KEYS)
        return Rounded(cell) if document.rounded else Inexact(cell)

    return encode


class _Document:
    """One document on its way."""

    def __init__(self, typed: TypedPaths) -> None:
        self.paths: list[str] = []
        self.misfit = self.rounded = False
        self._typed = typed

    def map_of(self, entries: dict[str, object], path: str) -> dict[str, object]:
        """Write a map that is not inside a list."""
        written = {}
        for name, value in entries.items():
            here = f"{path}.{name}" if path else name
            encode = self._typed.get(here)
            if encode is None:
                written[name] = self._value(value, here)
            elif (cell := self._typed_cell(encode, value, here)) is not None:
                written[name] = orjson.Fragment(cell)
        return written

    def _typed_cell(self, encode: Callable[[object], bytes | None], value: object, path: str) -> bytes | None:
        """The cell of a typed path's value; None, too, for a NULL that the path shows as it shows an absent one."""
        self.paths.append(path)
        cell = encode(value)
        self.misfit |= cell is None and unpack(value)[0] != "NULL"
        self.rounded |= type(cell) is Rounded
        return cell

    def _value(self, value: object, path: str) -> object:
        tag, payload = unpack(value)
        if tag == "M":
            return self.map_of(cast(dict[str, object], payload), path)
        self.paths.append(path)
        return self._leaf(tag, payload, path)

    def _leaf(self, tag: str, payload: object, path: str) -> object:
        if tag == "L":
            return [self._inside(each, f"{path}[{index}]") for index, each in enumerate(cast(list[object], payload))]
        if tag == "SS":
            return string_set(payload)
        if tag == "NS":
            return [_number(each) for each in number_set(payload)]
        if tag == "N":
            return _number(canonical_number(payload))
        return None if tag == "NULL" else payload

    def _inside(self, value: object, path: str) -> object:
        """A value inside a list, where no path has a type of its own."""
        tag, payload = unpack(value)
        if tag == "M":
            entries = cast(dict[str, object], payload)
            return {name: self._inside(each, f"{path}.{name}") for name, each in entries.items()}
        self.paths.append(path)
        return self._leaf(tag, payload, path)


def _number(number: str) -> int | float:
    if "." not in number and -(2**63) <= int(number) < 2**64:
        return int(number)
    return float(number)

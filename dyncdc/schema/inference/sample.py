"""What a sample of items holds, by place: names, types and the range of numbers, no values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from dyncdc.schema.types.dynamodb_values import canonical_number, elements, entries, unpack
from dyncdc.schema.types.reject_reasons import UndecodableRecord

Nested = Literal["flatten", "json", "typed"]

_PREFERENCE: Final = ("S", "N", "BOOL", "B", "SS", "NS", "BS", "M", "L")
"""Which type wins when two are equally frequent."""

_SCALES: Final = (2, 4, 6, 9, 12, 18)
"""Decimal scales offered: a sample of 12.5 must not make a column that 12.75 does not fit."""


@dataclass(slots=True)
class Numbers:
    """The range of numbers that a place held, and the type that holds them."""

    seen: int = 0
    all_int64: bool = True
    whole_digits: int = 0
    fraction_digits: int = 0

    def note(self, number: str) -> None:
        """Take note of a number in canonical form."""
        self.seen += 1
        whole, _, fraction = number.lstrip("-").partition(".")
        self.whole_digits = max(self.whole_digits, len(whole.lstrip("0")))
        self.fraction_digits = max(self.fraction_digits, len(fraction))
        self.all_int64 = self.all_int64 and not fraction and -(2**63) <= int(number) < 2**63

    @property
    def why(self) -> str:
        """Why it is that type, for people."""
        if self.type == "Int64":
            return "all whole numbers of 64 bits"
        if self.type == "String":
            return "numbers of more digits than a Decimal of 38 holds, kept as text"
        return f"up to {self.whole_digits} digits before and {self.fraction_digits} after the point"

    @property
    def type(self) -> str:
        """The narrowest type that holds all of them exactly."""
        if self.all_int64:
            return "Int64"
        scale = next((scale for scale in _SCALES if self.fraction_digits <= scale), self.fraction_digits)
        if self.fraction_digits == 0:
            scale = 0
        return f"Decimal(38, {scale})" if self.whole_digits + scale <= 38 else "String"


@dataclass(slots=True)
class Seen:
    """What a place in the sampled items held."""

    tags: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    """Of these, the lists and maps with nothing inside: they tell no type yet, as ``UnmappedAttributes`` sees it."""
    numbers: Numbers = field(default_factory=Numbers)
    elements: Seen | None = None
    children: dict[str, Seen] = field(default_factory=dict)
    largest_map: int = 0

    def note(self, value: object, depth: int) -> None:
        """Take note of a value; what is no DynamoDB value is left to the dead letters."""
        try:
            tag, payload = unpack(value)
            self._look(tag, payload, depth)
        except UndecodableRecord:
            return
        self.tags[tag] += 1
        self.empty[tag] += tag in ("L", "M") and not payload

    def _look(self, tag: str, payload: object, depth: int) -> None:
        if tag == "N":
            self.numbers.note(canonical_number(payload))
        elif tag == "NS":
            for member in elements(payload):
                self.numbers.note(canonical_number(member))
        elif tag == "L" and depth >= 0:
            if self.elements is None:
                self.elements = Seen()
            for member in elements(payload):
                self.elements.note(member, -1)
        elif tag == "M" and depth > 0:
            inner = entries(payload)
            self.largest_map = max(self.largest_map, len(inner))
            for name, value in inner.items():
                self.children.setdefault(name, Seen()).note(value, depth - 1)

    @property
    def tag(self) -> str | None:
        """The most frequent type, None when nothing was seen that tells one."""
        known = [tag for tag in _PREFERENCE if self.tags[tag] > self.empty[tag]]
        return max(known, key=lambda tag: self.tags[tag], default=None)


class Sample:
    """What items were seen to hold, by place: names, types and the range of numbers, no values.

    ``nested`` and ``flatten_depth``: as ``infer`` takes them.
    """

    def __init__(self, *, nested: Nested = "flatten", flatten_depth: int = 1) -> None:
        self.nested: Nested = nested
        self.root = Seen()
        self.items = 0
        self._depth = 1 + (flatten_depth if nested == "flatten" else 0)

    def note(self, item: Mapping[str, object]) -> None:
        """Take note of an item in DynamoDB's typed JSON."""
        self.items += 1
        self.root.note({"M": item}, self._depth)

    @property
    def names(self) -> int:
        """How many attributes were seen."""
        return len(self.root.children)

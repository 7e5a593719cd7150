"""Columns for a table that has none yet, from its key schema and a sample of items: stable names, exact types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from .attributes import canonical_number, elements, entries, unpack
from .naming import RESERVED_NAMES, column_name
from .spec import AttributeType, ColumnSpec, KeyAttribute
from .undecodable import Undecodable

Nested = Literal["flatten", "json", "typed"]

_PREFERENCE: Final = ("S", "N", "BOOL", "B", "SS", "NS", "BS", "M", "L")
"""Which type wins when two are equally frequent."""

_SCALES: Final = (2, 4, 6, 9, 12, 18)
"""Decimal scales offered: a sample of 12.5 must not make a column that 12.75 does not fit."""

_DICTIONARY_KEYS: Final = 12
"""A map that had more different keys than this, and far more than any one item has, is a dictionary: no columns."""


@dataclass(slots=True)
class _Seen:
    """What a place in the sampled items held."""

    tags: Counter[str] = field(default_factory=Counter)
    numbers: _Numbers = field(default_factory=lambda: _Numbers())
    elements: _Seen | None = None
    children: dict[str, _Seen] = field(default_factory=dict)
    largest_map: int = 0

    def note(self, value: object, depth: int) -> None:
        """Take note of a value; what is no DynamoDB value is left to the dead letters."""
        try:
            tag, payload = unpack(value)
            self._look(tag, payload, depth)
        except Undecodable:
            return
        self.tags[tag] += 1

    def _look(self, tag: str, payload: object, depth: int) -> None:
        if tag == "N":
            self.numbers.note(canonical_number(payload))
        elif tag == "NS":
            for member in elements(payload):
                self.numbers.note(canonical_number(member))
        elif tag == "L" and depth >= 0:
            if self.elements is None:
                self.elements = _Seen()
            for member in elements(payload):
                self.elements.note(member, -1)
        elif tag == "M" and depth > 0:
            inner = entries(payload)
            self.largest_map = max(self.largest_map, len(inner))
            for name, value in inner.items():
                self.children.setdefault(name, _Seen()).note(value, depth - 1)

    @property
    def tag(self) -> str | None:
        """The most frequent type, None when nothing but NULL was seen."""
        known = [tag for tag in _PREFERENCE if self.tags[tag]]
        return max(known, key=lambda tag: self.tags[tag], default=None)


@dataclass(slots=True)
class _Numbers:
    seen: int = 0
    all_int64: bool = True
    whole_digits: int = 0
    fraction_digits: int = 0

    def note(self, number: str) -> None:
        self.seen += 1
        whole, _, fraction = number.lstrip("-").partition(".")
        self.whole_digits = max(self.whole_digits, len(whole.lstrip("0")))
        self.fraction_digits = max(self.fraction_digits, len(fraction))
        self.all_int64 = self.all_int64 and not fraction and -(2**63) <= int(number) < 2**63

    @property
    def type(self) -> str:
        """The narrowest type that holds all of them exactly."""
        if self.all_int64:
            return "Int64"
        scale = next((scale for scale in _SCALES if self.fraction_digits <= scale), self.fraction_digits)
        if self.fraction_digits == 0:
            scale = 0
        return f"Decimal(38, {scale})" if self.whole_digits + scale <= 38 else "String"


def infer_columns(
    keys: Sequence[KeyAttribute],
    sample: Iterable[Mapping[str, object]],
    *,
    nested: Nested = "flatten",
    flatten_depth: int = 1,
    max_columns: int = 1000,
    reserved: Collection[str] = RESERVED_NAMES,
) -> tuple[ColumnSpec, ...]:
    """Return key columns, HASH first, then a column for each attribute of the sample, by name; at most ``max_columns``.

    The most frequent attributes win. ``nested``: maps become columns down to ``flatten_depth`` levels, or one column of
    JSON text, or ("typed") stay in the spill as DynamoDB's own JSON. ``reserved`` are names that no column may have.
    The same items in any order give the same columns.
    """
    root = _Seen()
    for item in sample:
        root.note({"M": item}, 1 + (flatten_depth if nested == "flatten" else 0))
    key_names = {key.name for key in keys}
    found: list[tuple[int, tuple[str, ...], str, AttributeType]] = []
    for name, seen in root.children.items():
        if name not in key_names:
            found += _places((name,), seen, nested)
    found.sort(key=lambda place: (-place[0], place[1]))
    found = found[: max(0, max_columns - len(keys))]
    taken = set(reserved)
    columns = [_key_column(key, root.children.get(key.name), taken) for key in keys]
    for _, path, kind, tag in sorted(found, key=lambda place: (len(place[1]), place[1])):
        columns.append(ColumnSpec(_named(path, taken), kind, path, (tag,)))
    return tuple(columns[: len(keys)]) + tuple(sorted(columns[len(keys) :], key=lambda column: column.path))


def _named(path: tuple[str, ...], taken: set[str]) -> str:
    name = column_name(path, taken)
    taken.add(name)
    return name


def _key_column(key: KeyAttribute, seen: _Seen | None, taken: set[str]) -> ColumnSpec:
    fits = key.type == "N" and seen is not None and seen.numbers.seen > 0 and seen.numbers.all_int64
    return ColumnSpec(_named((key.name,), taken), "Int64" if fits else "String", (key.name,), (key.type,), key=True)


def _places(
    path: tuple[str, ...], seen: _Seen, nested: Nested
) -> list[tuple[int, tuple[str, ...], str, AttributeType]]:
    """Return what becomes a column at and below a place: how often it was seen, its path, its type, what it takes."""
    tag = seen.tag
    if tag is None or (tag == "M" and nested == "typed"):
        return []
    if tag == "M" and seen.children and not _is_dictionary(seen):
        return [place for name, inner in seen.children.items() for place in _places((*path, name), inner, nested)]
    return [(sum(seen.tags.values()), path, _type(tag, seen), cast(AttributeType, tag))]


def _is_dictionary(seen: _Seen) -> bool:
    return len(seen.children) > max(_DICTIONARY_KEYS, 2 * seen.largest_map)


def _type(tag: str, seen: _Seen) -> str:
    if tag == "SS" or tag == "BS":
        return "Array(String)"
    if tag == "NS":
        return f"Array({seen.numbers.type})"
    if tag == "L" and seen.elements is not None and len(seen.elements.tags) == 1:
        of = seen.elements.tag
        inner = {"S": "String", "BOOL": "Bool", "N": seen.elements.numbers.type}.get(of or "")
        if inner is not None and (of != "N" or inner != "String"):  # an Array(String) takes S: there N would not fit
            return f"Array({inner})"
    kind = {"N": seen.numbers.type, "BOOL": "Bool"}.get(tag, "String")
    return f"Nullable({kind})"

"""Columns for a table that has none yet, from its key schema and a sample of items: stable names, exact types.

Also what was seen of every place in the sample, and why it got the column that it has: `init` writes it down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from dyncdc.schema.types.dynamodb_values import canonical_number, elements, entries, unpack
from dyncdc.schema.types.reject_reasons import UndecodableRecord

from .naming import RESERVED_NAMES, column_name
from .table_spec import AttributeType, ColumnSpec, Encoding, KeyAttribute

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
    empty: Counter[str] = field(default_factory=Counter)
    """Of these, the lists and maps with nothing inside: they tell no type yet, as ``UnmappedAttributes`` sees it."""
    numbers: _Numbers = field(default_factory=lambda: _Numbers())
    elements: _Seen | None = None
    children: dict[str, _Seen] = field(default_factory=dict)
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
        """The most frequent type, None when nothing was seen that tells one."""
        known = [tag for tag in _PREFERENCE if self.tags[tag] > self.empty[tag]]
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


@dataclass(frozen=True, slots=True)
class Observation:
    """What one place in the sampled items held, and what was made of it.

    ``times``: in how many items (inside a map: how many maps) it occurred; ``types``: how often as which DynamoDB type,
    the most frequent first, NULL included. ``column`` is None where it gets none; ``why`` says why, for people, and
    holds no values and no names.
    """

    path: tuple[str, ...]
    times: int
    types: tuple[tuple[AttributeType, int], ...]
    column: ColumnSpec | None
    why: str


@dataclass(frozen=True, slots=True)
class Inference:
    """What a sample of ``items`` items tells. ``columns``: key columns, HASH first, then the others by path.

    ``observations`` are in the order of ``columns``, then those without a column, by path. A map that became columns
    of its own is one of the latter.
    """

    items: int
    columns: tuple[ColumnSpec, ...]
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A place that could become a column; none when ``type`` is ""."""

    path: tuple[str, ...]
    seen: _Seen
    why: str
    type: str = ""
    encoding: Encoding = ""

    @property
    def times(self) -> int:
        return sum(self.seen.tags.values())

    def observed(self, column: ColumnSpec | None, why: str = "") -> Observation:
        types = sorted(self.seen.tags.items(), key=lambda found: (-found[1], found[0]))
        return Observation(
            self.path, self.times, tuple(cast("list[tuple[AttributeType, int]]", types)), column, why or self.why
        )


class Sample:
    """What items were seen to hold, by place: names, types and the range of numbers, no values.

    ``nested`` and ``flatten_depth``: as ``infer`` takes them.
    """

    def __init__(self, *, nested: Nested = "flatten", flatten_depth: int = 1) -> None:
        self.nested: Nested = nested
        self.root = _Seen()
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


def infer(
    keys: Sequence[KeyAttribute],
    sample: Iterable[Mapping[str, object]] | Sample,
    *,
    nested: Nested = "flatten",
    flatten_depth: int = 1,
    max_columns: int = 1000,
    reserved: Collection[str] = RESERVED_NAMES,
) -> Inference:
    """Infer key columns and a column for each attribute of the sample; at most ``max_columns``.

    The most frequent attributes win. ``nested``: maps become columns down to ``flatten_depth`` levels, or one column of
    JSON text, or ("typed") one of DynamoDB's own JSON. ``reserved`` are names that no column may have. The same items
    in any order give the same answer. Excluding and masking are up to the caller: ``Redaction.apply`` on each item.
    A ``Sample`` brings its own ``nested`` and depth.
    """
    if not isinstance(sample, Sample):
        given, sample = sample, Sample(nested=nested, flatten_depth=flatten_depth)
        for item in given:
            sample.note(item)
    root, items, nested = sample.root, sample.items, sample.nested
    key_names = {key.name for key in keys}
    places = [
        place
        for name, seen in root.children.items()
        if name not in key_names
        for place in _places((name,), seen, nested)
    ]
    places.sort(key=lambda place: (not place.type, -place.times, place.path))
    room = max(0, max_columns - len(keys))
    within = [place for place in places[:room] if place.type]
    taken = set(reserved)
    columns = [_key_column(key, root.children.get(key.name), taken) for key in keys]
    named = {
        place.path: ColumnSpec(
            _named(place.path, taken), place.type, place.path, (_tag(place.seen),), encoding=place.encoding
        )
        for place in sorted(within, key=lambda place: (len(place.path), place.path))
    }
    columns += [named[path] for path in sorted(named)]
    observed = [_observed_key(column, root.children.get(column.path[0])) for column in columns[: len(keys)]]
    limit = f"more than max_columns = {max_columns} places, and this is one of the rarer ones: it stays in the spill"
    for place in sorted(places, key=lambda place: (place.path not in named, place.path)):
        column = named.get(place.path)
        observed.append(place.observed(column, limit if column is None and place.type else ""))
    return Inference(items, tuple(columns), tuple(observed))


def infer_columns(
    keys: Sequence[KeyAttribute],
    sample: Iterable[Mapping[str, object]] | Sample,
    *,
    nested: Nested = "flatten",
    flatten_depth: int = 1,
    max_columns: int = 1000,
    reserved: Collection[str] = RESERVED_NAMES,
) -> tuple[ColumnSpec, ...]:
    """Return the columns that ``infer`` finds."""
    return infer(
        keys,
        sample,
        nested=nested,
        flatten_depth=flatten_depth,
        max_columns=max_columns,
        reserved=reserved,
    ).columns


def _named(path: tuple[str, ...], taken: set[str]) -> str:
    name = column_name(path, taken)
    taken.add(name)
    return name


def _key_column(key: KeyAttribute, seen: _Seen | None, taken: set[str]) -> ColumnSpec:
    fits = key.type == "N" and seen is not None and seen.numbers.seen > 0 and seen.numbers.all_int64
    return ColumnSpec(_named((key.name,), taken), "Int64" if fits else "String", (key.name,), (key.type,), key=True)


def _observed_key(column: ColumnSpec, seen: _Seen | None) -> Observation:
    why = {
        ("Int64", "N"): "a key; all sampled ones are whole numbers of 64 bits: another one becomes a dead letter",
        ("String", "N"): "a key; numbers as text, as not all sampled ones are whole numbers of 64 bits",
        ("String", "B"): "a key; binary as base64",
    }.get((column.type, column.takes[0]), "a key")
    return _Place(column.path, seen or _Seen(), why).observed(column)


def _tag(seen: _Seen) -> AttributeType:
    return cast(AttributeType, seen.tag)


def _places(path: tuple[str, ...], seen: _Seen, nested: Nested) -> list[_Place]:
    """Return what may become a column at and below a place, and what is there and becomes none."""
    tag = seen.tag
    if tag is None:
        return [_Place(path, seen, f"seen only as {_nothing(seen)}, which tells no type: it stays in the spill")]
    if tag == "M" and seen.children and not _is_dictionary(seen):
        inner = [place for name, child in seen.children.items() for place in _places((*path, name), child, nested)]
        return [_Place(path, seen, f"maps, flattened into the {len(seen.children)} places inside"), *inner]
    kind, why, encoding = _type(tag, seen, nested)
    others = len(seen.tags.keys() - {tag, "NULL"})
    more = "; the most frequent type, values of other types stay in the spill" if others else ""
    return [_Place(path, seen, why + more, kind, encoding)]


def _nothing(seen: _Seen) -> str:
    names = {"L": "empty lists", "M": "empty maps", "NULL": "NULL"}
    return " and ".join(name for tag, name in names.items() if seen.tags[tag])


def _is_dictionary(seen: _Seen) -> bool:
    return len(seen.children) > max(_DICTIONARY_KEYS, 2 * seen.largest_map)


def _type(tag: str, seen: _Seen, nested: Nested) -> tuple[str, str, Encoding]:
    """Return the column's type, why, and how it encodes its values."""
    if tag in ("SS", "BS"):
        return "Array(String)", "sets of text" if tag == "SS" else "sets of binary, as base64", ""
    if tag == "NS":
        return f"Array({seen.numbers.type})", f"sets of numbers: {seen.numbers.why}", ""
    if tag == "L":
        found = _list_type(seen.elements)
        if found is not None:
            return *found, ""
    if tag in ("L", "M"):
        what = "lists of elements that differ or nest" if tag == "L" else "maps"
        if tag == "M" and nested == "flatten" and seen.children:
            what = f"maps used as a dictionary, {len(seen.children)} different keys"
        if nested == "typed":
            return "Nullable(String)", f"{what}, as DynamoDB's typed JSON", "typed"
        return "Nullable(String)", f"{what}, as JSON text", ""
    if tag == "N":
        return f"Nullable({seen.numbers.type})", seen.numbers.why, ""
    why = {"S": "text", "BOOL": "booleans", "B": "binary, as base64"}[tag]
    return "Nullable(Bool)" if tag == "BOOL" else "Nullable(String)", why, ""


def _list_type(elements: _Seen | None) -> tuple[str, str] | None:
    """The array for lists whose elements are all of one scalar type, NULL aside."""
    if elements is None or len(elements.tags.keys() - {"NULL"}) != 1:
        return None
    inner = {"S": "String", "BOOL": "Bool", "N": elements.numbers.type}.get(elements.tag or "")
    if inner is None or (elements.tag == "N" and inner == "String"):
        return None  # an Array(String) takes S: there N would not fit
    what = {"S": "text", "BOOL": "booleans", "N": elements.numbers.why}[elements.tag or ""]
    inner = f"Nullable({inner})" if elements.tags["NULL"] else inner
    return f"Array({inner})", f"lists whose elements are all of one type: {what}"

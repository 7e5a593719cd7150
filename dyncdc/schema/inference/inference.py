"""Columns for a table that has none yet, from its key schema and a sample of items: stable names, exact types.

Also what was seen of every place in the sample, and why it got the column that it has: `init` writes it down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dyncdc.schema.naming import RESERVED_NAMES, column_name
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, Encoding, KeyAttribute

from .column_types import column_type, is_dictionary
from .sample import Nested, Sample, Seen


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
    seen: Seen
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


def _key_column(key: KeyAttribute, seen: Seen | None, taken: set[str]) -> ColumnSpec:
    fits = key.type == "N" and seen is not None and seen.numbers.seen > 0 and seen.numbers.all_int64
    return ColumnSpec(_named((key.name,), taken), "Int64" if fits else "String", (key.name,), (key.type,), key=True)


def _observed_key(column: ColumnSpec, seen: Seen | None) -> Observation:
    why = {
        ("Int64", "N"): "a key; all sampled ones are whole numbers of 64 bits: another one becomes a dead letter",
        ("String", "N"): "a key; numbers as text, as not all sampled ones are whole numbers of 64 bits",
        ("String", "B"): "a key; binary as base64",
    }.get((column.type, column.takes[0]), "a key")
    return _Place(column.path, seen or Seen(), why).observed(column)


def _tag(seen: Seen) -> AttributeType:
    return cast(AttributeType, seen.tag)


def _places(path: tuple[str, ...], seen: Seen, nested: Nested) -> list[_Place]:
    """Return what may become a column at and below a place, and what is there and becomes none."""
    tag = seen.tag
    if tag is None:
        return [_Place(path, seen, f"seen only as {_nothing(seen)}, which tells no type: it stays in the spill")]
    if tag == "M" and seen.children and not is_dictionary(seen):
        inner = [place for name, child in seen.children.items() for place in _places((*path, name), child, nested)]
        return [_Place(path, seen, f"maps, flattened into the {len(seen.children)} places inside"), *inner]
    kind, why, encoding = column_type(tag, seen, nested)
    others = len(seen.tags.keys() - {tag, "NULL"})
    more = "; the most frequent type, values of other types stay in the spill" if others else ""
    return [_Place(path, seen, why + more, kind, encoding)]


def _nothing(seen: Seen) -> str:
    names = {"L": "empty lists", "M": "empty maps", "NULL": "NULL"}
    return " and ".join(name for tag, name in names.items() if seen.tags[tag])

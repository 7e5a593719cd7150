"""A destination row read back as text, into the DynamoDB item that it stands for: what `verify` compares.

Deliberately shares no code with the way in, but for the grammar of types and canonical values: a mistake made while
encoding must not be undone by the same mistake here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.types.dynamodb_values import Item, TypedValue, canonical, canonical_item

from .readback import Reader, column_reader, readback_expression

_NULL: TypedValue = {"NULL": True}


@dataclass(frozen=True, slots=True)
class Rendered:
    """An item as its row shows it. ``ambiguous``: attributes that the row does not show completely."""

    item: Item
    ambiguous: frozenset[str]


class RowRenderer:
    """Renders rows of one table. ``expressions`` are what to SELECT, one per column of the spec, in its order."""

    def __init__(self, spec: TableSpec) -> None:
        self._has_spill = bool(spec.spill_column)
        self._redaction = spec.redaction
        self._columns: list[tuple[ColumnSpec, Reader]] = [
            (column, column_reader(column.type, column.takes[0], column.encoding)) for column in spec.columns
        ]
        self.expressions: tuple[str, ...] = tuple(map(readback_expression, spec.columns))

    def render(self, values: Sequence[str | None], spill: str) -> Rendered:
        """Return the item of a row: ``values`` of the expressions, and the spill column's text, '' if it has none."""
        kept: Item = orjson.loads(spill) if spill else {}
        item: Item = {}
        parts: list[tuple[ColumnSpec, TypedValue]] = []
        ambiguous: set[str] = set()
        for (column, reader), text in zip(self._columns, values, strict=True):
            name = column.path[0]
            if name in kept:
                continue
            if column.lossy and not column.key:  # it tells what it tells, which need not be readable as its type
                ambiguous.add(name)
                continue
            value = None if text is None or (reader.is_default(text) and not column.key) else reader.read(text)
            if self._tells_less(column, value):
                ambiguous.add(name)
            if value is None:
                continue
            if len(column.path) > 1:
                parts.append((column, value))
            elif column.key or name not in item:
                item[name] = value
        told_whole = item.keys() & {column.path[0] for column, _ in parts}
        for column, value in parts:
            if column.path[0] not in told_whole:
                _put(item, column.path, value)
        return Rendered(canonical_item(item) | kept, frozenset(ambiguous))

    def _tells_less(self, column: ColumnSpec, value: TypedValue | None) -> bool:
        if column.key:
            return False
        says_its_type = len(column.takes) == 1 or column.encoding == "typed"
        return not (self._has_spill or (value is not None and says_its_type))

    def differences(self, source: Mapping[str, object], values: Sequence[str | None], spill: str) -> list[str]:
        """Return the attributes in which a source item and its row differ, as far as the row can tell, sorted.

        What the table leaves out or masks is left out of, or masked in, the source item first.

        Raises UndecodableRecord when the source item holds something that DynamoDB does not have.
        """
        source = self._redaction.apply(source)
        if not self._has_spill:
            return sorted(set(self._differing_columns(source, values)))
        rendered = self.render(values, spill)
        item = canonical_item(source)
        names = (item.keys() | rendered.item.keys()) - rendered.ambiguous - self._left_to_default(item)
        return sorted(name for name in names if item.get(name) != rendered.item.get(name))

    def _left_to_default(self, item: Item) -> set[str]:
        """Attributes of columns that show a DEFAULT of someone else's, since the item has nothing for them."""
        return {
            column.path[0]
            for column, _ in self._columns
            if column.defaulted and _at(item, column.path) in (None, _NULL)
        }

    def _differing_columns(self, source: Mapping[str, object], values: Sequence[str | None]) -> list[str]:
        """Without a spill, attributes without a column are not told, and NULL or a default stands for absent, too."""
        found = []
        for (column, reader), text in zip(self._columns, values, strict=True):
            if column.lossy or (len(column.takes) > 1 and not column.key and column.encoding != "typed"):
                continue
            value = _at(source, column.path)
            if column.defaulted and value in (None, _NULL):
                continue
            told = None if text is None else canonical(reader.read_or_default(text))
            if value != told and not (value in (None, _NULL) and (text is None or reader.is_default(text))):
                found.append(column.path[0])
        return found


def _put(item: Item, path: tuple[str, ...], value: TypedValue) -> None:
    """Write a leaf into an item, making the maps on the way."""
    place = item.setdefault(path[0], {"M": {}})
    for name in path[1:-1]:
        inner = place["M"]
        if not isinstance(inner, dict):  # never: what is put here is a map
            return
        place = inner.setdefault(name, {"M": {}})
    last = place.get("M")
    if isinstance(last, dict):
        last[path[-1]] = value


def _at(source: Mapping[str, object], path: tuple[str, ...]) -> TypedValue | None:
    place: object = source
    for index, name in enumerate(path):
        if index:
            place = place.get("M") if isinstance(place, dict) else None
        place = place.get(name) if isinstance(place, Mapping) else None
    return None if place is None else canonical(place)

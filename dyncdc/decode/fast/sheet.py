"""One sub-batch of one table, column by column: what is plain at once, the rest value by value or record by record.

Rows keep their order whatever path they take: a record of the exact path is written over its own place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final, TypeVar

import msgspec
import orjson

from ...model import Block, Position
from ..attributes import spill_text
from ..plan import Row
from ..undecodable import Undecodable
from .columns import Cells
from .objects import UNREADABLE, Column, Object, ObjectReader, Other
from .reading import bytes_left, encoded, parsed, read_objects
from .table import Attribute, FastTable, Group, Key
from .typed import canonical_texts, is_set

T = TypeVar("T")

FRAGMENT: Final = orjson.Fragment

Exactly = Callable[[int], Row | None]
"""Takes a record down the exact path: its row, or None when it has none (the caller buries it)."""

OPEN_SHARE = 1 / 16
"""From this share of records with attributes that have no column, images are looked through for them."""


@dataclass(slots=True)
class Records:
    """What the fast path needs of a sub-batch of one table, a record each, in order.

    ``keys`` where they are told apart from the images. An image is None for a tombstone. ``slow``: rows known to need
    the exact path; nothing else of them is looked at.
    """

    images: list[Object | None]
    versions: list[int]
    positions: list[Position]
    keys: list[Object | None] | None = None
    slow: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Built:
    """A block, None when no record had a row. ``first``: which record the first row is of."""

    block: Block | None
    first: int = 0
    spilled: int = 0
    outside: int = 0


class Sheet:
    """Builds one block."""

    def __init__(self, table: FastTable, records: Records, exactly: Exactly) -> None:
        self._table = table
        self._records = records
        self._rows = len(records.images)
        self._slow = records.slow
        self._levels = 1 if records.keys is not None else 2
        self._exactly = exactly
        self._cells: dict[int, Cells] = {}
        self._absent: dict[str, int] = {}
        self._rest: dict[int, dict[str, object]] = {}
        self._news: set[int] = set()
        """Rows that may have an attribute without a column in the spill."""
        self._outside: dict[int, int] = {}
        self._scratch = Row(b"", [*table.defaults, *[b""] * (len(table.plan.columns) - len(table.defaults))], 0)

    def build(self) -> Built:
        """Return the block of all records, in their order."""
        table, images, objects = self._table, self._records.images.copy(), self._records.keys
        for row in self._slow:
            images[row] = None
        columns, others = read_objects(table.images, images, self._slow, is_open=table.open)
        keys: Sequence[Column] = columns
        if objects is not None:
            objects = objects.copy()
            for row in self._slow:
                images[row] = objects[row] = None
            keys, _ = read_objects(table.key_objects, objects, self._slow)
            self._compare_keys(images, columns, keys)
        key_cells = [self._encode_key(key, keys[key.place]) for key in table.keys]
        for attribute in table.attributes:
            self._fill(attribute, columns[attribute.place])
        self._keep_others(others)
        if objects is not None:
            self._balance(table.key_objects, objects, keys)
            missing = sum([image is None for image in images])
            self._absent.update((key.name, missing) for key in table.keys)
        self._balance_images(images, columns, others)
        return self._assemble([pieces(cells, self._rows) for cells in key_cells])

    def _compare_keys(self, images: Sequence[Object | None], columns: Sequence[Column], keys: Sequence[Column]) -> None:
        """A key is that of its image, letter by letter; else the exact path looks at it."""
        upserts = [row for row, image in enumerate(images) if image is not None]
        for key in self._table.keys:
            told, found = keys[key.place], columns[key.place]
            if b"\n".join([told[row] for row in upserts]) != b"\n".join([found[row] for row in upserts]):
                self._slow.update(row for row in upserts if bytes(told[row]) != bytes(found[row]))

    def _balance(self, reader: ObjectReader, objects: Sequence[Object | None], columns: Sequence[Column]) -> None:
        if bytes_left(reader, objects, columns, self._absent):
            self._slow.update(reader.surplus(objects, columns) or range(self._rows))

    def _balance_images(
        self, images: Sequence[Object | None], columns: Sequence[Column], others: Sequence[Other]
    ) -> None:
        """Send images down the exact path that hold more than was found in them; look closer if they are many."""
        table = self._table
        if table.open:
            self._slow.update(table.images.surplus(images, columns, others))
            table.open = bool(others)
        elif bytes_left(table.images, images, columns, self._absent):
            found = table.images.surplus(images, columns)
            self._slow.update(found or range(self._rows))  # never trust what does not add up
            table.open = len(found) > OPEN_SHARE * len(images)

    # Encoding

    def _encode_key(self, key: Key, raws: Column) -> Cells:
        cells, odd = encoded(key.encoder, raws)
        absent = key.encoder.absent
        self._absent[key.name] = cells.absent - len(odd)
        self._slow.update(odd)
        self._slow.update(cells.nulls)
        if cells.absent:
            self._slow.update(row for row, raw in enumerate(raws) if raw is absent)
        self._cells[key.index] = cells
        return cells

    def _fill(self, attribute: Attribute, raws: Column) -> None:
        """Encode one attribute, and note what of it goes to the spill."""
        if b"".join(raws) == bytes(self._table.images.absents[attribute.place]) * len(raws):
            self._absent[attribute.name] = len(raws)
            for index in attribute.indexes:
                self._cells[index] = Cells(b",".join([self._table.defaults[index]] * len(raws)))
            return
        if attribute.encoder is None:
            absent = self._table.images.absents[attribute.place]
            there = [row for row, raw in enumerate(raws) if raw is not absent]
            self._absent[attribute.name] = len(raws) - len(there)
            found, odd = self._members(attribute.group, raws, there) if attribute.group else (None, there)
            if found is None:
                defaults = [FRAGMENT(self._table.defaults[index]) for index in attribute.indexes]
                found, odd = [Cells(b"", values=[default] * len(raws)) for default in defaults], there
        else:
            cells, odd = encoded(attribute.encoder, raws)
            self._absent[attribute.name] = cells.absent - len(odd)
            self._note(attribute, cells)
            found = [cells]
        if odd:
            for cells in found:
                cells.values, cells.body = cells.listed(), b""
            for row in odd:
                self._exact_value(row, attribute.name, raws[row], attribute.indexes, found)
        self._cells.update(zip(attribute.indexes, found, strict=True))

    def _members(self, group: Group, raws: Column, there: list[int]) -> tuple[list[Cells] | None, list[int]]:
        """Encode the parts of maps; a map that its columns do not tell whole is odd. None if nothing else would be."""
        reader, objects, odd = group.reader, list[Object | None]([None] * len(raws)), set[int]()
        for row in there:
            objects[row] = raws[row]
        try:
            columns = reader.columns(objects)
        except UNREADABLE:
            odd.update(row for row in there if not reader.readable(raws[row]))
            for row in odd:
                objects[row] = None
            columns = reader.columns(objects)
        odd.update(reader.surplus(objects, columns))
        found = []
        for (_, encoder), column in zip(group.members, columns, strict=True):
            cells, strange = encoded(encoder, column)
            odd.update(strange, cells.nulls, cells.defaults)
            found.append(cells)
        return (found if len(odd) < len(there) else None), sorted(odd)

    def _note(self, attribute: Attribute, cells: Cells) -> None:
        name = attribute.name
        if not attribute.null_fits:
            self._slow.update(cells.nulls)
        elif attribute.null is not None:
            for row in cells.nulls:
                self._rest.setdefault(row, {})[name] = attribute.null
        if attribute.default is not None:
            for row in cells.defaults:
                self._rest.setdefault(row, {})[name] = attribute.default

    def _keep_others(self, others: Sequence[Other]) -> None:
        """Spill attributes without a column, or count them where there is no spill."""
        if not self._table.has_spill and parsed([raw for _, _, raw in others], self._levels) is not None:
            for row, _, _ in others:
                self._outside[row] = self._outside.get(row, 0) + 1
            return
        newcomers, texts = self._table.plan.newcomers, list[bytes | None]()
        if self._table.has_spill and (newcomers is None or newcomers.closed):
            plain = [raw for _, _, raw in others if not is_set(raw)]
            found = iter(canonical_texts(plain))
            texts = [None if is_set(raw) else next(found) for _, _, raw in others]
        for (row, name, raw), text in zip_longest(others, texts):
            if text is None:
                self._exact_value(row, name, raw)
            else:
                self._rest.setdefault(row, {})[name] = FRAGMENT(text)

    def _exact_value(
        self, row: int, name: str, raw: msgspec.Raw, indexes: Sequence[int] = (), columns: Sequence[Cells] = ()
    ) -> None:
        """Take one value down the exact path; its whole record, if that refuses it."""
        scratch, plan = self._scratch, self._table.plan
        scratch.outside = 0
        kept, found = None, parsed([raw], self._levels)
        try:
            if found is not None:
                kept = plan.fill_attribute(name, found[0], scratch)
        except (Undecodable, RecursionError):
            found = None
        if found is None:
            self._slow.add(row)
        if kept is not None:
            self._rest.setdefault(row, {})[name] = kept
            self._news.add(row)
        if scratch.outside:
            self._outside[row] = self._outside.get(row, 0) + scratch.outside
        for index, cells in zip(indexes, columns, strict=True):
            if cells.values is not None:
                cells.values[row] = FRAGMENT(bytes(scratch.cells[index]))
            scratch.cells[index] = self._table.defaults[index]

    # Putting together

    def _assemble(self, key_pieces: Sequence[Sequence[bytes]]) -> Built:
        table, records = self._table, self._records
        keys = list(map(b",".join, zip(*key_pieces, strict=True))) if len(key_pieces) > 1 else list(key_pieces[0])
        rows = {row: self._exactly(row) for row in sorted(self._slow)}
        dead = [row for row, found in rows.items() if found is None]
        if len(dead) == self._rows:
            return Built(None)
        for row in rows:
            self._rest.pop(row, None)
            self._outside.pop(row, None)
        self._tell_news()
        versions, positions = records.versions, records.positions
        exact = [(row, found) for row, found in rows.items() if found is not None]
        for row, found in exact:
            keys[row], versions[row] = found.key, found.version
        columns = [self._column(index, exact, dead) for index in range(len(table.plan.columns))]
        without(keys, dead)
        without(versions, dead)
        without(positions, dead)
        block = Block(
            table=table.plan.destination,
            columns=table.plan.columns,
            cells=columns,
            rows=len(keys),
            keys=keys,
            versions=versions,
            positions=orjson.dumps(positions)[1:-1],
        )
        return Built(
            block,
            next(row for row in range(self._rows) if row not in rows or rows[row] is not None),
            sum(map(len, self._rest.values())) + sum(found.spilled for _, found in exact),
            sum(self._outside.values()) + sum(found.outside for _, found in exact),
        )

    def _tell_news(self) -> None:
        newcomers = self._table.plan.newcomers
        if newcomers is not None and not newcomers.closed:
            for row in self._news & self._rest.keys():
                newcomers.look(self._rest[row])

    def _column(self, index: int, exact: Sequence[tuple[int, Row]], dead: Sequence[int]) -> bytes:
        """Return the cells of one column, joined."""
        cells = self._cells.get(index)
        if cells is None:
            cells = self._own_column(index)
        if not exact and not dead and cells.body:
            return cells.body
        values = cells.listed()
        for row, found in exact:
            values[row] = FRAGMENT(bytes(found.cells[index]))
        without(values, dead)
        return orjson.dumps(values)[1:-1]

    def _own_column(self, index: int) -> Cells:
        """The version, whether it is a tombstone, and the spill."""
        spec, records = self._table.plan.spec, self._records
        name = self._table.plan.columns[index]
        if name == spec.version_column:
            if self._table.plan.wide_version:
                return Cells(b",".join([b'"%d"' % version for version in records.versions]))
            return Cells(orjson.dumps(records.versions)[1:-1])
        if name == spec.deleted_column:
            return Cells(b",".join([b"0" if image is not None else b"1" for image in records.images]))
        values: list[object] = [""] * self._rows
        for row, rest in self._rest.items():
            values[row] = spill_text(rest)
        return Cells(orjson.dumps(values)[1:-1])


def pieces(cells: Cells, rows: int) -> list[bytes]:
    """Return the cells of a key column one by one."""
    # A text that is a comma, or ends in a quote and one, looks like the end of a text.
    if cells.absent or cells.nulls or b'",","' in cells.body:
        return list(map(orjson.dumps, cells.listed()))
    found = cells.body.replace(b'","', b'"\n"').split(b"\n")
    return found if len(found) == rows else list(map(orjson.dumps, cells.listed()))


def without(values: list[T], dead: Sequence[int]) -> None:
    """Remove the rows that records without a row would have."""
    for row in reversed(dead):
        del values[row]

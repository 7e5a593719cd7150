"""A table's mapping compiled: items, tombstones and keys into cells, by the rules for spill and misfit. Pure.

This is the reference path. A faster one may stand beside it, but must give the same bytes for whatever it accepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Final

import orjson

from dyncdc.errors import ConfigError
from dyncdc.schema.spec_checks import check_redaction, check_table, unusable
from dyncdc.schema.table_spec import SEQUENCE_BITS, TableSpec
from dyncdc.schema.types.cells import NULL_CELL, Rounded, compact
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.dynamodb_values import TypedValue, canonical, null, spill_text, unpack
from dyncdc.schema.types.reject_reasons import BAD_ENVELOPE, BAD_VERSION, KEY_DOES_NOT_FIT, MISFIT, UndecodableRecord
from dyncdc.schema.unmapped import UnmappedAttributes

from .column_plan import Column, KeyColumn, Node, add_column, key_column
from .dead_letters.redacted_records import redacted_record
from .history_rows import HistoryPlan, is_sequence_number

_HELD: Final = 1
"""Some column says everything about this value."""
_SPILL: Final = 2
"""Some column could not take this value, or does not say everything about it."""


@dataclass(slots=True)
class Row:
    """One row: ``cells`` in the order of the plan's columns, ``key`` equal for equal keys and for nothing else."""

    key: bytes
    cells: list[bytes]
    version: int
    spilled: int = 0
    """Attributes that went to the spill."""
    outside: int = 0
    """Attributes, or parts of them, without a column, in a table without a spill."""


class TablePlan:
    """Makes rows of one table. Made by ``compile_table``; holds no state between rows."""

    def __init__(self, spec: TableSpec, columns: tuple[str, ...], keys: list[KeyColumn], root: dict[str, Node]) -> None:
        self.spec = spec
        self.source_table = spec.source_table
        self.destination = spec.destination
        self.columns = columns
        self.keeps_deletes = spec.deletes == "tombstone"
        self.keeps_expired = spec.ttl_deletes == "keep"
        self.wide_version = spec.version_type == "UInt256"
        self._redaction = spec.redaction
        self.history = HistoryPlan(spec, [key.index for key in keys]) if spec.history else None
        self.unmapped: UnmappedAttributes | None = None
        """Collects attributes without a column, where they may become columns."""
        self._keys = keys
        self._key_names = frozenset(key.attribute for key in keys)
        self._root = root
        self.optional = tuple(column.name for column in spec.columns if column.defaulted)
        self._defaults = fillings(spec)
        self._defaults += [b'""'] * (len(columns) - len(self._defaults))
        self._spill = columns.index(spec.spill_column) if spec.spill_column else None
        self._version = columns.index(spec.version_column)
        self._deleted = columns.index(spec.deleted_column) if spec.deleted_column else None
        self._expired = columns.index(spec.expired_column) if spec.expired_column else None

    def redact(self, image: Mapping[str, object]) -> Mapping[str, object]:
        """Return what may be kept of an image: without what the table leaves out or masks. ``upsert`` does so itself.

        Raises UndecodableRecord for what is no DynamoDB value.
        """
        return self._redaction.apply(image) if self._redaction else image

    @property
    def redacts(self) -> bool:
        """Whether the table leaves out or masks anything."""
        return bool(self._redaction)

    def keepable(self, record: bytes) -> bytes:
        """Return what a dead letter may keep of a change record or of a line of an export."""
        return redacted_record(record, self._redaction, self._key_names) if self._redaction else record

    def of_masked(self, masked: Iterable[tuple[str, ...]]) -> TablePlan:
        """Return this plan for items in which these paths are masked already: records that a dead letter kept."""
        plan = copy(self)
        plan._redaction = self._redaction.without_masks(masked)
        return plan

    def version(self, microseconds: int, position: str = "") -> int:
        """Return a row's version; ``position`` is the record's sequence number, "" for rows of a snapshot.

        Raises UndecodableRecord when the version needs a sequence number and this is none.
        """
        if not self.wide_version:
            return microseconds
        sequence = 0
        if position:
            if not is_sequence_number(position):
                raise UndecodableRecord(BAD_VERSION, "the record's position is not a sequence number")
            sequence = int(position)
        if sequence >> SEQUENCE_BITS:
            raise UndecodableRecord(BAD_VERSION, "the record's sequence number is too large")
        return microseconds << SEQUENCE_BITS | sequence

    def tombstone(self, keys: Mapping[str, object], version: int) -> Row:
        """Return the row that says an item is gone. Raises UndecodableRecord."""
        self._check_key_names(keys)
        cells = self._defaults.copy()
        row = Row(self._fill_keys(keys, cells), cells, version)
        self._stamp(cells, version, b"1")
        return row

    def expired(self, image: Mapping[str, object] | None, version: int, keys: Mapping[str, object]) -> Row:
        """Return the row of an item whose time had come, as it was. Raises UndecodableRecord, also without an image."""
        if image is None or self._expired is None:
            raise UndecodableRecord(BAD_ENVELOPE, "a TTL delete without OldImage cannot be kept")
        row = self.upsert(image, version, keys)
        row.cells[self._expired] = b"1"
        return row

    def upsert(self, image: Mapping[str, object], version: int, keys: Mapping[str, object] | None = None) -> Row:
        """Return the row of an item; ``keys``, if the record has them apart, must agree. Raises UndecodableRecord."""
        if keys is not None:
            self._check_key_names(keys)
            if any(image.get(name) != value for name, value in keys.items()):
                raise UndecodableRecord(BAD_ENVELOPE, "the record's key is not that of its image")
        image = self.redact(image)
        cells = self._defaults.copy()
        row = Row(self._fill_keys(image, cells), cells, version)
        rest: dict[str, TypedValue] = {}
        for name, value in image.items():
            kept = self.fill_attribute(name, value, row)
            if kept is not None:
                rest[name] = kept
        if rest and self._spill is not None:
            cells[self._spill] = orjson.dumps(spill_text(rest))
            row.spilled = len(rest)
            if self.unmapped is not None:
                self.unmapped.observe(rest)
        self._stamp(cells, version, b"0")
        return row

    def fill_attribute(self, name: str, value: object, row: Row) -> TypedValue | None:
        """Write the cells that one attribute fills; return what the spill keeps of it. Raises UndecodableRecord.

        Nothing is redacted here.
        """
        node = self._root.get(name)
        if node is not None:
            tag, payload = unpack(value)
            if self._fill(node, tag, payload, row) == _HELD:
                return None
        elif self._spill is None:
            row.outside += name not in self._key_names
        return canonical(value) if self._spill is not None and name not in self._key_names else None

    def _stamp(self, cells: list[bytes], version: int, deleted: bytes) -> None:
        cells[self._version] = b'"%d"' % version if self.wide_version else b"%d" % version
        if self._deleted is not None:
            cells[self._deleted] = deleted
        if self._expired is not None:
            cells[self._expired] = b"0"

    def _check_key_names(self, keys: Mapping[str, object]) -> None:
        if keys.keys() != self._key_names:  # the table was dropped and made again with another key
            raise UndecodableRecord(KEY_DOES_NOT_FIT, "the record's key has other attributes than the table's")

    def _fill_keys(self, image: Mapping[str, object], cells: list[bytes]) -> bytes:
        found = []
        for key in self._keys:
            value = image.get(key.attribute)
            if value is None:
                raise UndecodableRecord(BAD_ENVELOPE, "a key attribute is missing", column=key.name)
            tag, payload = unpack(value)
            cell = key.encode(payload) if tag == key.tag else None
            if type(cell) is not bytes:  # None, or Inexact: two keys must never meet in one cell
                detail = f"the key's {tag if tag in _TYPES else 'value'} does not fit {key.label}"
                raise UndecodableRecord(KEY_DOES_NOT_FIT, detail, column=key.name)
            cells[key.index] = cell
            found.append(cell)
        return compact(found)

    def _fill(self, node: Node, tag: str, payload: object, row: Row) -> int:
        """Write the cells that a value fills, and return whether they say everything about it."""
        state = 0
        for column in node.columns:
            state |= self._fill_column(column, tag, payload, row.cells)
        if node.children:
            if tag == "M" and type(payload) is dict:
                state |= self._fill_children(node, payload, row)
            elif not node.columns:
                row.outside += self._spill is None
        return state

    def _fill_children(self, node: Node, payload: dict[str, object], row: Row) -> int:
        state = _HELD if payload else 0
        for name, value in payload.items():
            child = node.children.get(name)
            if child is None:
                state &= ~_HELD
                row.outside += self._spill is None and not node.columns
                continue
            found = self._fill(child, *unpack(value), row)
            state = (state & found & _HELD) | ((state | found) & _SPILL)
        return state

    def _fill_column(self, column: Column, tag: str, payload: object, cells: list[bytes]) -> int:
        if tag == "NULL":
            null(payload)
            if not column.nullable:
                return self._misfit(column, tag)
            return _HELD if column.lossy else _SPILL
        encode = column.encoders.get(tag)
        cell = encode(payload) if encode is not None else None
        if cell is None or (type(cell) is Rounded and not column.lossy):
            how = "exactly" if cell is None else _UNLESS_LOSSY
            return self._misfit(column, tag, how)
        cells[column.index] = cell
        if column.lossy:
            return _HELD
        if type(cell) is not bytes:
            return _SPILL if self._spill is not None else self._misfit(column, tag, _UNLESS_LOSSY)
        # A value that looks like an absent one, or like one of another type, is told apart by the spill alone.
        return _SPILL if (tag != column.own and column.own) or cell == column.default else _HELD

    def _misfit(self, column: Column, tag: str, how: str = "exactly") -> int:
        if self._spill is None:
            found = f"a value of type {tag}" if tag in _TYPES else "a value"
            raise UndecodableRecord(MISFIT, f"{found} does not fit {column.label} {how}", column=column.name)
        return _SPILL


def fillings(spec: TableSpec) -> list[bytes]:
    """Return the cell of each attribute's column in a row without that attribute."""
    return [
        NULL_CELL if column.defaulted else compile_type(column.type, column.encoding).default for column in spec.columns
    ]


_UNLESS_LOSSY: Final = "exactly (lossy = true would accept it)"
_TYPES: Final = frozenset({"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"})


def compile_table(spec: TableSpec) -> TablePlan:
    """Compile a table's plan. Raises ConfigError naming the column that cannot work."""
    names = [column.name for column in spec.columns]
    own = spec.spill_column, spec.version_column, spec.deleted_column, spec.expired_column
    names += [name for name in own if name]
    check_table(spec, names)
    check_redaction(spec)
    root: dict[str, Node] = {}
    keys: dict[str, KeyColumn] = {}
    attributes = {key.name: key for key in spec.keys}
    for index, column in enumerate(spec.columns):
        codec = compile_type(column.type, column.encoding)
        if column.key:
            key = key_column(spec, index, column, codec, attributes)
            if keys.setdefault(key.attribute, key) is not key:
                raise unusable(spec, column, f"two key columns take the attribute {key.attribute!r}")
        else:
            add_column(spec, root, index, column, codec)
    missing = [key.name for key in spec.keys if key.name not in keys]
    if missing:
        where = f"mapping {spec.source_table} to {spec.destination}"
        hint = "every key attribute needs a column of its own in ORDER BY"
        raise ConfigError(f"{where}: no column takes the key attribute {missing[0]!r}", hint=hint)
    return TablePlan(spec, tuple(names), [keys[key.name] for key in spec.keys], root)

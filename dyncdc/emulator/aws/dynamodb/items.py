"""The items of one table: by partition (hash of the hash key), then hash key, then range key in order. No protocol.

Stored attributes are never changed in place: a write replaces the row. So a list of rows is a snapshot of one instant.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from dyncdc.emulator.aws.server.wire import Wire

from .values import binary, canonical_value, invalid

PARTITIONS = 256
RangeKey = bytes | Decimal
"""What range keys are compared by: UTF-8 bytes, binary, or the number. A table without range key uses ``NO_RANGE``."""

NO_RANGE = b""


@dataclass(frozen=True, slots=True)
class Key:
    """The primary key of an item: ``digest`` places it, ``sort`` orders it inside its hash key."""

    digest: bytes
    sort: RangeKey

    @property
    def place(self) -> tuple[bytes, RangeKey]:
        """Return what a full scan is ordered by."""
        return self.digest, self.sort


@dataclass(frozen=True, slots=True)
class Row:
    """One item as stored, and its size in bytes."""

    key: Key
    attributes: Wire
    size: int


@dataclass(slots=True)
class _Collection:
    """All items with one hash key."""

    rows: dict[RangeKey, Row] = field(default_factory=dict)
    order: list[RangeKey] | None = None

    def sorted_keys(self) -> list[RangeKey]:
        if self.order is None:
            self.order = sorted(self.rows)
        return self.order


@dataclass(frozen=True, slots=True)
class KeySchema:
    """Names and types of the key attributes, HASH first."""

    names: tuple[str, ...]
    types: tuple[str, ...]

    def key(self, attributes: Wire) -> Key:
        """Return the key of an item or of a key document.

        Raises:
            AwsError: ValidationException: a key attribute is missing, empty or of another type.
        """
        parts = []
        for name, kind in zip(self.names, self.types, strict=True):
            value = attributes.get(name)
            if value is None:
                raise invalid(f"One or more parameter values were invalid: Missing the key {name} in the item")
            content = canonical_value(value)[0].get(kind)
            if content is None:
                actual = next(iter(value))
                raise invalid(
                    f"One or more parameter values were invalid: Type mismatch for key {name} "
                    f"expected: {kind} actual: {actual}"
                )
            if content == "":
                raise invalid(
                    "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain "
                    f"an empty {'string' if kind == 'S' else 'binary'} value. Key: {name}"
                )
            parts.append(sort_key(kind, content))
        hashed = parts[0] if isinstance(parts[0], bytes) else str(parts[0]).encode()
        digest = hashlib.md5(hashed, usedforsecurity=False).digest() + hashed
        return Key(digest, parts[1] if len(parts) > 1 else NO_RANGE)

    def only(self, attributes: Wire) -> Wire:
        """Return the key attributes of an item."""
        return {name: attributes[name] for name in self.names}

    def check_exact(self, key: Wire) -> None:
        """Refuse a key document with other attributes than the key's.

        Raises:
            AwsError: ValidationException.
        """
        if set(key) != set(self.names):
            raise invalid("The provided key element does not match the schema")


def sort_key(kind: str, content: str) -> RangeKey:
    """Return what a key attribute is compared by."""
    if kind == "N":
        return Decimal(content)
    return content.encode() if kind == "S" else binary(content)


class Items:
    """The rows of one table."""

    def __init__(self, schema: KeySchema) -> None:
        self.schema = schema
        self.count = 0
        self.size_bytes = 0
        self._partitions: list[dict[bytes, _Collection]] = [{} for _ in range(PARTITIONS)]

    def get(self, key: Key) -> Row | None:
        """Return the row with ``key``."""
        collection = self._partitions[key.digest[0]].get(key.digest)
        return None if collection is None else collection.rows.get(key.sort)

    def put(self, row: Row) -> Row | None:
        """Store a row; return the one that it replaces."""
        collection = self._partitions[row.key.digest[0]].setdefault(row.key.digest, _Collection())
        old = collection.rows.get(row.key.sort)
        collection.rows[row.key.sort] = row
        self.size_bytes += row.size
        if old is None:
            self.count += 1
            collection.order = None
        else:
            self.size_bytes -= old.size
        return old

    def delete(self, key: Key) -> Row | None:
        """Remove a row; return it."""
        partition = self._partitions[key.digest[0]]
        collection = partition.get(key.digest)
        old = None if collection is None else collection.rows.pop(key.sort, None)
        if collection is None or old is None:
            return None
        collection.order = None
        if not collection.rows:
            del partition[key.digest]
        self.count -= 1
        self.size_bytes -= old.size
        return old

    def rows(self) -> Iterator[Row]:
        """Iterate over all rows in no order. The table must not change meanwhile."""
        for partition in self._partitions:
            for collection in partition.values():
                yield from collection.rows.values()

    def scan(self, after: Key | None, segment: int, segments: int) -> Iterator[Row]:
        """Iterate over a segment in the table's own order, from the row after ``after``."""
        first, last = _segment_start(segment, segments), _segment_start(segment + 1, segments)
        start = max(first, after.digest) if after else first
        for number in range(start[0] if start else 0, PARTITIONS):
            partition = self._partitions[number]
            for digest in sorted(digest for digest in partition if digest >= start):
                if last and digest >= last:
                    return
                resume = after.sort if after and digest == after.digest else None
                yield from self._collection(partition[digest], resume, backward=False)

    def query(self, digest: bytes, after: Key | None, *, backward: bool) -> Iterator[Row]:
        """Iterate over the rows of one hash key by range key, from the row after ``after``."""
        collection = self._partitions[digest[0]].get(digest)
        if collection is not None:
            yield from self._collection(collection, after.sort if after else None, backward=backward)

    def _collection(self, collection: _Collection, after: RangeKey | None, *, backward: bool) -> Iterator[Row]:
        keys = collection.sorted_keys()
        if backward:
            end = len(keys) if after is None else bisect_left(keys, after)
            keys = keys[:end][::-1]
        elif after is not None:
            keys = keys[bisect_right(keys, after) :]
        for key in keys:
            yield collection.rows[key]


def _segment_start(segment: int, segments: int) -> bytes:
    """Return the smallest digest of a segment; empty when it starts at the beginning, or behind the last one."""
    if segment == 0 or segment >= segments:
        return b""
    return ((segment << 32) // segments).to_bytes(4, "big")

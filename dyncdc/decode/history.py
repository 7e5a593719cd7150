"""Rows of a history: every change of a table, and every item of its snapshots, appended and never replaced. Pure.

A change read again, whatever the batch, has the same key (keys of the item, version, event id), so it is one row for
whoever reads with FINAL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from .attributes import canonical_item, spill_text
from .cells import quoted
from .envelope import Change
from .spec import ColumnSpec, TableSpec
from .undecodable import BAD_VERSION, Undecodable

HISTORY_COLUMNS: Final[Mapping[str, str]] = {
    "event_name": "LowCardinality(String)",
    "time": "DateTime64(6, 'UTC')",
    "deleted_by": "LowCardinality(String)",
    "old_image": "String",
    "new_image": "String",
    "version": "Int64",
    "sequence_number": "UInt256",
    "shard": "String",
    "event_id": "String",
}
"""Columns of a history behind the keys, with their types."""

SNAPSHOT: Final = "SNAPSHOT"
"""Event of a row that is no change but an item of a snapshot."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final = b'""'


def history_name(name: str, keys: Collection[str]) -> str:
    """Return how a history calls one of ``HISTORY_COLUMNS``: an underscore in front for each key that is called so."""
    while name in keys:
        name = f"_{name}"
    return name


def history_keys(spec: TableSpec) -> tuple[ColumnSpec, ...]:
    """Return the destination's columns of the key attributes, HASH first: a history has the same."""
    by_attribute = {column.path[0]: column for column in spec.columns if column.key}
    return tuple(by_attribute[key.name] for key in spec.keys if key.name in by_attribute)


def time_cell(microseconds: int) -> bytes:
    """Return the cell of an instant, exact to the microsecond."""
    return quoted((_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%d %H:%M:%S.%f"))


class HistoryPlan:
    """Makes the rows of one history, as cells in the order of ``columns``. Holds no state between rows."""

    def __init__(self, spec: TableSpec, keys: Sequence[int]) -> None:
        """``keys``: where the destination's rows have the cells of the key."""
        names = [key.name for key in history_keys(spec)]
        self.table = spec.history
        self.columns = (*names, *(history_name(name, names) for name in HISTORY_COLUMNS))
        self._keys = tuple(keys)
        self._base_microseconds = spec.base_microseconds

    def change(
        self,
        cells: Sequence[bytes],
        change: Change,
        redact: Callable[[Mapping[str, object]], Mapping[str, object]],
        microseconds: int,
        position: str,
        shard: str,
    ) -> list[bytes]:
        """Return the row of a change; ``cells``: of its row in the destination, tombstones included.

        ``redact`` returns what may be kept of an image; ``position`` is the record's sequence number. Raises
        Undecodable for an image that is none.
        """
        if not (position.isascii() and position.isdigit() and len(position) < 64):
            raise Undecodable(BAD_VERSION, "the record's position is not a sequence number")
        removed = change.event_name == "REMOVE"
        deleted_by = ("ttl" if change.by_ttl else "user") if removed else ""
        old = change.old_image
        return [
            *(cells[index] for index in self._keys),
            quoted(change.event_name),
            time_cell(microseconds),
            quoted(deleted_by),
            _NOTHING if old is None else _image_cell(redact(old)),
            _NOTHING if removed else _image_cell(redact(change.new_image)),
            quoted(str(microseconds)),
            quoted(position),
            orjson.dumps(shard),
            # Records of before DynamoDB named events are told apart by where they are.
            orjson.dumps(change.event_id or f"{shard}:{position}"),
        ]

    def base(
        self, cells: Sequence[bytes], item: Mapping[str, object], microseconds: int, snapshot: str, shard: str
    ) -> list[bytes]:
        """Return the row of a snapshot's item: what the changes after it build on. ``snapshot``: its id."""
        return [
            *(cells[index] for index in self._keys),
            quoted(SNAPSHOT),
            time_cell(microseconds + self._base_microseconds),
            _NOTHING,
            _NOTHING,
            _image_cell(item),
            quoted(str(microseconds)),
            quoted("0"),
            orjson.dumps(shard),
            orjson.dumps(snapshot),
        ]


def _image_cell(image: Mapping[str, object]) -> bytes:
    """An image as the spill writes values: typed JSON, canonical, names sorted."""
    return orjson.dumps(spill_text(canonical_item(image)))

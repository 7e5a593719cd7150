"""Rows of a history: every change of a table, and every item of its snapshots, appended and never replaced. Pure.

A change read again, whatever the batch, has the same key (keys of the item, version, event id), so a query with
FINAL returns one row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from dyncdc.schema.history_columns import HISTORY_COLUMNS, history_keys, history_name
from dyncdc.schema.table_spec import TableSpec
from dyncdc.schema.types.cells import quoted
from dyncdc.schema.types.dynamodb_values import canonical_item, spill_text
from dyncdc.schema.types.reject_reasons import BAD_VERSION, UndecodableRecord

from .envelope import Change

SNAPSHOT: Final = "SNAPSHOT"
"""Event of a row that is no change but an item of a snapshot."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING: Final = b'""'
"""The cell of no image."""


def time_cell(microseconds: int) -> bytes:
    """Return the cell of an instant, exact to the microsecond."""
    return quoted((_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%d %H:%M:%S.%f"))


def is_sequence_number(position: str) -> bool:
    """Whether a position is one, as the column that it goes into takes it."""
    return position.isascii() and position.isdigit() and len(position) < 64


@functools.lru_cache(maxsize=4096)
def _place_cell(name: str) -> bytes:
    """The cell of a shard or a snapshot, made once: orjson's own bytes keep some kilobytes each."""
    return b"%b" % orjson.dumps(name)


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
        UndecodableRecord for an image that is none.
        """
        if not is_sequence_number(position):
            raise UndecodableRecord(BAD_VERSION, "the record's position is not a sequence number")
        removed = change.event_name == "REMOVE"
        deleted_by = ("ttl" if change.by_ttl else "user") if removed else ""
        old = change.old_image
        old_cell = NOTHING if old is None else image_cell(redact(old))
        new_cell = NOTHING if removed else image_cell(redact(change.new_image))
        keys = [cells[index] for index in self._keys]
        id_cell = orjson.dumps(change.event_id) if change.event_id else None
        return self.row(keys, change.event_name, microseconds, deleted_by, old_cell, new_cell, position, shard, id_cell)

    def base(
        self, cells: Sequence[bytes], item: Mapping[str, object], microseconds: int, snapshot: str, shard: str
    ) -> list[bytes]:
        """Return the row of a snapshot's item: what the changes after it build on. ``snapshot``: its id."""
        return self.base_row([cells[index] for index in self._keys], image_cell(item), microseconds, snapshot, shard)

    def row(
        self,
        keys: Sequence[bytes],
        event: str,
        microseconds: int,
        deleted_by: str,
        old_image: bytes,
        new_image: bytes,
        position: str,
        shard: str,
        event_id: bytes | None,
    ) -> list[bytes]:
        """Return the row of a change from cells: of the key, of its images and of its id, where it has one."""
        return [
            *keys,
            quoted(event),
            time_cell(microseconds),
            quoted(deleted_by),
            old_image,
            new_image,
            quoted(str(microseconds)),
            quoted(position),
            _place_cell(shard),
            # Records of before DynamoDB named events are told apart by where they are.
            event_id or b"%b" % orjson.dumps(f"{shard}:{position}"),
        ]

    def base_row(
        self, keys: Sequence[bytes], image: bytes, microseconds: int, snapshot: str, shard: str
    ) -> list[bytes]:
        """Return the row of a snapshot's item from cells: of the key and of the item."""
        return [
            *keys,
            quoted(SNAPSHOT),
            time_cell(microseconds + self._base_microseconds),
            NOTHING,
            NOTHING,
            image,
            quoted(str(microseconds)),
            quoted("0"),
            _place_cell(shard),
            _place_cell(snapshot),
        ]


def image_cell(image: Mapping[str, object]) -> bytes:
    """An image as the spill writes values: typed JSON, canonical, names sorted."""
    return orjson.dumps(spill_text(canonical_item(image)))

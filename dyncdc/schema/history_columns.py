"""The columns of a history: the destination's keys, then the change. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from .table_spec import ColumnSpec, TableSpec

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


def history_name(name: str, keys: Collection[str]) -> str:
    """Return how a history calls one of ``HISTORY_COLUMNS``: an underscore in front for each key that is called so."""
    while name in keys:
        name = f"_{name}"
    return name


def history_keys(spec: TableSpec) -> tuple[ColumnSpec, ...]:
    """Return the destination's columns of the key attributes, HASH first: a history has the same."""
    by_attribute = {column.path[0]: column for column in spec.columns if column.key}
    return tuple(by_attribute[key.name] for key in spec.keys if key.name in by_attribute)

"""Attributes that have no column yet: what items were seen to hold there, until someone decides about columns.

The rows are right without it: what it takes note of is in the spill. It decides nothing, and keeps no values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .inference import Nested, Sample
from .table_spec import ColumnSpec

MOST_NAMES: Final = 4000
"""Attributes taken note of between two decisions; those beyond it have their turn later."""


@dataclass(slots=True)
class _Place:
    """A place in an item: whether a column takes all of it, and the places below that have columns."""

    filled: bool = False
    below: dict[str, _Place] = field(default_factory=dict)


class UnmappedAttributes:
    """Takes note of what one table's items hold outside of its columns.

    ``on_news`` is called, on the loop, whenever there is something to decide about. An attribute that tells no type
    yet (NULL, an empty map or list) is none. ``maps``: the most entries that a map with columns of its own was seen
    with, by path.
    """

    def __init__(self, *, nested: Nested, flatten_depth: int, on_news: Callable[[], None]) -> None:
        self._nested: Nested = nested
        self._flatten_depth = flatten_depth
        self._on_news = on_news
        self._root: dict[str, _Place] = {}
        self._sample = self._fresh()
        self.maps: dict[tuple[str, ...], int] = {}
        self.closed = False
        """The table has all the columns that it may have."""

    def _fresh(self) -> Sample:
        return Sample(nested=self._nested, flatten_depth=self._flatten_depth)

    def set_columns(self, columns: tuple[ColumnSpec, ...]) -> None:
        """The table has these columns now."""
        self._root = {}
        for column in columns:
            place = self._root.setdefault(column.path[0], _Place())
            for name in column.path[1:]:
                place = place.below.setdefault(name, _Place())
            place.filled = True
        self.closed = False

    def drain(self) -> Sample:
        """Return what was noted since the last time."""
        taken, self._sample = self._sample, self._fresh()
        return taken

    def observe(self, spilled: Mapping[str, object]) -> None:
        """Take note of what has no column among the attributes of an item that went to the spill."""
        if self.closed:
            return
        rest = self._without_column(spilled, self._root, ())
        if rest:
            self._sample.note(rest)
            self._on_news()

    def _without_column(
        self, entries: Mapping[str, object], places: Mapping[str, _Place], path: tuple[str, ...]
    ) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in entries.items():
            place = places.get(name)
            if place is not None and place.filled:
                continue
            payload = value.get("M") if isinstance(value, dict) else None
            if place is not None and isinstance(payload, dict):
                here = (*path, name)
                inner = self._without_column(payload, place.below, here)
                if inner:
                    self.maps[here] = max(self.maps.get(here, 0), len(payload))
                    found[name] = {"M": inner}
            elif self._has_room(name, path):
                telling = _telling(value, self._flatten_depth)
                if telling is not None:
                    found[name] = telling
        return found

    def _has_room(self, name: str, path: tuple[str, ...]) -> bool:
        return self._sample.names < MOST_NAMES or bool(path) or name in self._sample.root.children


def _telling(value: object, depth: int) -> object | None:
    """What of a value tells a type: nothing of NULL, of an empty map or list, nor of a map of such."""
    if not isinstance(value, dict) or "NULL" in value:
        return None
    members = value.get("M", value.get("L"))
    if members is None:
        return value
    if isinstance(members, dict) and depth > 0:
        inner = {name: kept for name, each in members.items() if (kept := _telling(each, depth - 1)) is not None}
        return {"M": inner} if inner else None
    return value if members else None

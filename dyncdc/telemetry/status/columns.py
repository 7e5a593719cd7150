"""How a field of the status model is shown and merged: declared in the annotation of the field, obeyed by renderers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from inspect import get_annotations
from typing import Literal, TypeVar, get_type_hints

Kind = Literal["text", "position", "snapshot", "count", "seconds", "since", "time", "rate"]
"""``seconds`` is a duration, ``since`` one that ends now, ``time`` is since the epoch, ``rate`` a plot's last value."""

Place = Literal["terminal", "page"]
Severity = Literal["", "warn", "bad"]

Declared = TypeVar("Declared")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, or one line of a card.

    A value beyond ``warn`` or ``bad`` needs attention: above, or below where ``bad`` is the smaller. Of a ``time`` the
    age in seconds counts. ``only``: the one place that has room for it; None for both.
    """

    label: str
    kind: Kind
    warn: float | None = None
    bad: float | None = None
    title: str = ""
    empty: str = "-"
    """What stands for a value that is not known."""
    only: Place | None = None

    def severity(self, value: float) -> Severity:
        """How urgent a value is."""
        if self.warn is None:
            return ""
        sign = -1 if self.bad is not None and self.bad < self.warn else 1
        if self.bad is not None and sign * value > sign * self.bad:
            return "bad"
        return "warn" if sign * value > sign * self.warn else ""


class Merge(Enum):
    """How the values of several workers become that of their daemon."""

    SUM = auto()
    LEAST = auto()
    MOST = auto()

    def __call__(self, values: Iterable[float | None]) -> float | None:
        """Merge what is known; None where nothing is and nothing can be summed."""
        known = [value for value in values if value is not None]
        if self is Merge.SUM:
            return sum(known)
        return (min if self is Merge.LEAST else max)(known, default=None)


@functools.cache
def columns_of(struct: type, place: Place) -> Mapping[str, Column]:
    """The columns of a struct by field, in the order of declaration; inherited ones last."""
    return {name: column for name, column in _declared(struct, Column).items() if column.only in (None, place)}


@functools.cache
def merges_of(struct: type) -> Mapping[str, Merge]:
    """The fields of a struct that are merged by themselves."""
    return _declared(struct, Merge)


def _declared(struct: type, kind: type[Declared]) -> dict[str, Declared]:
    hints = get_type_hints(struct, include_extras=True)
    names = [name for base in struct.__mro__ for name in get_annotations(base)]
    return {
        name: extra for name in names for extra in getattr(hints[name], "__metadata__", ()) if isinstance(extra, kind)
    }

"""Bugs planted into the fast decoders, one at a time: ``fast`` must notice each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from dyncdc.decode.fast import documents
from dyncdc.decode.fast.columns import BinaryColumn, Cells, PatternColumn
from dyncdc.decode.fast.sheet import Sheet
from dyncdc.decode.fast.table import Attribute


def drift_check_off(patch: pytest.MonkeyPatch) -> None:
    """A column takes whatever has the right type, without a look at its range."""

    def encode(self: PatternColumn, raws: Sequence[msgspec.Raw]) -> Cells:
        return self._cells(*self._lines.array(raws))

    patch.setattr(PatternColumn, "encode", encode)


def unknown_attributes_dropped(patch: pytest.MonkeyPatch) -> None:
    """What msgspec passes over is not missed."""
    patch.setattr(Sheet, "_balance_images", lambda self, images, columns, others: None)


def slow_rows_last(patch: pytest.MonkeyPatch) -> None:
    """Rows of the exact path come behind all others."""
    original = Sheet._column

    def column(self: Sheet, index: int, exact: Sequence[Any], dead: Sequence[int]) -> bytes:
        moved = sorted({row for row, _ in exact})
        places = range(self._rows - len(moved), self._rows)
        return original(self, index, [(place, row) for place, (_, row) in zip(places, exact, strict=True)], dead)

    patch.setattr(Sheet, "_column", column)


def key_taken_from_the_image(patch: pytest.MonkeyPatch) -> None:
    """A key that is not its image's goes unnoticed."""
    patch.setattr(Sheet, "_compare_keys", lambda self, images, columns, keys: None)


def null_is_absent(patch: pytest.MonkeyPatch) -> None:
    """NULL leaves no trace in the spill."""
    original = Sheet._note

    def note(self: Sheet, attribute: Attribute, cells: Cells) -> None:
        cells.nulls = ()
        original(self, attribute, cells)

    patch.setattr(Sheet, "_note", note)


def second_type_ignored(patch: pytest.MonkeyPatch) -> None:
    """A value inside a map may have two types: the last one counts."""
    patch.setattr(documents, "NotPlainError", KeyError)
    patch.setattr(documents, "_map", lambda entries, levels: {k: v.popitem()[1] for k, v in entries.items()})


def escaped_marks_believed(patch: pytest.MonkeyPatch) -> None:
    """A text that begins with the mark of numbers is one, if the mark was escaped."""
    patch.setattr(documents, "_MARKS", (b"\x7f",))


def base64_not_searched_for_null(patch: pytest.MonkeyPatch) -> None:
    """Four letters inside base64 are taken for an absent value."""

    def cells(self: BinaryColumn, body: bytes, nulls: int) -> Cells:
        return PatternColumn._cells(self, body, nulls)

    patch.setattr(BinaryColumn, "_cells", cells)


ALL = (
    drift_check_off,
    unknown_attributes_dropped,
    slow_rows_last,
    key_taken_from_the_image,
    null_is_absent,
    second_type_ignored,
    escaped_marks_believed,
    base64_not_searched_for_null,
)

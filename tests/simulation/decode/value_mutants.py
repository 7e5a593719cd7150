"""Bugs planted into the encoders of values, one at a time: ``values`` must notice each."""

from __future__ import annotations

import pytest

from dyncdc.schema.types.cells import quoted
from dyncdc.schema.types.families import datetimes, numbers


def shortest_text_of_a_float(patch: pytest.MonkeyPatch) -> None:
    """A float travels as the shortest text that is it again, which older servers often read as its neighbour."""
    patch.setattr(numbers, "float_text", lambda value, digits: repr(value))


def float_of_twice_the_width(patch: pytest.MonkeyPatch) -> None:
    """A Float32 travels as the text of the Float64 that it came from."""
    original = numbers._float_cell
    patch.setattr(
        numbers,
        "_float_cell",
        lambda number, value, shortest, digits: original(number, float(shortest), shortest, digits),
    )


def fraction_before_1970(patch: pytest.MonkeyPatch) -> None:
    """A moment before 1970 travels with its fraction, which older servers read up to a second off."""
    original = datetimes._cell

    def cell(seconds: int, fraction: str, digits: int) -> bytes:
        made = original(seconds, fraction, digits)
        return quoted(made.decode().strip('"')[:20] + f"{fraction:0<{digits}}Z") if digits else made

    patch.setattr(datetimes, "_cell", cell)


def fraction_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A moment before 1970 loses its fraction, and nothing tells it."""
    original = datetimes._cell
    patch.setattr(datetimes, "_cell", lambda *given: bytes(original(*given)))


ALL = (shortest_text_of_a_float, float_of_twice_the_width, fraction_before_1970, fraction_forgotten)

"""What a cell is: one JSON value for ``FORMAT JSONCompactColumns``. Exact or not at all.

ClickHouse trusts its client ("300" into Int8 becomes 44), so an encoder answers None for whatever its type cannot hold
exactly. Numbers travel as quoted text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

Encoder = Callable[[object], "bytes | None"]
"""From the payload of one DynamoDB type to a cell, None when it does not fit. Raises Undecodable for a bad payload."""

Encoders = Mapping[str, Encoder]
"""By DynamoDB type."""

NULL_CELL: Final = b"null"


class Inexact(bytes):
    """A cell that is right but does not say everything: its attribute is also kept whole in the spill."""

    __slots__ = ()


class Rounded(Inexact):
    """A cell from which something is cut off: for lossy columns only, for any other the value does not fit."""

    __slots__ = ()


def quoted(plain: str) -> bytes:
    """Return the cell of a text that needs no escaping."""
    return f'"{plain}"'.encode()


def compact(cells: Sequence[bytes]) -> bytes:
    """Join one cell or more into bytes that may be kept: what orjson returns holds on to the 4 KB it was written in.

    Source: orjson 3.13, measured.
    """
    return b",".join(cells) if len(cells) > 1 else b"%b" % cells[0]


def trimmed(cells: Iterable[bytes]) -> list[bytes]:
    """Return cells that may be kept until others have joined them: of a large text orjson keeps ten times its size."""
    return [b"%b" % cell for cell in cells]

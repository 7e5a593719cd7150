"""SQL that the DEFAULT expressions of several types are made of. Pure text."""

from __future__ import annotations

from typing import Final

UNSURE_ESCAPE: Final = "'\\\\u'"
"""The escape that orjson and ClickHouse may write in different ways: a JSON text that has one is left in the spill."""


def payload_of(place: str, tag: str) -> str:
    """Return the payload of a typed value: its text, or a Bool; NULL where there is none of this type."""
    kind = "Nullable(Bool)" if tag == "BOOL" else "Nullable(String)"
    return f"JSONExtract({place}, '{tag}', '{kind}')"


def same_text(value: str, x: str) -> str:
    """Return a value only if it is written exactly as it came, else NULL."""
    return f"if(toString({value}) = {x}, {value}, NULL)"

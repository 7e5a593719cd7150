"""Regular expressions for the texts that a column type takes as they are: in canonical form, and within its range.

They may refuse what the reference path accepts, never the other way round.
"""

from __future__ import annotations

from typing import Final

from dyncdc.schema.types.type_parser import TypeNode

_DAY: Final = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_TIME: Final = "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_BYTE: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

UUID: Final = "-".join(f"[0-9a-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
IPV4: Final = r"\.".join([_BYTE] * 4)

_YEARS: Final = {
    "Date": "(?:19[7-9][0-9]|20[0-9]{2}|21[0-3][0-9]|214[0-8])",
    "Date32": "(?:19[0-9]{2}|2[0-2][0-9]{2})",
    "DateTime": "(?:19[7-9][0-9]|20[0-9]{2}|210[0-5])",
    "DateTime64": "(?:19[7-9][0-9]|2[0-2][0-9]{2})",
    "nanoseconds": "(?:19[7-9][0-9]|2[01][0-9]{2}|22[0-5][0-9])",
}
"""Years that lie within the type's range from their first to their last second, and for ``moments`` behind 1970."""


def text_pattern(node: TypeNode) -> str | None:
    """Return the pattern of the S texts that become cells of this type as they are, None if there is no such rule."""
    if node.name == "UUID":
        return UUID
    if node.name == "IPv4":
        return IPV4
    if node.name in ("Date", "Date32"):
        return f"{_YEARS[node.name]}-{_DAY}"
    if node.name == "DateTime":
        return f"{_YEARS['DateTime']}-{_DAY}{_TIME}Z"
    if node.name == "DateTime64":
        digits = node.numbers[0] if node.numbers else 3
        years = _YEARS["nanoseconds" if digits > 8 else "DateTime64"]
        fraction = rf"\.[0-9]{{{digits}}}" if digits else ""
        return f"{years}-{_DAY}{_TIME}{fraction}Z"
    return None

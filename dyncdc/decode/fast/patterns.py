"""Regular expressions for the texts that a column type takes as they are: in canonical form, and within its range.

They may refuse what the exact path accepts, never the other way round. Digits, signs and points only: no pattern
matches a comma, a brace, a quote or the letters of ``null``, which the columns use as marks.
"""

from __future__ import annotations

import re
from typing import Final

from ..typetext import TypeNode

_DIGITS: Final = 38
"""Significant digits of a DynamoDB number, and the longest text that the exact path takes without a second look."""

_SHORT: Final = r'(?=[^"]{1,38}")'
_LAST: Final = r'(?=")'

NUMBER: Final = (
    _SHORT + r"(?:-?[1-9][0-9]*+(?:\.[0-9]*[1-9])?" + _LAST + r"|0" + _LAST + r"|-?0\.[0-9]*[1-9]" + _LAST + ")"
)
"""A canonical number of any size, such as the exact path keeps without rewriting."""

FLOAT: Final = (
    r'(?:-?(?=[0-9.]{3,16}")[1-9][0-9]*+\.[0-9]*[1-9]' + _LAST + r"|-?0\.0{0,3}[1-9](?:[0-9]{0,13}[1-9])?" + _LAST + ")"
)
"""A fraction of at most 15 digits in the range that Python prints without an exponent: its float prints as itself."""

BASE64: Final = r"[A-Za-z0-9+/]*+(?:(?<=[AQgw])==|(?<=[AEIMQUYcgkosw048])=)?"
"""Base64 whose unused bits are zero; that the length is a multiple of four remains to be checked."""

_ZEROS: Final = re.compile(rb'(\.[0-9]*[1-9])0{1,100}(?=")').split
_NO_FRACTION: Final = re.compile(rb'("-?[0-9]+)\.0{1,100}(?=")').split

_DAY: Final = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_TIME: Final = "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_BYTE: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

UUID: Final = "-".join(f"[0-9a-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
IPV4: Final = r"\.".join([_BYTE] * 4)

_YEARS: Final = {
    "Date": "(?:19[7-9][0-9]|20[0-9]{2}|21[0-3][0-9]|214[0-8])",
    "Date32": "(?:19[0-9]{2}|2[0-2][0-9]{2})",
    "DateTime": "(?:19[7-9][0-9]|20[0-9]{2}|210[0-5])",
    "DateTime64": "(?:19[0-9]{2}|2[0-2][0-9]{2})",
    "nanoseconds": "(?:19[0-9]{2}|2[01][0-9]{2}|22[0-5][0-9])",
}
"""Years that lie within the type's range from their first to their last second. Source: ``moments``."""


def without_zeros(numbers: bytes) -> bytes:
    """Return quoted numbers without the zeros behind a fraction's last digit: canonical, if they were plain before.

    DynamoDB trims them itself; others who write such records may not.
    """
    return b"".join(_NO_FRACTION(b"".join(_ZEROS(numbers))))


def number_pattern(node: TypeNode) -> str | None:
    """Return the pattern of the N texts that become cells of this type as they are, None if there is no such rule."""
    name = node.name
    if name == "String":
        return NUMBER
    if name.startswith(("Int", "UInt")):
        return _integers(int(name.lstrip("UInt")), signed=not name.startswith("U"))
    if name.startswith("Decimal"):
        return _decimals(node)
    return FLOAT if name == "Float64" else None


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


def _integers(bits: int, *, signed: bool) -> str:
    if not signed:
        return f"(?:{_up_to(2**bits - 1)}|0{_LAST})"
    return f"(?:{_up_to(2 ** (bits - 1) - 1)}|0{_LAST}|-(?:{_up_to(2 ** (bits - 1))}))"


def _up_to(limit: int) -> str:
    """Return the pattern of the integers from 1 to a limit: all shorter ones, then those of its length, by prefix."""
    digits = str(limit)
    if len(digits) > _DIGITS:
        return f"[1-9][0-9]{{0,{_DIGITS - 1}}}+{_LAST}"
    found = [f"[1-9][0-9]{{0,{len(digits) - 2}}}+{_LAST}"]
    for place, digit in enumerate(digits):
        least = 1 if place == 0 else 0
        if int(digit) > least:
            found.append(f"{digits[:place]}[{least}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}{_LAST}")
    return "|".join([*found, digits + _LAST])


def _decimals(node: TypeNode) -> str | None:
    widths = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
    given = (widths[node.name], *node.numbers) if node.name in widths else node.numbers
    precision, scale = given if len(given) == 2 else (given[0], 0)
    fraction = rf"\.[0-9]{{0,{scale - 1}}}[1-9]" if scale else ""
    found = [f"0{_LAST}"]
    if precision > scale:
        optional = f"(?:{fraction})?" if fraction else ""
        found.insert(0, f"-?[1-9][0-9]{{0,{precision - scale - 1}}}+{optional}{_LAST}")
    if fraction:
        found.append(f"-?0{fraction}{_LAST}")
    return f"{_SHORT if precision + 2 > _DIGITS else ''}(?:{'|'.join(found)})"

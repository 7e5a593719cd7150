"""What a cell is, and the encoders of text, numbers and other scalars into cells. Exact or not at all.

A cell is one JSON value for ``FORMAT JSONCompactColumns``. ClickHouse trusts its client ("300" into Int8 becomes 44),
so an encoder answers None for whatever its type cannot hold exactly. Numbers travel as quoted text.
"""

from __future__ import annotations

import ipaddress
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import orjson

from .dynamodb_values import boolean, canonical_base64, canonical_number, plain_text, text
from .reject_reasons import UndecodableRecord

Encoder = Callable[[object], "bytes | None"]
"""From the payload of a DynamoDB type to a cell, None if it does not fit. Raises UndecodableRecord for a bad one."""

Encoders = Mapping[str, Encoder]
"""By DynamoDB type."""


class Inexact(bytes):
    """A cell that is right but does not say everything: its attribute is also kept whole in the spill."""

    __slots__ = ()


class Rounded(Inexact):
    """A cell from which something is cut off: for lossy columns only, for any other the value does not fit."""

    __slots__ = ()


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


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


def text_cell(payload: object) -> bytes:
    """S into a String."""
    return orjson.dumps(text(payload))


def number_text_cell(payload: object) -> bytes:
    """N into a String, as canonical text."""
    return quoted(canonical_number(payload))


def base64_cell(payload: object) -> bytes:
    """B into a String, as base64: raw bytes cannot travel in JSON."""
    return quoted(canonical_base64(payload))


def boolean_text_cell(payload: object) -> bytes:
    """BOOL into a String."""
    return b'"true"' if boolean(payload) else b'"false"'


def boolean_cell(payload: object) -> bytes:
    """BOOL into a Bool."""
    return b"true" if boolean(payload) else b"false"


def boolean_digit_cell(payload: object) -> bytes:
    """BOOL into a UInt8."""
    return b'"1"' if boolean(payload) else b'"0"'


def number_boolean_cell(payload: object) -> bytes | None:
    """N into a Bool: 0 and 1 only."""
    return {"0": b"false", "1": b"true"}.get(canonical_number(payload))


def json_text_encoder(tag: str) -> Encoder:
    """M, L or a set into a String, as plain JSON text."""

    def encode(payload: object) -> bytes | None:
        plain, exact = plain_text(tag, payload)
        cell = orjson.dumps(plain)
        return cell if exact else Inexact(cell)

    return encode


STRING: Final[Encoders] = {
    "S": text_cell,
    "N": number_text_cell,
    "B": base64_cell,
    "BOOL": boolean_text_cell,
    **{tag: json_text_encoder(tag) for tag in ("M", "L", "SS", "NS", "BS")},
}


def fixed_string_encoder(nbytes: int) -> Encoder:
    """S into a FixedString: only text of exactly that length that does not end in the zeros that it is padded with."""

    def encode(payload: object) -> bytes | None:
        raw = text(payload).encode()
        return text_cell(payload) if len(raw) == nbytes and not raw.endswith(b"\0") else None

    return encode


def integer_encoder(low: int, high: int) -> Encoder:
    """N into an integer column of this range."""

    def encode(payload: object) -> bytes | None:
        number = canonical_number(payload)
        return quoted(number) if "." not in number and low <= int(number) <= high else None

    return encode


def decimal_encoder(precision: int, scale: int) -> Encoder:
    """N into Decimal(precision, scale): no digit may be lost on either side of the point."""

    def encode(payload: object) -> bytes | None:
        number = canonical_number(payload)
        whole, _, fraction = number.lstrip("-").partition(".")
        return quoted(number) if len(whole.lstrip("0")) <= precision - scale and len(fraction) <= scale else None

    return encode


FLOAT64_DIGITS: Final = 17
FLOAT32_DIGITS: Final = 9
"""Significant digits after which the float nearest to a text is certain, however it is rounded on the way."""


def float_text(value: float, digits: int) -> str:
    """Return the text of a float that every server reads as that float.

    Before 26.7 ClickHouse reads what stands before and behind the point each by itself, so of the shortest text it is
    often a neighbour that it makes: of full digits, without an exponent, both parts are the right ones and so is their
    sum. Four of its powers of ten are wrong (-30, 50, 70 and 90): a zero leads past them. Measured on 23.6 to 26.9.
    """
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    whole, _, fraction = format(Decimal(text), "f").partition(".")
    if len(fraction) == 30:
        fraction += "0"
    if len(whole.lstrip("-")) in (69, 89, 109):
        whole = whole.replace("-", "-0") if value < 0 else f"0{whole}"
    return f"{whole}.{fraction}" if fraction else whole


def float64_cell(payload: object) -> bytes | None:
    """N into a Float64: exact when the shortest text of the float is the number again."""
    number = canonical_number(payload)
    value = float(number)
    return _float_cell(number, value, repr(value), FLOAT64_DIGITS)


def float32_cell(payload: object) -> bytes | None:
    """N into a Float32."""
    number = canonical_number(payload)
    try:
        stored = struct.pack("f", float(number))
    except OverflowError:
        return None
    value = struct.unpack("f", stored)[0]
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    shortest = next(short for short in texts if struct.pack("f", float(short)) == stored)
    return _float_cell(number, value, shortest, FLOAT32_DIGITS)


def _float_cell(number: str, value: float, shortest: str, digits: int) -> bytes | None:
    """``value`` is what the column can hold, and ``shortest`` the text by which it shows that."""
    if value == 0:
        return b'"0"' if number == "0" else None
    if not math.isfinite(value):
        return None
    cell = quoted(float_text(value, digits))
    try:
        exact = canonical_number(shortest) == number
    except UndecodableRecord:  # the rounded value lies outside DynamoDB's range
        exact = False
    return cell if exact else Inexact(cell)


def uuid_cell(payload: object) -> bytes | None:
    """S into a UUID: exact in lower case, with hyphens always."""
    found = text(payload)
    return spelled(found.lower(), found) if _UUID(found.lower()) else None


def spelled(canonical: str, given: str) -> bytes:
    """Return the cell of a value that has one canonical text: another spelling of it is not told by the column."""
    return quoted(canonical) if canonical == given else Inexact(quoted(canonical))


def ipv4_cell(payload: object) -> bytes | None:
    """S into an IPv4: dotted decimal without leading zeros."""
    found = text(payload)
    try:
        return quoted(found) if str(ipaddress.IPv4Address(found)) == found else None
    except ValueError:
        return None


def ipv6_cell(payload: object) -> bytes | None:
    """S into an IPv6: exact as RFC 5952 spells it. Embedded IPv4 is left out, as it has several accepted forms."""
    found = text(payload)
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return None
    plain = address.scope_id is None and address.ipv4_mapped is None and "." not in found
    return spelled(str(address), found) if plain else None


def enum_encoder(names: tuple[str, ...]) -> Encoder:
    """S into an Enum: one of its names."""
    cells = {name: orjson.dumps(name) for name in names}

    def encode(payload: object) -> bytes | None:
        return cells.get(text(payload))

    return encode

"""Integers, decimals, floats and Bool."""

from __future__ import annotations

import decimal
import math
import struct
from collections.abc import Mapping
from typing import Final, Literal

from dyncdc.schema.types.cells import Encoder, Encoders, Inexact, quoted
from dyncdc.schema.types.dynamodb_values import boolean, canonical_number
from dyncdc.schema.types.reject_reasons import UndecodableRecord
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import same_text
from .family import CompiledKind, Family

_PRECISIONS: Final[Mapping[int, int]] = {32: 9, 64: 18, 128: 38, 256: 76}
"""Digits that a Decimal has room for, by its bits. Source: ClickHouse documentation, Decimal."""


class _Number(Family):
    """A type that stands for N and has 0 as its default."""

    own = "N"
    shown_default = "0"

    def default(self, node: TypeNode) -> bytes:
        """0."""
        return b'"0"'


class Integer(_Number):
    """An integer type. UInt8 takes BOOL as well: ClickHouse had no Bool once."""

    text_holds = "N"

    def __init__(self, bits: int, *, signed: bool) -> None:
        self._low = -(2 ** (bits - 1)) if signed else 0
        self._high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self._encoders: dict[str, Encoder] = {"N": integer_encoder(self._low, self._high)}
        if (self._low, self._high) == (0, 255):
            self._encoders["BOOL"] = boolean_digit_cell

    def encoders(self, node: TypeNode) -> Encoders:
        """Take N; of a UInt8 BOOL, too."""
        return self._encoders

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From what it encodes."""
        if tag == "BOOL" and tag in self._encoders:
            return f"CAST({x} AS Nullable({node.name}))"
        return same_text(f"to{node.name}OrNull({x})", x) if tag == "N" else None

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For N."""
        if tag != "N":
            return None
        low = b"%d" % -self._low if self._low else b""
        return CompiledKind("integer", ("N",), low=low, high=b"%d" % self._high)


class Decimal(_Number):
    """Decimal(p, s), and Decimal32(s) to Decimal256(s): no digit may be lost on either side of the point."""

    text_holds = "N"

    def encoders(self, node: TypeNode) -> Encoders | None:
        """Take N."""
        digits = decimal_digits(node)
        return None if digits is None else {"N": decimal_encoder(*digits)}

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From N."""
        digits = decimal_digits(node)
        if tag != "N" or digits is None:
            return None
        whole, scale = digits
        fraction = f"([.][0-9]{{1,{scale}}})?" if scale else ""
        before = f"(0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
        bits = next(bits for bits, most in _PRECISIONS.items() if whole + scale <= most)
        return f"if(match({x}, '^-?{before}{fraction}\\\\z'), toDecimal{bits}OrNull({x}, {scale}), NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For N."""
        digits = decimal_digits(node)
        if tag != "N" or digits is None:
            return None
        return CompiledKind("decimal", ("N",), whole=digits[0], fraction=digits[1])


class Float(_Number):
    """Float32 and Float64, which blur most numbers."""

    injective = False

    def __init__(self, bits: Literal[32, 64]) -> None:
        self._bits = bits

    def encoders(self, node: TypeNode) -> Encoders:
        """Take N."""
        return {"N": float64_cell if self._bits == 64 else float32_cell}

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From N."""
        if tag != "N":
            return None
        value = f"JSONExtract(concat('[', {x}, ']'), 1, 'Nullable(Float64)')"
        value = value if self._bits == 64 else f"toFloat32({value})"
        return f"if(({value} = 0) = ({x} = '0') AND isFinite({value}), {value}, NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For N, into a Float64 only."""
        return CompiledKind("float", ("N",)) if tag == "N" and self._bits == 64 else None


class Bool(Family):
    """Bool."""

    own = "BOOL"
    shown_default = "false"

    def encoders(self, node: TypeNode) -> Encoders:
        """Take BOOL, and 0 and 1 of N."""
        return {"BOOL": boolean_cell, "N": number_boolean_cell}

    def default(self, node: TypeNode) -> bytes:
        """False."""
        return b"false"

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From both."""
        if tag == "N":
            return f"multiIf({x} = '0', CAST(false AS Nullable(Bool)), {x} = '1', true, NULL)"
        return x if tag == "BOOL" else None

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For BOOL."""
        return CompiledKind("bool", ("BOOL",)) if tag == "BOOL" else None


def decimal_digits(node: TypeNode) -> tuple[int, int] | None:
    """Return how many digits a Decimal has before and after the point; None for what is none."""
    if not isinstance(FAMILIES.get(node.name), Decimal):
        return None
    bits = node.name.removeprefix("Decimal")
    given = (_PRECISIONS[int(bits)], *node.numbers) if bits else node.numbers
    if len(given) not in (1, 2):
        return None
    precision, scale = (*given, 0)[:2]
    if not 1 <= precision <= 76 or not 0 <= scale <= precision:
        return None
    return precision - scale, scale


def boolean_cell(payload: object) -> bytes:
    """BOOL into a Bool."""
    return b"true" if boolean(payload) else b"false"


def boolean_digit_cell(payload: object) -> bytes:
    """BOOL into a UInt8."""
    return b'"1"' if boolean(payload) else b'"0"'


def number_boolean_cell(payload: object) -> bytes | None:
    """N into a Bool: 0 and 1 only."""
    return {"0": b"false", "1": b"true"}.get(canonical_number(payload))


def integer_encoder(low: int, high: int) -> Encoder:
    """N into an integer column of this range."""

    def encode(payload: object) -> bytes | None:
        number = canonical_number(payload)
        return quoted(number) if "." not in number and low <= int(number) <= high else None

    return encode


def decimal_encoder(whole_digits: int, scale: int) -> Encoder:
    """N into a Decimal of so many digits before and after the point."""

    def encode(payload: object) -> bytes | None:
        number = canonical_number(payload)
        whole, _, fraction = number.lstrip("-").partition(".")
        return quoted(number) if len(whole.lstrip("0")) <= whole_digits and len(fraction) <= scale else None

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
    whole, _, fraction = format(decimal.Decimal(text), "f").partition(".")
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


FAMILIES: Final[Mapping[str, Family]] = {
    **{f"Int{bits}": Integer(bits, signed=True) for bits in (8, 16, 32, 64, 128, 256)},
    **{f"UInt{bits}": Integer(bits, signed=False) for bits in (8, 16, 32, 64, 128, 256)},
    **{name: Decimal() for name in ("Decimal", *(f"Decimal{bits}" for bits in _PRECISIONS))},
    "Float32": Float(32),
    "Float64": Float(64),
    "Bool": Bool(),
}

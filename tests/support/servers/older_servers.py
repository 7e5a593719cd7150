"""How ClickHouse before 26.7 reads a float: not always the one nearest to the text. Measured on 23.6 to 26.5.

The digits before and behind the point are integers of at most 19 digits, each multiplied by a power of ten in 80 bits
and rounded; then they are added, and what an exponent says comes last. Four of the powers are wrong.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final, Literal

MOST_DIGITS: Final = 19
WRONG_POWERS: Final = frozenset({-30, 50, 70, 90})

Kind = Literal["Float32", "Float64"]


def read_float(text: str, kind: Kind) -> float:
    """Return what an older server makes of a text."""
    number, _, exponent = text.lower().lstrip("-").partition("e")
    whole, _, fraction = number.partition(".")
    value = _rounded(_shifted(int(whole[:MOST_DIGITS]), max(0, len(whole) - MOST_DIGITS)), kind)
    digits = fraction.lstrip("0")[:MOST_DIGITS]
    if digits:
        zeros = len(fraction) - len(fraction.lstrip("0"))
        value = _rounded(Fraction(value) + Fraction(_rounded(_shifted(int(digits), -zeros - len(digits)), kind)), kind)
    if exponent:
        value = _rounded(Fraction(value) * Fraction(_rounded(Fraction(10) ** int(exponent), "Float64")), kind)
    return -value if text.startswith("-") else value


def _shifted(value: int, power: int) -> Fraction:
    factor = _to_bits(Fraction(10) ** power, 64)
    if power in WRONG_POWERS:
        factor *= 1 + Fraction(1, 2**50)
    return _to_bits(value * factor, 64)


def _to_bits(value: Fraction, bits: int) -> Fraction:
    """The nearest number of so many significant bits."""
    if not value:
        return value
    power = value.numerator.bit_length() - value.denominator.bit_length() - bits
    unit = Fraction(2) ** (power if value >= Fraction(2) ** (power + bits) else power - 1)
    return round(value / unit) * unit


def _rounded(value: Fraction, kind: Kind) -> float:
    nearest = float(value)
    return nearest if kind == "Float64" else float(struct.unpack("f", struct.pack("f", nearest))[0])

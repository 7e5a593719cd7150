"""DynamoDB's typed JSON values: their one canonical form, equality and plain JSON text. Knows no ClickHouse.

Canonical: N in plain decimal notation (no exponent, no leading or trailing zeros, no ``-0``), B as padded base64, sets
sorted (SS by UTF-8, NS by value, BS by bytes) and without repetition. Two equal values have equal canonical forms.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import orjson

from .reject_reasons import BAD_VALUE, TOO_DEEP, UndecodableRecord

TypedValue = dict[str, object]
"""One DynamoDB value, such as ``{"S": "a"}``: exactly one type with its payload."""

Item = dict[str, TypedValue]
"""Attribute names and their values."""

MAX_DEPTH: Final = 64
"""Levels of M and L followed. DynamoDB allows 32; twice that keeps within orjson's limit for writing (254), 2026-01."""

MAX_DIGITS: Final = 38
MIN_EXPONENT: Final = -130
MAX_EXPONENT: Final = 125
"""Significant digits and exponents of a number. Source: AWS DynamoDB developer guide, data types, Number."""

_PLAIN_NUMBER = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?").fullmatch
_ANY_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?").fullmatch
_MAX_NUMBER_LENGTH: Final = 400
"""Longest number text looked at: the range's longest plain form has 170 characters, so this bounds the work only."""


def bad_value(detail: str) -> UndecodableRecord:
    """Return the failure for something that DynamoDB cannot have meant."""
    return UndecodableRecord(BAD_VALUE, detail)


def unpack(value: object) -> tuple[str, object]:
    """Split a typed value into its type and payload. Raises UndecodableRecord unless there is exactly one type."""
    if type(value) is dict and len(value) == 1:
        for tag, payload in value.items():
            return tag, payload
    raise bad_value("a value is not an object with exactly one DynamoDB type")


def canonical_number(payload: object) -> str:
    """Return the canonical text of an N payload. Raises UndecodableRecord unless it is a number in DynamoDB's range."""
    if type(payload) is not str:
        raise bad_value("an N value is not text")
    if len(payload) <= MAX_DIGITS and _PLAIN_NUMBER(payload):
        return payload
    return _rewritten_number(payload)


def _rewritten_number(text: str) -> str:
    match = _ANY_NUMBER(text) if len(text) <= _MAX_NUMBER_LENGTH else None
    if match is None or not (match[2] or match[3]):
        raise bad_value("an N value is not a decimal number")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    exponent = int(match[4] or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "0"
    exponent += len(digits) - len(stripped)
    if len(stripped) > MAX_DIGITS or not MIN_EXPONENT <= exponent + len(stripped) - 1 <= MAX_EXPONENT:
        raise bad_value("an N value is outside DynamoDB's range")
    return ("-" if sign == "-" else "") + _plain_notation(stripped, exponent)


def _plain_notation(digits: str, exponent: int) -> str:
    if exponent >= 0:
        return digits + "0" * exponent
    if len(digits) > -exponent:
        return f"{digits[:exponent]}.{digits[exponent:]}"
    return "0." + "0" * (-exponent - len(digits)) + digits


def canonical_base64(payload: object) -> str:
    """Return the padded standard base64 of a B payload. Raises UndecodableRecord when it is not base64."""
    return binascii.b2a_base64(binary(payload), newline=False).decode()


def binary(payload: object) -> bytes:
    """Return the bytes of a B payload. Raises UndecodableRecord when it is not padded standard base64."""
    if type(payload) is not str:
        raise bad_value("a B value is not text")
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise bad_value("a B value is not base64") from None


def text(payload: object) -> str:
    """Return an S payload. Raises UndecodableRecord when it is not text."""
    if type(payload) is not str:
        raise bad_value("an S value is not text")
    return payload


def boolean(payload: object) -> bool:
    """Return a BOOL payload. Raises UndecodableRecord when it is not a boolean."""
    if type(payload) is not bool:
        raise bad_value("a BOOL value is not a boolean")
    return payload


def null(payload: object) -> bool:
    """Return a NULL payload, which is always true. Raises UndecodableRecord otherwise."""
    if payload is not True:
        raise bad_value("a NULL value is not true")
    return True


def elements(payload: object) -> list[object]:
    """Return the payload of an L or of a set. Raises UndecodableRecord when it is not a list."""
    if type(payload) is not list:
        raise bad_value("a list or set is not a JSON array")
    return payload


def entries(payload: object) -> dict[str, object]:
    """Return the payload of an M. Raises UndecodableRecord when it is not an object."""
    if type(payload) is not dict:
        raise bad_value("an M value is not a JSON object")
    return payload


def string_set(payload: object) -> list[str]:
    """Return an SS payload sorted by UTF-8, which is the order of code points."""
    return sorted({text(each) for each in elements(payload)})


def number_set(payload: object) -> list[str]:
    """Return an NS payload as canonical numbers, sorted by exact value."""
    return sorted({canonical_number(each) for each in elements(payload)}, key=Decimal)


def binary_set(payload: object) -> list[str]:
    """Return a BS payload as canonical base64, sorted by the bytes it stands for."""
    found = sorted({binary(each) for each in elements(payload)})
    return [binascii.b2a_base64(each, newline=False).decode() for each in found]


_SCALARS: Final[Mapping[str, Callable[[object], object]]] = {
    "S": text,
    "N": canonical_number,
    "B": canonical_base64,
    "BOOL": boolean,
    "NULL": null,
    "SS": string_set,
    "NS": number_set,
    "BS": binary_set,
}


def canonical(value: object, depth: int = 0) -> TypedValue:
    """Return the canonical form of a typed value. Raises UndecodableRecord for what is not one, or nests too deep."""
    tag, payload = unpack(value)
    scalar = _SCALARS.get(tag)
    if scalar is not None:
        return {tag: scalar(payload)}
    if depth >= MAX_DEPTH:
        raise UndecodableRecord(TOO_DEEP, f"maps and lists nest deeper than {MAX_DEPTH} levels")
    if tag == "M":
        return {"M": {name: canonical(inner, depth + 1) for name, inner in entries(payload).items()}}
    if tag == "L":
        return {"L": [canonical(inner, depth + 1) for inner in elements(payload)]}
    raise bad_value("a value has a type that DynamoDB does not have")


def canonical_item(item: Mapping[str, object]) -> Item:
    """Return an item with every value canonical: what equality of items means. Raises UndecodableRecord."""
    return {name: canonical(value) for name, value in item.items()}


def spill_text(item: Mapping[str, object]) -> str:
    """Return the spill's JSON text: canonical values by attribute name, names sorted, ``''`` for nothing."""
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode() if item else ""


def plain_text(tag: str, payload: object) -> tuple[str, bool]:
    """Return the plain JSON text of an M, L or set, map keys sorted and numbers exact, and whether it says everything.

    A set or binary *inside* looks like a list or text afterwards: then the text is not exact.
    """
    blurs: list[str] = []
    document = _plain({tag: payload}, 0, blurs)
    inside = blurs[1:] if tag in ("SS", "NS", "BS") else blurs
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode(), not inside


def _plain(value: object, depth: int, blurs: list[str]) -> object:
    tag, payload = unpack(value)
    if tag == "S":
        return text(payload)
    if tag == "N":
        return orjson.Fragment(canonical_number(payload))
    if tag == "M" or tag == "L":
        if depth >= MAX_DEPTH:
            raise UndecodableRecord(TOO_DEEP, f"maps and lists nest deeper than {MAX_DEPTH} levels")
        if tag == "M":
            return {name: _plain(inner, depth + 1, blurs) for name, inner in entries(payload).items()}
        return [_plain(inner, depth + 1, blurs) for inner in elements(payload)]
    if tag == "NULL":
        null(payload)
        return None
    if tag == "BOOL":
        return boolean(payload)
    blurs.append(tag)
    if tag == "NS":
        return [orjson.Fragment(number) for number in number_set(payload)]
    scalar = _SCALARS.get(tag)
    if scalar is None:
        raise bad_value("a value has a type that DynamoDB does not have")
    return scalar(payload)

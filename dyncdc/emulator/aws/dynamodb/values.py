"""DynamoDB attribute values as the service stores them: checked, numbers canonical, sets sorted, sizes counted.

Stored values stay in their wire form (``{"N": "1.5"}``), so that nothing is ever a float and an image is what was read.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from dyncdc.emulator.aws.server.wire import AwsError, Wire

MAX_DEPTH = 32
MAX_ITEM_BYTES = 400 * 1024
MAX_DIGITS = 38
_MAX_EXPONENT = 125
_MIN_EXPONENT = -130
_PLAIN_INTEGER = re.compile(r"-?[1-9][0-9]{0,37}|0", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?", re.ASCII)
EXACT = Context(prec=80)
"""Arithmetic that rounds nothing before ``canonical_number`` has counted the digits."""


def invalid(message: str) -> AwsError:
    """Return the error for a request that is not valid."""
    return AwsError("ValidationException", message)


def canonical_number(text: object) -> str:
    """Return the text that DynamoDB gives back for a number: plain notation, no needless zeros.

    Raises:
        AwsError: ValidationException: no number, more than 38 digits, or out of range.
    """
    if not isinstance(text, str):
        raise AwsError("SerializationException", "NUMBER_VALUE cannot be converted to String")
    if _PLAIN_INTEGER.fullmatch(text):
        return text
    if not _NUMBER.fullmatch(text):
        raise invalid("The parameter cannot be converted to a numeric value")
    try:
        return number_text(Decimal(text))
    except InvalidOperation:
        raise invalid("The parameter cannot be converted to a numeric value") from None


def number_text(number: Decimal) -> str:
    """Return the canonical text of a decimal, checking digits and range."""
    _sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise invalid("The parameter cannot be converted to a numeric value")
    significant = "".join(map(str, digits)).strip("0")
    if not significant:
        return "0"
    if len(significant) > MAX_DIGITS:
        raise invalid("Attempting to store more than 38 significant digits in a Number")
    if number.adjusted() > _MAX_EXPONENT:
        raise invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
    if number.adjusted() < _MIN_EXPONENT:
        raise invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def canonical_value(value: Any, depth: int = 0) -> tuple[Wire, int]:
    """Return a value in its stored form and its size in bytes, checking it on the way.

    Raises:
        AwsError: ValidationException, SerializationException.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise invalid("Supplied AttributeValue has more than one datatypes set, must contain exactly one of them")
    ((kind, content),) = value.items()
    canonical = _CANONICAL.get(kind)
    if canonical is None:
        raise invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
    return canonical(content, depth)


def canonical_item(attributes: Any) -> tuple[Wire, int]:
    """Return an item in its stored form and its size in bytes."""
    if not isinstance(attributes, dict):
        raise AwsError("SerializationException", "Item must be a map")
    stored, size = {}, 0
    for name, value in attributes.items():
        stored[name], nbytes = canonical_value(value)
        size += nbytes + len(name.encode())
    if size > MAX_ITEM_BYTES:
        raise invalid("Item size has exceeded the maximum allowed size")
    return stored, size


def item_size(attributes: Wire) -> int:
    """Return the size of a stored item. Source: AWS "Item sizes and formats", near enough."""
    return canonical_item(attributes)[1]


def _string(content: Any, _depth: int) -> tuple[Wire, int]:
    if not isinstance(content, str):
        raise AwsError("SerializationException", "STRING_VALUE expected")
    return {"S": content}, len(content) if content.isascii() else len(content.encode())


def _number(content: Any, _depth: int) -> tuple[Wire, int]:
    text = canonical_number(content)
    return {"N": text}, len(text) // 2 + 2


def _binary(content: Any, _depth: int) -> tuple[Wire, int]:
    return {"B": content}, len(binary(content))


def binary(content: Any) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        AwsError: SerializationException.
    """
    try:
        return a2b_base64(content, strict_mode=True) if content else b""
    except (Base64Error, TypeError, ValueError):
        raise AwsError("SerializationException", "Base64 encoded value is not valid") from None


def _bool(content: Any, _depth: int) -> tuple[Wire, int]:
    if not isinstance(content, bool):
        raise AwsError("SerializationException", "Unexpected value type in payload")
    return {"BOOL": content}, 1


def _null(content: Any, _depth: int) -> tuple[Wire, int]:
    if content is not True:
        raise invalid("Null attribute value types must have the value of true")
    return {"NULL": True}, 1


def _list(content: Any, depth: int) -> tuple[Wire, int]:
    if not isinstance(content, list):
        raise AwsError("SerializationException", "Unexpected value type in payload")
    _check_depth(depth)
    stored, size = [], 3
    for element in content:
        value, nbytes = canonical_value(element, depth + 1)
        stored.append(value)
        size += nbytes + 1
    return {"L": stored}, size


def _map(content: Any, depth: int) -> tuple[Wire, int]:
    if not isinstance(content, dict):
        raise AwsError("SerializationException", "Unexpected value type in payload")
    _check_depth(depth)
    stored, size = {}, 3
    for name, element in content.items():
        stored[name], nbytes = canonical_value(element, depth + 1)
        size += nbytes + 1 + len(name.encode())
    return {"M": stored}, size


def _set_of(kind: str, member: Callable[[Any, int], tuple[Wire, int]]) -> Callable[[Any, int], tuple[Wire, int]]:
    def canonical(content: Any, depth: int) -> tuple[Wire, int]:
        if not isinstance(content, list) or not content:
            raise invalid("One or more parameter values were invalid: An set may not be empty")
        members, size = [], 0
        for one in content:
            value, nbytes = member(one, depth)
            members.append(value[kind[0]])
            size += nbytes
        if len(set(members)) != len(members):
            raise invalid("One or more parameter values were invalid: Input collection contains duplicates.")
        return {kind: sorted_members(kind, members)}, size

    return canonical


def sorted_members(kind: str, members: Iterable[str]) -> list[str]:
    """Return the members of a set in the one order that it is stored in, so that equal sets are equal documents."""
    if kind == "SS":
        return sorted(members)
    return sorted(members, key=Decimal) if kind == "NS" else sorted(members, key=binary)


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise invalid("Nesting Levels have exceeded supported limits: Attributes with nested structure")


_CANONICAL: dict[str, Callable[[Any, int], tuple[Wire, int]]] = {
    "S": _string,
    "N": _number,
    "B": _binary,
    "BOOL": _bool,
    "NULL": _null,
    "L": _list,
    "M": _map,
    "SS": _set_of("SS", _string),
    "NS": _set_of("NS", _number),
    "BS": _set_of("BS", _binary),
}

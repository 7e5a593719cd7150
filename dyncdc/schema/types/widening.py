"""Whether a column of one type holds every value that one of another type held. Pure; in doubt it does not."""

from __future__ import annotations

import re
from typing import Final

from dyncdc.errors import ConfigError

from .codecs import compile_type
from .families.datetimes import fraction_digits
from .families.numbers import decimal_digits
from .type_parser import TypeNode, parse_type

_INTEGER: Final = re.compile(r"(U?)Int(\d+)")


def holds_all_of(kind: str, before: str) -> bool:
    """Return whether an ALTER from ``before`` to ``kind`` keeps every value, and what will come fits as it did.

    What rows without a value show must stay the same as well: a 0 that stood for nothing is a number in a Nullable.
    """
    if kind == before:
        return True
    try:
        if compile_type(kind).default != compile_type(before).default:
            return False
        return _holds(parse_type(kind), parse_type(before))
    except ConfigError:
        return False


def _holds(node: TypeNode, before: TypeNode) -> bool:
    if before.nullable and not node.nullable:
        return False
    if node.name == before.name and node.arguments:
        pairs = zip(node.arguments, before.arguments, strict=False)
        return len(node.arguments) == len(before.arguments) and all(_holds(*pair) for pair in pairs)
    integer, other = _INTEGER.fullmatch(node.name), _INTEGER.fullmatch(before.name)
    if integer is not None and other is not None:
        wider, bits = int(integer[2]) > int(other[2]), int(integer[2]) >= int(other[2])
        return bits if integer[1] == other[1] else wider and not integer[1]
    if integer is not None or other is not None:
        return False
    digits, others = decimal_digits(node), decimal_digits(before)
    if digits is not None and others is not None:
        return digits[0] >= others[0] and digits[1] >= others[1]
    # No Float64 for Float32: what showed 0.1 would show 0.10000000149011612.
    if (node.name, before.name) in (("String", "FixedString"), ("Date32", "Date")):
        return True
    if node.name.startswith("Enum") and before.name.startswith("Enum"):
        values = dict(zip(node.texts, node.numbers, strict=True))
        return all(values.get(name) == value for name, value in zip(before.texts, before.numbers, strict=True))
    if node.name == before.name == "DateTime64":
        return fraction_digits(node) == fraction_digits(before)  # more digits mean fewer years
    paths, held = dict(node.paths), dict(before.paths)
    if paths.keys() != held.keys() or not all(_holds(paths[path], held[path]) for path in paths):
        return False
    return node.name == before.name and node.numbers == before.numbers

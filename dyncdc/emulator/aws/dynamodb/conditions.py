"""Evaluates condition, filter and key-condition trees against an item. Values of different types never compare."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dyncdc.emulator.aws.server.wire import Wire

from .expressions import Call, Literal, Node, Parser, Path, find
from .values import binary, invalid

_ORDERED = ("S", "N", "B")


def condition(text: str | None, request: Wire) -> Node | None:
    """Read a condition of a request, with its placeholders."""
    if not text:
        return None
    return Parser(text, request.get("ExpressionAttributeNames"), request.get("ExpressionAttributeValues")).condition()


def holds(node: Node | None, item: Wire) -> bool:
    """Whether an item (an empty one, if there is none) meets a condition; no condition is always met."""
    if node is None:
        return True
    if not isinstance(node, Call):
        raise invalid("Invalid expression: an operand is not a condition")
    arguments = node.arguments
    match node.name:
        case "AND":
            return holds(arguments[0], item) and holds(arguments[1], item)
        case "OR":
            return holds(arguments[0], item) or holds(arguments[1], item)
        case "NOT":
            return not holds(arguments[0], item)
        case "attribute_exists":
            return value_of(arguments[0], item) is not None
        case "attribute_not_exists":
            return value_of(arguments[0], item) is None
    operands = [value_of(argument, item) for argument in arguments]
    if any(operand is None for operand in operands):
        return node.name == "<>" and operands[0] != operands[1]
    return _compare(node.name, [operand for operand in operands if operand is not None])


def value_of(node: Node, item: Wire) -> Wire | None:
    """Return what an operand stands for in an item."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Path):
        return find(node, item)
    if node.name == "size":
        value = value_of(node.arguments[0], item)
        return None if value is None else _size(value)
    raise invalid(f"Invalid expression: Invalid function name; function: {node.name}")


def _compare(name: str, operands: list[Wire]) -> bool:
    first, second = operands[0], operands[1]
    match name:
        case "=":
            return first == second
        case "<>":
            return first != second
        case "<" | "<=" | ">" | ">=":
            return _ordered(name, first, second)
        case "BETWEEN":
            return _ordered(">=", first, second) and _ordered("<=", first, operands[2])
        case "IN":
            return first in operands[1:]
        case "attribute_type":
            return second.get("S") in first
        case "begins_with":
            ((kind, content),) = first.items()
            if kind not in ("S", "B") or kind not in second:
                return False
            return bool(_key(kind, content).startswith(_key(kind, second[kind])))
        case "contains":
            return _contains(first, second)
    raise invalid(f"Invalid expression: Invalid function name; function: {name}")


def _ordered(name: str, first: Wire, second: Wire) -> bool:
    ((kind, content),) = first.items()
    if kind not in second or kind not in _ORDERED:
        return False
    left, right = _key(kind, content), _key(kind, second[kind])
    if name[0] == "<":
        return bool(left < right or (name == "<=" and left == right))
    return bool(left > right or (name == ">=" and left == right))


def _key(kind: str, content: str) -> Any:
    if kind == "N":
        return Decimal(content)
    return content.encode() if kind == "S" else binary(content)


def _contains(first: Wire, second: Wire) -> bool:
    ((kind, content),) = first.items()
    if kind == "L":
        return second in content
    if kind in ("SS", "NS", "BS"):
        return second.get(kind[0]) in content
    if kind in ("S", "B") and kind in second:
        return bool(_key(kind, second[kind]) in _key(kind, content))
    return False


def _size(value: Wire) -> Wire | None:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"N": str(len(binary(content)))}
    if kind in ("N", "BOOL", "NULL"):
        return None
    return {"N": str(len(content))}

"""Applies an update expression to an item and says which attributes it touched. Returns new documents, changes none."""

from __future__ import annotations

import copy
from decimal import Decimal

from dyncdc.emulator.aws.server.wire import Wire

from .conditions import value_of
from .expressions import Call, Node, Parser, Path, find
from .values import EXACT, invalid, number_text, sorted_members

Action = tuple[str, Path, Node | None]


def actions(request: Wire) -> list[Action]:
    """Read the update expression of a request; an update without one only creates the item."""
    text = request.get("UpdateExpression")
    if not text:
        return []
    return Parser(text, request.get("ExpressionAttributeNames"), request.get("ExpressionAttributeValues")).update()


def apply(steps: list[Action], before: Wire, key_names: tuple[str, ...]) -> Wire:
    """Return the item after the update. All operands are read from ``before``.

    Raises:
        AwsError: ValidationException: a key attribute is touched, or types do not fit.
    """
    after = copy.deepcopy(before)
    writes: list[tuple[Path, Wire]] = []
    removals: list[Path] = []
    for clause, path, node in steps:
        if path.steps[0] in key_names:
            raise invalid(
                "One or more parameter values were invalid: Cannot update attribute "
                f"{path.steps[0]}. This attribute is part of the key"
            )
        if node is None:
            removals.append(path)
            continue
        value = _value(node, before)
        if clause == "SET":
            writes.append((path, value))
            continue
        changed = _added(find(path, before), value) if clause == "ADD" else _without(find(path, before), value)
        if changed is None:
            removals.append(path)
        else:
            writes.append((path, changed))
    for path, value in writes:
        _write(after, path, copy.deepcopy(value))
    for path in sorted(removals, key=lambda one: [str(s) for s in one.steps[:-1]] + [_last(one)], reverse=True):
        _remove(after, path)  # from the back, so that indexes of a list still mean what they meant
    return after


def touched(steps: list[Action]) -> set[str]:
    """Return the top-level attributes that an update names."""
    return {str(path.steps[0]) for _clause, path, _node in steps}


def _last(path: Path) -> str:
    step = path.steps[-1]
    return f"{step:09d}" if isinstance(step, int) else step


def _value(node: Node, item: Wire) -> Wire:
    if isinstance(node, Call):
        if node.name in ("+", "-"):
            return _arithmetic(node.name, _value(node.arguments[0], item), _value(node.arguments[1], item))
        if node.name == "if_not_exists":
            present = value_of(node.arguments[0], item)
            return present if present is not None else _value(node.arguments[1], item)
        if node.name == "list_append":
            first, second = (_value(argument, item) for argument in node.arguments)
            if "L" not in first or "L" not in second:
                raise invalid("An operand in the update expression has an incorrect data type")
            return {"L": [*first["L"], *second["L"]]}
    value = value_of(node, item)
    if value is None:
        raise invalid("The provided expression refers to an attribute that does not exist in the item")
    return value


def _arithmetic(sign: str, first: Wire, second: Wire) -> Wire:
    if "N" not in first or "N" not in second:
        raise invalid("An operand in the update expression has an incorrect data type")
    left, right = Decimal(first["N"]), Decimal(second["N"])
    wide = EXACT.copy()
    wide.prec = 300  # 1E125 and 1E-130 in one sum: exact first, then the check for 38 digits
    return {"N": number_text(wide.add(left, right) if sign == "+" else wide.subtract(left, right))}


def _added(present: Wire | None, value: Wire) -> Wire:
    ((kind, content),) = value.items()
    if kind == "N":
        return _arithmetic("+", present or {"N": "0"}, value)
    if kind not in ("SS", "NS", "BS"):
        raise invalid("Invalid UpdateExpression: Incorrect operand type for operator or function; operator: ADD")
    if present is None:
        return value
    if kind not in present:
        raise invalid("An operand in the update expression has an incorrect data type")
    return {kind: sorted_members(kind, {*present[kind], *content})}


def _without(present: Wire | None, value: Wire) -> Wire | None:
    ((kind, content),) = value.items()
    if kind not in ("SS", "NS", "BS"):
        raise invalid("Invalid UpdateExpression: Incorrect operand type for operator or function; operator: DELETE")
    if present is None:
        return None
    if kind not in present:
        raise invalid("An operand in the update expression has an incorrect data type")
    left = {*present[kind]} - {*content}
    return {kind: sorted_members(kind, left)} if left else None


def _holder(item: Wire, path: Path) -> Wire | None:
    return find(Path(path.steps[:-1]), item)


def _write(item: Wire, path: Path, value: Wire) -> None:
    step = path.steps[-1]
    if len(path.steps) == 1:
        item[str(step)] = value
        return
    holder = _holder(item, path)
    wanted = "M" if isinstance(step, str) else "L"
    if holder is None or wanted not in holder:
        raise invalid("The document path provided in the update expression is invalid for update")
    if isinstance(step, str):
        holder["M"][step] = value
    elif step < len(holder["L"]):
        holder["L"][step] = value
    else:
        holder["L"].append(value)


def _remove(item: Wire, path: Path) -> None:
    step = path.steps[-1]
    if len(path.steps) == 1:
        item.pop(str(step), None)
        return
    holder = _holder(item, path)
    if holder is None:
        raise invalid("The document path provided in the update expression is invalid for update")
    if isinstance(step, str):
        holder.get("M", {}).pop(step, None)
    elif step < len(holder.get("L", [])):
        del holder["L"][step]

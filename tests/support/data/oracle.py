"""Whether a destination equals its source: a comparison of its own that shares nothing with the product's decoder.

Source: a full scan through boto3. Destination: the ``_current`` view, and the spill column of its table, over HTTP.
Each column is held against what its type can say of the item, then each whole item is rebuilt from its row.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from support.processes.harness import ClickHouseHttp, wait_until
from support.servers.aws import Aws, Item

SHOWN = 5
"""Differences named in a failure; the rest is counted."""

INTEGER_BITS = {f"Int{bits}": bits for bits in (8, 16, 32, 64)}
WIDE = Context(prec=100)
NOTHING = object()
"""No such attribute, or a value that its column cannot hold."""


@dataclass(frozen=True)
class Column:
    """A column: the path it is filled from and the DynamoDB types it takes."""

    name: str
    type: str
    path: tuple[str, ...]
    takes: tuple[str, ...]
    later: bool = False
    """Made while rows were there: an older one may show nothing in it, and what it holds elsewhere."""

    @property
    def inner(self) -> str:
        """The type without Nullable."""
        return self.type.removeprefix("Nullable(").removesuffix(")") if self.type.startswith("Nullable(") else self.type

    @property
    def is_array(self) -> bool:
        return self.inner.startswith("Array(")

    @property
    def default(self) -> object:
        """What the column holds when it holds nothing."""
        return [] if self.is_array else None


def read_columns(clickhouse: ClickHouseHttp, table: str) -> list[Column]:
    """The columns of a table that dyncdc made, by the comments it left on them."""
    found = clickhouse.rows(
        "SELECT name, type, comment, default_kind FROM system.columns"
        f" WHERE database = '{clickhouse.database}' AND table = '{table}'"
        " AND name NOT IN ('_spill', '_version', '_deleted') ORDER BY position"
    )
    kept = _kept_mapping(clickhouse, table) if "dyncdc_mappings" in clickhouse.tables() else {}
    columns = []
    for name, kind, comment, default in found:
        _, mark, note = str(comment).partition("dyncdc {")  # behind the words of others, if they left any
        if not mark and str(name) in kept:  # a comment that someone has taken away comes back at the next start
            attribute, takes = kept[str(name)]
            columns.append(Column(str(name), str(kind), _path(attribute), takes, later=default == "DEFAULT"))
            continue
        if not mark:
            columns.append(Column(str(name), str(kind), (str(name),), ("S",), later=True))
            continue
        origin = json.loads("{" + note)
        columns.append(
            Column(str(name), str(kind), _path(origin["attribute"]), tuple(origin["from"]), later=default == "DEFAULT")
        )
    return columns


def _kept_mapping(clickhouse: ClickHouseHttp, table: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What dyncdc keeps of the columns beside their comments: attribute and DynamoDB types, by column."""
    rows = clickhouse.rows(
        "SELECT column, argMax(attribute, number), argMax(takes, number) FROM dyncdc_mappings"
        " WHERE role = 'attribute' AND destination_uuid = (SELECT toString(uuid) FROM system.tables"
        f" WHERE database = '{clickhouse.database}' AND name = '{table}') GROUP BY column"
    )
    return {str(column): (str(attribute), tuple(map(str, list(takes)))) for column, attribute, takes in rows}  # type: ignore[call-overload]


def _path(text: str) -> tuple[str, ...]:
    """Names separated by dots; those that hold anything else than letters, digits, _ and - are quoted as in JSON."""
    return tuple(json.loads(name) if name[0] == '"' else name for name in re.findall(r'"(?:[^"\\]|\\.)*"|[^.]+', text))


def differences(
    aws: Aws, clickhouse: ClickHouseHttp, table: str, destination: str, columns: Sequence[Column] = ()
) -> list[str]:
    """Everything in which the destination differs from the table; empty when they are equal."""
    columns = list(columns) or read_columns(clickhouse, destination)
    keys = [key["AttributeName"] for key in aws.dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]]
    key_columns = [next(column for column in columns if column.path == (key,)) for key in keys]
    names = ", ".join(f"`{column.name}`" for column in key_columns)
    spills = clickhouse.dicts(f"SELECT {names}, _spill FROM `{destination}` FINAL WHERE _deleted = 0")
    spilled = {_row_key(row, key_columns): json.loads(str(row["_spill"]) or "{}") for row in spills}
    rows = clickhouse.dicts(f"SELECT * FROM `{destination}_current`")
    by_key = {_row_key(row, key_columns): row for row in rows}
    found = [f"{len(rows) - len(by_key)} keys are there twice"] if len(rows) != len(by_key) else []
    for item in aws.scan(table):
        key = tuple(_scalar(item[name]) for name in keys)
        row = by_key.pop(key, None)
        if row is None or key not in spilled:  # the two reads are not of one instant
            found.append(f"{key}: missing")
        else:
            found += [f"{key}: {difference}" for difference in _compare(item, row, spilled[key], columns, keys)]
    found += [f"{key}: should not be there" for key in by_key]
    return found


def assert_equal_within(
    seconds: float,
    aws: Aws,
    clickhouse: ClickHouseHttp,
    table: str,
    destination: str = "",
    columns: Sequence[Column] = (),
) -> None:
    """Wait until the destination equals the table; fail with what still differs."""
    destination = destination or table.rpartition(".")[2]
    last: list[str] = []

    def equal() -> bool:
        last[:] = differences(aws, clickhouse, table, destination, columns)
        return not last

    try:
        wait_until(equal, seconds, "equality", pause_seconds=0.3)
    except AssertionError:
        more = f" and {len(last) - SHOWN} more" if len(last) > SHOWN else ""
        raise AssertionError(f"{destination} differs after {seconds:g} s: " + "; ".join(last[:SHOWN]) + more) from None


def _compare(
    item: Item, row: Mapping[str, Any], spill: Mapping[str, Any], columns: Sequence[Column], keys: Sequence[str]
) -> list[str]:
    found = []
    missing = [column.name for column in columns if column.name not in row]
    if missing:
        return [f"the view does not show the columns {missing}"]
    for column in columns:
        if column.later and row[column.name] == column.default:
            continue  # an older row that says it elsewhere: whether it says everything is seen below
        wanted = _normal(_expected(column, _at(item, column.path)), column)
        there = _normal(row[column.name], column)
        if wanted != there:
            found.append(f"column {column.name} is {there!r}, not {wanted!r}")
    if any(name in keys for name in spill):
        found.append("a key is in the spill")
    rebuilt = _rebuild(row, spill, columns)
    if _canonical({"M": rebuilt}) != _canonical({"M": item}):
        names = [name for name in {**rebuilt, **item} if _of(rebuilt, name) != _of(item, name)]
        found.append(f"rebuilding the item from its row gives other values of {names}")
    return found


def _expected(column: Column, value: Mapping[str, Any] | None) -> object:
    """What a column must hold for a value."""
    if value is None:
        return column.default
    ((tag, payload),) = value.items()
    held = _held(column, tag, payload) if tag in column.takes else NOTHING
    return column.default if held is NOTHING else held


def _held(column: Column, tag: str, payload: Any) -> object:
    kind = column.inner
    if tag == "N":
        return _number(kind, Decimal(payload))
    if tag == "B":
        return base64.b64encode(payload).decode()
    if tag in ("M", "L") and kind == "String":
        return json.dumps(_plain({tag: payload}))
    if tag == "L":
        return [None if "NULL" in element else _scalar(element) for element in payload]
    if tag == "NS":
        numbers = [_number(kind.removeprefix("Array(").removesuffix(")"), Decimal(number)) for number in payload]
        return NOTHING if NOTHING in numbers else sorted(numbers)  # type: ignore[type-var]
    if tag == "BS":
        return [base64.b64encode(element).decode() for element in sorted(payload)]
    return sorted(payload) if tag == "SS" else payload


def _number(kind: str, number: Decimal) -> object:
    """The number, if a column of this type can hold exactly it."""
    if kind in INTEGER_BITS:
        bound = 2 ** (INTEGER_BITS[kind] - 1)
        return number if number == number.to_integral_value() and -bound <= number < bound else NOTHING
    if kind.startswith("Decimal("):
        precision, scale = (int(part) for part in kind.removeprefix("Decimal(").removesuffix(")").split(","))
        step = Decimal(1).scaleb(-scale)
        fits = abs(number) < 10 ** (precision - scale) and number.quantize(step, context=WIDE) == number
        return number if fits else NOTHING
    return number


def _normal(cell: object, column: Column) -> object:
    """A cell, from either side, in the form in which equal values are equal."""
    kind = column.inner
    if cell is None:
        return None
    if kind in INTEGER_BITS or kind.startswith("Decimal("):
        return Decimal(str(cell))
    if column.takes[0] == "N":
        return Decimal(str(cell))
    if kind == "String" and column.takes[0] in ("M", "L"):
        return json.loads(str(cell), parse_float=Decimal, parse_int=Decimal)
    if isinstance(cell, list):
        numeric = column.takes[0] == "NS" or kind.startswith(("Array(Int", "Array(Decimal"))
        return [None if one is None else Decimal(str(one)) for one in cell] if numeric else cell
    return cell


def _rebuild(row: Mapping[str, Any], spill: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """The item that a row says: its spill, and its columns for all that is not in there."""
    rebuilt: dict[str, Any] = dict(spill)
    for column in columns:
        cell = row[column.name]
        if column.path[0] in spill or cell in (None, []):
            continue
        holder = rebuilt
        for name in column.path[:-1]:
            holder = holder.setdefault(name, {"M": {}})["M"]
        holder[column.path[-1]] = _typed(column.takes[0], cell)
    return rebuilt


def _typed(tag: str, cell: Any) -> dict[str, Any]:
    if tag == "N":
        return {"N": str(cell)}
    if tag == "NS":
        return {"NS": [str(one) for one in cell]}
    if tag == "L" and isinstance(cell, list):
        return {"L": [_from_plain(one) for one in cell]}
    if tag in ("M", "L"):
        return _from_plain(json.loads(cell, parse_float=Decimal, parse_int=Decimal))
    return {tag: cell}


def _from_plain(value: Any) -> dict[str, Any]:
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [_from_plain(one) for one in value]}
    if isinstance(value, dict):
        return {"M": {name: _from_plain(one) for name, one in value.items()}}
    return {"N": str(value)}


def _plain(value: Mapping[str, Any]) -> Any:
    """A typed value as plain JSON; numbers as text that ``_normal`` reads as numbers again."""
    ((tag, payload),) = value.items()
    if tag == "M":
        return {name: _plain(inner) for name, inner in payload.items()}
    if tag == "L":
        return [_plain(inner) for inner in payload]
    if tag == "N":
        number = Decimal(payload)
        return int(number) if number == number.to_integral_value() else float(number)
    if tag == "NULL":
        return None
    if tag in ("SS", "NS", "BS"):
        return [_plain({tag[0]: element}) for element in sorted(payload, key=Decimal if tag == "NS" else None)]
    return base64.b64encode(payload).decode() if tag == "B" else payload


def _canonical(value: Mapping[str, Any]) -> Any:
    """A typed value in a form in which equal values are equal: numbers as numbers, sets sorted, bytes as base64."""
    ((tag, payload),) = value.items()
    if tag == "M":
        return tag, {name: _canonical(inner) for name, inner in payload.items()}
    if tag == "L":
        return tag, [_canonical(inner) for inner in payload]
    if tag in ("SS", "NS", "BS"):
        return tag, sorted(_canonical({tag[0]: element})[1] for element in payload)
    if tag == "N":
        return tag, Decimal(payload)
    if tag == "B" and isinstance(payload, bytes):
        return tag, base64.b64encode(payload).decode()
    return tag, payload


def _of(item: Mapping[str, Any], name: str) -> Any:
    return _canonical(item[name]) if name in item else None


def _at(item: Item, path: Sequence[str]) -> Mapping[str, Any] | None:
    """The value at a path, None when there is none."""
    value: Mapping[str, Any] = {"M": item}
    for name in path:
        if "M" not in value or name not in value["M"]:
            return None
        value = value["M"][name]
    return value


def _scalar(value: Mapping[str, Any]) -> Any:
    ((tag, payload),) = value.items()
    if tag == "N":
        return Decimal(payload)
    return base64.b64encode(payload).decode() if tag == "B" else payload


def _row_key(row: Mapping[str, Any], key_columns: Sequence[Column]) -> tuple[Any, ...]:
    return tuple(
        Decimal(str(row[column.name])) if column.takes[0] == "N" else row[column.name] for column in key_columns
    )

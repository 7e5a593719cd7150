"""The strangest items that DynamoDB allows: every type, the deepest, the largest, and names that break quoting."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

KEYS = {"id": "S", "at": "N"}
MOST_LEVELS = 32
MOST_BYTES = 400 * 1024

HOSTILE_NAMES = [
    *("a.b", "a", "a_b", "A", "Id", "ID", "_id", "id ", " id", "1", "1a", "a-b", "a b", ".", "..", "'", '"', "`", "\\"),
    *(
        "\n",
        "\t",
        "\x01",
        "\x7f",
        "\u202e",
        "\ufeff",
        "é",
        "e\u0301",
        "ß",
        "😀",
        "😀😀",
        "名前",
        "a'b\"c`d\\e",
        "''",
        "``",
        '""',
    ),
    *("_version", "_deleted", "_spill", "_expired", "_part", "_row_exists", "_table", "version", "deleted", "_VERSION"),
    *("select", "FROM", "null", "true", "x; DROP TABLE strange", "{}", "[]", "%s", "{a:String}", "$1", "?", "@", "--"),
    *(
        "dyncdc",
        'dyncdc {"attribute":"x","from":["S"]}',
        "a.b.c",
        '"a"."b"',
        "__proto__",
        "constructor",
        "*",
        "COLUMNS",
    ),
]
LONG_NAMES = ["n" * 60_000, "n" * 59_999 + "m", "é" * 30_000, "." * 200, "x" * 100, "x" * 101, "x" * 300]

NUMBERS = [
    *("0", "-0", "1", "-1", "12.7", "1E-130", "-1E-130", "9.9999999999999999999999999999999999999E+125", "-9.99E+125"),
    *("9" * 38, "0." + "9" * 38, "9223372036854775807", "9223372036854775808", "-9223372036854775809", "0.1", "1e3"),
]
TEXTS = ["", "a", "\0", "\n\t\\'\"`", "😀é\u0301", "NULL", "\\N", "2024-02-30", "{}", "x" * 1000, "\u2028\ufeff"]
BINARIES = [b"", b"\0", bytes(range(256)), b"\xff\xfe", b"abc"]


def scalars() -> Iterator[dict[str, Any]]:
    """A value of every type, most of them several."""
    yield from ({"S": text} for text in TEXTS)
    yield from ({"N": number} for number in NUMBERS)
    yield from ({"B": raw} for raw in BINARIES)
    yield from ({"BOOL": True}, {"BOOL": False}, {"NULL": True}, {"L": []}, {"M": {}})
    yield from ({"SS": ["b", "", "a"]}, {"NS": ["10", "9", "1E-130"]}, {"BS": [b"\xff", b"", b"a"]})
    yield {"L": [{"S": "1"}, {"N": "1"}, {"NULL": True}, {"SS": ["x"]}, {"L": [{"B": b"\0"}]}]}
    yield {"L": [{"N": "1"}, {"N": "2.5"}]}
    yield {"M": {"": {"S": "empty"}, "a.b": {"N": "1"}, "a": {"M": {"b": {"N": "2"}}}, "'`\"": {"BS": [b"\xff"]}}}


def deepest(kind: str) -> dict[str, Any]:
    """A value of 32 levels."""
    value: dict[str, Any] = {"N": "1E-130"}
    for level in range(MOST_LEVELS - 1):
        value = {"L": [value]} if kind == "L" or (kind == "both" and level % 2) else {"M": {"k": value}}
    return {"L": [value]} if kind == "L" else {"M": {"k": value}}


def strange_items(seed: int = 1) -> list[dict[str, Any]]:
    """The items; what they hold is shuffled by ``seed``, so that attributes change their types from item to item."""
    rng = random.Random(seed)
    values = list(scalars())
    items: list[dict[str, Any]] = []

    def add(**attributes: Any) -> None:
        items.append({"id": {"S": f"{TEXTS[len(items) % len(TEXTS)]}{len(items)}"}, "at": {"N": number()}} | attributes)

    def number() -> str:
        return rng.choice(["0", "-1.5", "1E-130", "9.99E+125", "9" * 38, "7", str(len(items))])

    add()
    for value in values:
        add(x=value, m={"M": {"x": value, "y": rng.choice(values)}}, l={"L": [value]})
    for _ in range(2):
        add(**{name: rng.choice(values) for name in HOSTILE_NAMES})
        add(m={"M": {name: rng.choice(values) for name in HOSTILE_NAMES}})
    for name in LONG_NAMES * 3:
        add(**{name: {"S": "long"}})
        add(m={"M": {name: {"N": "1"}}})
    for kind in ("M", "L", "both") * 2:
        add(deep=deepest(kind))
    add(large={"S": "é" * ((MOST_BYTES - 2000) // 2)})
    add(large={"B": bytes(range(256)) * ((MOST_BYTES - 2000) // 256)})
    add(**{f"attribute{index}": {"N": str(index)} for index in range(1200)})
    return items

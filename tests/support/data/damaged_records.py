"""Change records and lines of an export from a seed: right ones, odd ones, and such as are damaged byte by byte."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from dyncdc.schema.redaction import Redaction
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.encodings import TYPED_TYPES

from .decode_items import VERSION

Name = Literal["S", "N", "B"]


def key_table(name: str, *keys: tuple[str, Name, str], **more: Any) -> TableSpec:
    """A table of these keys: attribute, type, column type; with columns of every kind that the compiled path knows."""
    columns = [ColumnSpec(key, kind, (key,), (tag,), key=True) for key, tag, kind in keys]
    attributes = tuple(KeyAttribute(key, tag) for key, tag, _ in keys)
    return TableSpec(name, name, attributes, (*columns, *COLUMNS), **more)


KINDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    *(("String", (tag,)) for tag in ("S", "N", "B", "M", "L", "SS", "NS", "BOOL")),
    *((kind, ("N",)) for kind in ("Int8", "UInt8", "Int64", "UInt64", "Int256", "UInt256", "Float64", "Float32")),
    *((kind, ("N",)) for kind in ("Decimal(9, 2)", "Decimal(38, 10)", "Decimal(5, 5)", "Decimal64(3)", "Bool")),
    *((kind, ("S",)) for kind in ("UUID", "IPv4", "IPv6", "Date", "Date32", "DateTime", "DateTime64(3)")),
    *((kind, ("S",)) for kind in ("DateTime64(0)", "DateTime64(9)", "Enum8('a' = 1, '' = 0, 'q\"' = 3, 'é' = 4)")),
    ("FixedString(4)", ("S",)),
    ("Bool", ("BOOL",)),
    ("String", ("M", "L", "S")),
    ("String", ("S", "N")),
)
OTHERS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("Array(String)", ("SS",)),
    ("Array(LowCardinality(String))", ("SS", "L")),
    ("Array(Nullable(String))", ("L",)),
    ("Array(Int64)", ("NS",)),
    ("Map(String, String)", ("M",)),
)
COLUMNS: tuple[ColumnSpec, ...] = (
    *(ColumnSpec(f"c{n}", kind, (f"c{n}",), takes) for n, (kind, takes) in enumerate((*KINDS, *OTHERS))),
    *(ColumnSpec(f"n{n}", f"Nullable({kind})", (f"n{n}",), takes) for n, (kind, takes) in enumerate(KINDS)),
    *(ColumnSpec(f"l{n}", kind, (f"l{n}",), takes, lossy=True) for n, (kind, takes) in enumerate(KINDS)),
    *(
        ColumnSpec(f"o{n}", f"Nullable({kind})", (f"o{n}",), takes, lossy=n % 2 > 0)
        for n, (kind, takes) in enumerate(KINDS)
    ),
    ColumnSpec("t0", "Nullable(String)", ("t0",), TYPED_TYPES, encoding="typed"),
    ColumnSpec("t1", "String", ("t1",), ("M", "S", "B"), encoding="typed"),
    ColumnSpec("r0", "Nullable(String)", ("r0",), ("B",), encoding="raw"),
    ColumnSpec("r1", "String", ("r1",), ("B",), encoding="raw"),
    ColumnSpec("r2", "FixedString(3)", ("r2",), ("B",), encoding="raw"),
    ColumnSpec("p_a", "Nullable(String)", ("p", "a"), ("S",)),
    ColumnSpec("p_b", "Int8", ("p", "b"), ("N",)),
    ColumnSpec("p_c", "Nullable(String)", ("p", "c"), ("M",), lossy=True),
    ColumnSpec("p_d", "Nullable(String)", ("p", "d"), ("B",), encoding="raw"),
    ColumnSpec("w", "Nullable(String)", ("w",), ("M",)),
    ColumnSpec("w_a", "Nullable(String)", ("w", "a"), ("S",)),
    ColumnSpec("v_a_b", "Nullable(String)", ("v", "a", "b"), ("S",)),
    ColumnSpec("x_a", "Array(Int8)", ("x", "a"), ("NS",)),
    ColumnSpec("x_b", "Nullable(Float64)", ("x", "b"), ("N",)),
    ColumnSpec("strange", "Nullable(String)", ('é"\\',), ("S",)),
)

ONE = key_table("one", ("pk", "S", "String"))
PATHS = tuple(column for column in COLUMNS if len(column.path) > 1 or column.path == ("w",))
KEYED: tuple[tuple[tuple[str, Name, str], ...], ...] = (
    (("pk", "S", "String"),),
    (("pk", "S", "UUID"), ("sk", "N", "Int64")),
    (("pk", "B", "String"), ("sk", "N", "Decimal(38, 10)")),
    (("sk", "N", "String"), ("pk", "S", "Enum8('k' = 1, '' = 2)")),
)


def tables(rng: random.Random, *names: str) -> tuple[TableSpec, ...]:
    """Tables of these names, with a dozen columns each: so a few records meet every one of them in many ways."""
    return tuple(_table(rng, name) for name in names)


def _table(rng: random.Random, name: str) -> TableSpec:
    spec = key_table(name, *rng.choice(KEYED))
    keys = tuple(column for column in spec.columns if column.key)
    found = [*rng.sample(COLUMNS, 10), *(PATHS if rng.random() < 0.3 else ())]
    columns = (*keys, *dict.fromkeys(found))
    options: list[dict[str, Any]] = [
        {"spill_column": ""},
        {"deletes": "ignore", "deleted_column": ""},
        {"version_type": "UInt256"},
        {"history": f"{name}_history", "base_microseconds": 7},
        {"ttl_deletes": "keep", "expired_column": "_expired"},
        {"redaction": _redaction(rng, found)},
    ]
    more: dict[str, Any] = {}
    for option in rng.sample(options, rng.choice([0, 1, 1, 2, 3])):
        more |= option
    return replace(spec, columns=columns, **more)


def _redaction(rng: random.Random, columns: Sequence[ColumnSpec]) -> Redaction:
    """Something left out whole, and something masked: a column that takes text, an attribute without one, or a part."""
    left_out = columns[0].path[0]
    texts = [each.path for each in columns if each.takes[0] == "S" and each.path[0] != left_out]
    paths = {path[0]: path for path in (*texts[:1], ("other",), ("c6", "a"), ("né", "b", "c")) if path[0] != left_out}
    return Redaction(((left_out,),), tuple(rng.sample(list(paths.values()), 2)), b"k" * 16)


NAMES = [column.path[0] for column in COLUMNS] + ["other", "né", "z" * 300, "a,b", ":"]

TEXTS = [
    *(
        "",
        "a",
        "abcd",
        "é",
        "😀" * 3,
        '"',
        "\\",
        "\0",
        "\x1f",
        "\x7f",
        "/",
        "\b\f\n\r\t",
        "null",
        "true",
        "0",
        "k",
        'q"',
    ),
    *("1970-01-01", "2024-02-29", "2023-02-29", "2149-06-06", "2148-12-31", "2299-12-31", "1900-01-01", "1899-12-31"),
    *("1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "2024-06-30T23:59:60Z", "2024-01-01T00:00:00.000Z"),
    *("2024-01-01T00:00:00.123456789Z", "2262-01-01T00:00:00.000000000Z", "1.2.3.4", "0.0.0.0", "256.1.1.1", "::1"),
    *("61f0c404-5cb3-11e7-907b-a6006ad3dba0", "00000000-0000-0000-0000-000000000000", "x" * 1000),
]
NUMBERS = [
    *(
        "0",
        "-0",
        "1",
        "-1",
        "7.0",
        "7.50",
        "0.1",
        "0.00001",
        "0.0001",
        "-0.00010",
        "0.000100",
        "1E3",
        "1e-7",
        "+5",
        "007",
    ),
    *("127", "128", "-128", "-129", "255", "256", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *("-9223372036854775808", "-9223372036854775809", "9" * 38, "9" * 39, "0." + "9" * 36, "0." + "0" * 35 + "1"),
    *(
        "123456789012345.5",
        "1234567890123456.5",
        "9007199254740993",
        "1e16",
        "10000000000000000",
        "0.30000000000000004",
    ),
    *(
        "1.7976931348623157E+308",
        "9.99E+125",
        "1E-130",
        "1E-131",
        ".5",
        "5.",
        "",
        "-",
        "-.5",
        "1.",
        "1..2",
        "0x1",
        "\uff11",
    ),
    *("99.99", "9999999.99", "12345.678", "0.12345", "1.000", "-1.10", "4.35", "100000000000000.1", "5e-324", "2.5"),
]


def number(rng: random.Random) -> str:
    """A number in any notation."""
    if rng.random() < 0.4:
        return rng.choice(NUMBERS)
    digits = "".join(rng.choices("0123456789", k=rng.choice([1, 2, 5, 14, 15, 16, 17, 19, 37, 38, 40])))
    if rng.random() < 0.6:
        at = rng.randrange(len(digits) + 1)
        digits = (digits[:at].lstrip("0") or "0") + "." + digits[at:] + "0" * rng.choice([0, 0, 1, 3])
    elif rng.random() < 0.9:
        digits = digits.lstrip("0") or "0"
    return rng.choice(["", "", "-"]) + digits + (f"E{rng.randint(-140, 130)}" if rng.random() < 0.05 else "")


def text(rng: random.Random) -> str:
    """A text, plain or not."""
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    return "".join(
        chr(rng.choice([rng.randrange(128), rng.randrange(0xD800), 0x1F600])) for _ in range(rng.randrange(20))
    )


def binary(rng: random.Random) -> str:
    """Base64, mostly."""
    found = base64.b64encode(rng.randbytes(rng.randrange(8))).decode()
    return (
        found if rng.random() < 0.85 else (found + rng.choice(["=", "A", "AB==", "-", "é", "AA=A"]))[rng.randrange(2) :]
    )


def value(rng: random.Random, levels: int = 3, tag: str = "") -> Any:
    """A typed value, of any type unless it is told."""
    tag = tag or rng.choice(
        ["S", "S", "N", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", *(["M", "M", "L"] if levels else [])]
    )
    few = range(rng.choice([0, 1, 2, 3, 3, 5]))
    made: dict[str, Callable[[], Any]] = {
        "S": lambda: text(rng),
        "N": lambda: number(rng),
        "B": lambda: binary(rng),
        "BOOL": lambda: rng.random() < 0.5,
        "NULL": lambda: rng.random() < 0.95,
        "SS": lambda: [rng.choice(["a", "b", text(rng)]) for _ in few],
        "NS": lambda: [rng.choice(["1", "2.50", number(rng)]) for _ in few],
        "BS": lambda: [binary(rng) for _ in few],
        "M": lambda: {rng.choice(["a", "b", "c", "d", "e", text(rng)]): value(rng, levels - 1) for _ in few},
        "L": lambda: [value(rng, levels - 1) for _ in few],
    }
    return {tag: made[tag]()}


def fitting(rng: random.Random, columns: Sequence[ColumnSpec]) -> Any:
    """A value for the columns that one attribute fills, mostly of types that they take."""
    kind = rng.random()
    if kind < 0.06:
        return {"NULL": True} if kind < 0.04 else value(rng)
    column = rng.choice(columns)
    if len(column.path) == 1:
        return value(rng, tag=rng.choice(column.takes))
    parts = {each.path[1:]: each for each in rng.sample(columns, rng.randint(1, len(columns))) if len(each.path) > 1}
    payload: dict[str, Any] = {}
    for path, each in parts.items():
        leaf: Any = {"NULL": True} if rng.random() < 0.05 else value(rng, tag=rng.choice(each.takes))
        for name in reversed(path[1:]):
            leaf = {"M": {name: leaf}}
        payload[path[0]] = leaf
    return {"M": payload | ({"z": value(rng)} if rng.random() < 0.1 else {})}


def dumped(rng: random.Random, found: Any) -> bytes:
    """JSON of one style or another; mostly that of AWS."""
    style = rng.random()
    if style < 0.04:
        return json.dumps(found, ensure_ascii=style < 0.02).encode()
    return json.dumps(found, separators=(",", ":"), ensure_ascii=style < 0.3).encode()


KEYS: list[Any] = [
    *({"S": "k"}, {"S": "61f0c404-5cb3-11e7-907b-a6006ad3dba0"}, {"N": "1"}, {"N": "-12"}, {"B": "AA=="}),
    *({"S": ""}, {"S": ',"'}, {"S": "a\n"}, {"N": "1.0"}, {"N": "0.5"}, {"N": "9" * 38}, {"B": "AB=="}, {"B": ""}),
]


def key_value(rng: random.Random, column: ColumnSpec) -> Any:
    """A value of a key, which fits in nine of ten cases."""
    if column.type in ("UUID", "Enum8('k' = 1, '' = 2)"):
        return KEYS[column.type == "UUID"]
    return rng.choice([each for each in KEYS[: 5 if rng.random() < 0.9 else None] if column.takes[0] in each])


def item_of(rng: random.Random, spec: TableSpec) -> dict[str, Any]:
    """An item: mostly of values that fit."""
    item = {column.path[0]: key_value(rng, column) for column in spec.columns if column.key}
    names = sorted({column.path[0] for column in spec.columns if not column.key})
    for name in rng.sample(names, min(len(names), rng.choice([0, 1, 4, 8]))):
        item[name] = fitting(rng, [column for column in spec.columns if column.path[0] == name])
    if rng.random() < 0.3:
        item[rng.choice(NAMES)] = value(rng)
    if rng.random() < 0.01:
        item |= {f"a{rng.randrange(99_999)}": {"N": str(n)} for n in range(rng.choice([20, 20, 500]))}
    if rng.random() < 0.2:
        entries = [*item.items()]
        rng.shuffle(entries)
        item = dict(entries)
    return item


TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def change(rng: random.Random, specs: Sequence[TableSpec]) -> bytes:
    """A change record."""
    spec = rng.choice(specs)
    item = item_of(rng, spec)
    keys = {key.name: item[key.name] for key in spec.keys}
    if rng.random() < 0.02:
        keys[rng.choice([*keys, "more"])] = rng.choice(KEYS)
    event = rng.choice(["INSERT", "MODIFY", "MODIFY", "REMOVE"])
    if rng.random() < 0.01:
        (keys if rng.random() < 0.5 else item).pop(rng.choice([*keys]), None)
    body: dict[str, Any] = {"ApproximateCreationDateTime": VERSION + rng.randrange(1000), "Keys": keys}
    body["ApproximateCreationDateTimePrecision"] = "MICROSECOND"
    if rng.random() < 0.1:
        body["ApproximateCreationDateTime"] = rng.choice(
            [0, -1, 1.5, 10**16, 9**99, None, True, "x", *[VERSION // 1000] * 8]
        )
    if rng.random() < 0.1:
        body["ApproximateCreationDateTimePrecision"] = rng.choice(["SECOND", None, 1, *["MILLISECOND"] * 3])
    if rng.random() < 0.05:
        del body["ApproximateCreationDateTimePrecision"]
    if event != "REMOVE" or rng.random() < 0.1:
        body["NewImage"] = item
    if event != "INSERT":
        body["OldImage"] = item_of(rng, spec)
    body["SizeBytes"] = rng.choice([100] * 20 + [9**500, 1.5, {}])
    table = rng.choice([spec.source_table] * 30 + ["stranger", "strangé", "", 5])
    identity = rng.choice([None, None, None, TTL, TTL, {"type": "User"}, TTL | {"more": 1}, "x"])
    record = {"eventID": "e", "eventName": event, "tableName": table, "dynamodb": body, "userIdentity": identity}
    if rng.random() < 0.1:
        record["eventID"] = rng.choice(["", "é", '"', None, 5])
    if rng.random() < 0.05:
        body["OldImage"] = rng.choice([None, {}, [], "x"])
    return damaged(rng, dumped(rng, record))


def line(rng: random.Random, spec: TableSpec) -> bytes:
    """A line of an export."""
    found = {"Item": item_of(rng, spec)}
    if rng.random() < 0.02:
        found["Item"].pop(rng.choice([key.name for key in spec.keys]))
    if rng.random() < 0.02:
        found["More"] = {}
    return damaged(rng, dumped(rng, found))


FRAGMENTS = [
    *(
        b"[" * 3000,
        b'{"M":{"a":' * 39,
        b'{"L":[' * 40,
        b'{"L":[' * 20 + b'{"NULL":true}' + b"]}" * 20,
        b"]" * 9,
        b"}" * 9,
    ),
    *(
        b"9" * 5000,
        b"1e999",
        b"-0",
        b"NaN",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\ud83d\\ude00",
        b"\\u00",
        b"\\u0000",
        b"\x00",
    ),
    *(
        b"\xff",
        b"\xc3",
        b"\xc3\x28",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\\",
        b'"',
        b" ",
    ),
    *(
        b"\n",
        b"\xef\xbb\xbf",
        b'"S"',
        b'{"S":"a"}',
        b'{"NULL":false}',
        b'{"NULL":true}',
        b'{"BOOL":true}',
        b'{"N":"1"}',
    ),
    *(b"null", b"{}", b"[]", b"0", b'"Keys":{},', b'"tableName":"one",', b'"NewImage":null,', b'"eventName":"REMOVE",'),
    *(b'"c0":{"S":"x"},', b'"pk":{"S":"k"},', b'"other":{"N":"2"},', b",", b":", b"{", b"}", b'\\"', b"\\u0022"),
    *(b'"dynamodb":{},', b'"Item":{},', b'"\\u004beys":{},', b'"a":{"N":"1"},"a":{"N":"2"}', b'{"M":{"a":{"S":"x"}}}'),
]


ENTRY = re.compile(rb'"[^"\\]*":\{"[A-Z]+":(?:"[^"\\]*"|true)\}')
IN_TEXT = re.compile(rb'"S":"')
WRONG_IN_TEXT = [
    *(
        b"\xff",
        b"\xc3",
        b"\xc3\x28",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
    ),
    *(b"\\ud800", b"\\ud83d\\u0041", b"\\ud83d\\ude00", b"\\udc00", b"\\u00", b"\\x", b"\\", b"\n", b"\0", b"\\u0000"),
]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The same bytes in two of three cases; else cut, spliced, repeated or overwritten."""
    how_much = rng.random()
    if how_much < 0.6:
        return data
    if how_much < 0.66 and (entries := [*ENTRY.finditer(data)]):
        again = rng.choice(entries)
        return data[: again.end()] + b"," + again[0] + data[again.end() :]
    if how_much < 0.75 and (texts := [*IN_TEXT.finditer(data)]):
        at = rng.choice(texts).end()
        return data[:at] + rng.choice(WRONG_IN_TEXT) + data[at:]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        first = rng.randrange(len(data) + 1)
        last = min(len(data), first + rng.choice([0, 1, 2, 8, 40, 400]))
        how = rng.randrange(9)
        if how == 0:
            data = data[:first]
        elif how == 1:
            data = data[:first] + data[last:]
        elif how == 2:
            data = data[:last] + data[first:]
        elif how == 3:
            data = data[:first] + bytes([rng.randrange(256)]) + data[first + 1 :]
        elif how == 4 and first < len(data):
            data = data[:first] + bytes([data[first] ^ 1 << rng.randrange(8)]) + data[first + 1 :]
        elif how == 5:
            data = data[:first] + rng.choice(FRAGMENTS) + data[last:]
        else:  # where a value, a name or a mark begins, so that more of what comes out is JSON still
            marks = [at for at, one in enumerate(data) if one in b',:{["']
            if marks:
                at = rng.choice(marks) + rng.randrange(2)
                data = data[:at] + rng.choice(FRAGMENTS) + data[at + rng.choice([0, 0, 1, 9]) :]
    return data

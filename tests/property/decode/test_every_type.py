"""Every column type against every kind of value, in a real ClickHouse: exact in the column, or whole in the spill.

Unlike its neighbours this looks at the column of a spilled value, too: it shows NULL, the type's default, or a right
but less exact reading of the same value; never anything else.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import itertools
import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.data.decode_cases import BLURRED, EXACT, LOOKS_ABSENT, MISFITS

from dyncdc.config import ClickHouseUrl
from dyncdc.decode.decoder import SnapshotDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.writing.batch import take
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.sql.readback import column_reader
from dyncdc.schema.sql.row_reader import RowRenderer
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, Encoding, KeyAttribute, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.dynamodb_values import canonical, plain_text
from dyncdc.schema.types.encodings import UNIT_PLACES
from dyncdc.schema.types.type_parser import parse_type
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink

pytest.importorskip("chdb")

VERSION = 1_720_742_302_233_719
SCALARS = [
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)),
    *("Decimal(1, 0)", "Decimal(9, 9)", "Decimal(18, 4)", "Decimal(38, 0)", "Decimal(38, 38)", "Decimal(76, 38)"),
    *("Float32", "Float64", "Bool", "UUID", "IPv4", "IPv6", "Date", "Date32", "DateTime", "DateTime('Asia/Kolkata')"),
    *(f"DateTime64({digits})" for digits in range(10)),
    "DateTime64(6, 'Europe/Berlin')",
    *("String", "FixedString(4)", "FixedString(16)"),
    "Enum8('a' = 1, '' = 2, 'c''d' = -5, '\\n`\"\\\\' = 7)",
    "Enum16('a' = 300, 'b' = 0)",
]
LOW_CARDINALITY = ["LowCardinality(String)", "LowCardinality(Nullable(String))", "LowCardinality(FixedString(4))"]
COLLECTIONS = [
    *(f"Array({kind})" for kind in ("String", "Int8", "UInt256", "Decimal(38, 10)", "Bool", "Date", "DateTime64(3)")),
    *("Array(UUID)", "Array(IPv6)", "Array(Float64)", "Array(FixedString(4))", "Array(Enum8('a' = 1))"),
    *("Array(LowCardinality(String))", "Array(Nullable(String))", "Array(Nullable(Int64))", "Array(Nullable(Bool))"),
    *("Array(LowCardinality(Nullable(String)))", "Array(Array(Nullable(Int8)))", "Array(Map(String, Int64))"),
    *("Map(String, String)", "Map(String, Nullable(Decimal(38, 10)))", "Map(LowCardinality(String), Bool)"),
    *("Map(String, Array(String))", "Map(String, Map(String, DateTime64(3)))", "JSON", "JSON(max_dynamic_paths = 2)"),
]
ENCODED: list[tuple[str, Encoding]] = [
    *(("String", "typed"), ("Nullable(String)", "typed"), ("LowCardinality(String)", "typed")),
    *(("DateTime64(3)", "epoch_ms"), ("Nullable(DateTime64(6))", "epoch_us"), ("DateTime", "epoch_ms")),
    *(("String", "raw"), ("Nullable(String)", "raw"), ("FixedString(4)", "raw"), ("Nullable(FixedString(4))", "raw")),
]


def kinds() -> Iterator[tuple[str, Encoding]]:
    for kind in SCALARS:
        yield kind, ""
        yield f"Nullable({kind})", ""
    for kind in (*LOW_CARDINALITY, *COLLECTIONS):
        yield kind, ""
    yield from ENCODED


def numbers() -> Iterator[str]:
    for bits in (7, 8, 15, 16, 31, 32, 63, 64):
        for sign, off in itertools.product((1, -1), (-1, 0, 1)):
            yield str(sign * 2**bits + off)
    yield from ("0", "-0", "0.0", "1", "-1", "9", "10", "0.5", "-0.5", "12.7", "12.70", "1e3", "1E+2", "300", "0.1")
    yield from ("9" * 38, "-" + "9" * 38, "0." + "9" * 38, "1E+38", "1E+75", "9.99E+75", "1E+76", "1E+77", "1E-38")
    yield from ("9.9999999999999999999999999999999999999E+125", "-9.99E+125", "1E-130", "-1E-130", "1E-39", "1E+30")
    yield from (
        "16777217",
        "0.30000000000000004",
        "1E+23",
        "3.4028235E+38",
        "1E-45",
        "4.9E-324"[:3] + "E-40",
        "12345.678",
    )
    yield from ("1733000000123", "-1733000000123", "1733000000123456", "1733000000000", "1E-130", "4294967295000")
    yield from ("4294967295", "4294967296", "1720742302", "1720742302.123456789", "-2208988800", "10413791999.999")
    yield from ("0.9999", "12345678901234.5678", "123456789.123456789", "99999999999999.9999", "100000000000000")


def texts() -> Iterator[str]:
    yield from ("", "a", "b", "c'd", '\n`"\\', "1", "0", "true", "false", "null", "NULL", "\\N", "[]", "{}", "'", '"')
    yield from (
        "abcd",
        "é12",
        "😀",
        "a\0\0\0",
        "\0\0\0\0",
        "ab\tc",
        "x" * 16,
        "\x00\x01\x1f\x7f\u0080\u2028\ufeff\uffff",
    )
    yield from ("1970-01-01", "1969-12-31", "2149-06-06", "2149-06-07", "1900-01-01", "1899-12-31", "2299-12-31")
    yield from ("2300-01-01", "2024-02-29", "2023-02-29", "2024-2-1", "0000-00-00", "2024-01-01T00:00:00Z")
    yield from ("1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "2106-02-07T06:28:16Z", "2024-10-27T00:30:00Z")
    yield from ("2024-10-27T01:30:00Z", "2024-03-31T01:00:00Z", "2024-01-01T00:00:00", "2024-01-01 00:00:00")
    yield from ("2024-01-01T00:00:00.5+05:30", "1969-12-31T23:30:00.25-0100", "2024-01-01 00:00:00.123Z")
    yield from ("2024-01-01T00:00:00+00:00", "2024-01-01T24:00:00Z", "2024-12-31T23:59:60Z", "1700000000")
    for digits in range(1, 11):
        yield "2024-06-30T23:59:59." + "987654321987"[:digits] + "Z"
    yield from ("1900-01-01T00:00:00.000000Z", "1969-12-31T23:59:59.999Z", "2261-12-31T23:59:59.999999999Z")
    yield from ("2262-04-11T23:47:16.854775807Z", "2299-12-31T23:59:59.99999999Z", "2300-01-01T00:00:00.0Z")
    yield from ("61f0c404-5cb3-11e7-907b-a6006ad3dba0", "61F0C404-5cb3-11e7-907b-a6006ad3dba0")
    yield from ("00000000-0000-0000-0000-000000000000", "127.0.0.1", "0.0.0.0", "01.2.3.4", "255.255.255.256", "::")
    yield from ("::1", "2001:db8::1", "2001:DB8::1", "::ffff:1.2.3.4", "1:0:0:2::3", "::1.2.3.4", "fe80::1%1")


def values() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"N": number} for number in numbers()] + [{"S": text} for text in texts()]
    found += [{"BOOL": True}, {"BOOL": False}, {"NULL": True}]
    binaries = [
        b"",
        b"\0",
        bytes(range(256)),
        b"abcd",
        b"\xff\xfe\xfd\xfc",
        b"abc\0",
        b"\"\\'`",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
    ]
    encoded = [base64.b64encode(raw).decode() for raw in binaries]
    found += [{"B": each} for each in encoded]
    found += [{"SS": []}, {"SS": ["b", "a", "b"]}, {"SS": ["", "é", "\0"]}, {"SS": ["abcd"]}, {"SS": ["2024-01-01"]}]
    found += [{"NS": ["10", "9", "-1E-130"]}, {"NS": ["1", "1.0", "300"]}, {"NS": ["127", "-128"]}, {"NS": []}]
    found += [{"BS": encoded[:4]}, {"BS": []}, {"L": []}, {"M": {}}]
    singles: list[dict[str, Any]] = [
        *({"N": "1"}, {"N": "12.7"}, {"S": "a"}, {"S": ""}, {"BOOL": True}, {"NULL": True}, {"B": "AP8="}, {"L": []}),
        *({"M": {}}, {"SS": ["a"]}, {"L": [{"N": "1"}, {"NULL": True}]}, {"M": {"a": {"N": "1"}}}, {"S": "2024-01-01"}),
        {"S": "2024-01-01T00:00:00.000Z"},
    ]
    for one, other in itertools.combinations_with_replacement(singles, 2):
        found += [{"L": [one, other]}, {"M": {"a": one, "b.c": other}}]
    found += [
        {"M": {"a.b": {"N": "1"}, "a": {"M": {"b": {"N": "2"}}}}},
        {"M": {"": {"S": ""}, "😀`'\"\\\n": {"N": "1"}}},
    ]
    deep: dict[str, Any] = {"N": "1E-130"}
    for level in range(31):
        deep = {"M": {f"k{level}": deep}} if level % 2 else {"L": [deep]}
    found.append(deep)
    found += [value for cases in (EXACT, BLURRED, LOOKS_ABSENT, MISFITS) for _, value in cases]
    return found


VALUES = values()


@pytest.fixture(scope="module")
def server(server_directory: Path) -> Iterator[LocalClickHouse]:
    found = LocalClickHouse(server_directory / "decode_every_type")
    asyncio.run(found.start())
    yield found
    asyncio.run(found.stop())


def table(kind: str, encoding: Encoding) -> TableSpec:
    """A column for each DynamoDB type that the column type can take, each filled by the same attribute of its own."""
    tags: Any = list(compile_type(kind, encoding).encoders)
    takes: list[tuple[AttributeType, ...]] = [(tag,) for tag in tags]
    if len(tags) > 1:
        takes.append(tuple(tags))
    columns = [ColumnSpec("id", "Int64", ("id",), ("N",), key=True)]
    columns += [ColumnSpec(f"c{i}", kind, (f"a{i}",), each, encoding=encoding) for i, each in enumerate(takes)]
    return TableSpec("every", "every", (KeyAttribute("id", "N"),), tuple(columns))


def rows_of(server: LocalClickHouse, spec: TableSpec) -> list[tuple[dict[str, Any], list[str | None], str]]:
    """Each value as an item that has it in every attribute, and what was read back of it."""
    items = [
        {"id": {"N": str(number)}, **{column.path[0]: value for column in spec.columns if not column.key}}
        for number, value in enumerate(VALUES)
    ]
    lines = [json.dumps({"Item": item}).encode() for item in items]
    positions = [Position(str(index)) for index in range(len(lines))]
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), lines, positions, Position("end"), 1, 0.0)
    blocks = []
    for decoded in SnapshotDecoder(compile_table(spec), VERSION, pipeline="p").decode(chunk):
        assert decoded.dead == {}
        (block,) = decoded.blocks
        assert take(block, range(block.rows)).cells == block.cells
        blocks.append(block)
    found = asyncio.run(inserted(server, spec, blocks))
    return [(item, list(row[:-1]), row[-1]) for item, row in zip(items, found, strict=True)]


async def inserted(server: LocalClickHouse, spec: TableSpec, blocks: list[Block]) -> list[tuple[Any, ...]]:
    """What is read back of blocks that the sink has inserted into a new table."""
    url = ClickHouseUrl("native", port=server.tcp_port, database=server.database)
    clickhouse = ClickHouse(url, timeout_seconds=20.0)
    try:
        await clickhouse.execute(f"DROP TABLE IF EXISTS {spec.destination}", doing="dropping")
        await clickhouse.execute(create_table(spec), doing="creating")
        for number, block in enumerate(blocks):
            await ClickHouseSink(clickhouse).insert(block, str(number))
        expressions = ", ".join(RowRenderer(spec).expressions)
        query = f"SELECT {expressions}, {spec.spill_column} FROM {spec.destination} FINAL ORDER BY id"
        return list(await clickhouse.fetch(query, doing="reading"))
    finally:
        await clickhouse.close()


def same_float(shown: str, number: str, digits: int) -> bool:
    return f"{Decimal(shown):.{digits - 1}e}" == f"{Decimal(number):.{digits - 1}e}"


def same_scalar(kind: str, text: str, payload: Any) -> bool:
    """Whether a column shows the value of another spelling, a float that is near, or whole seconds before 1970."""
    if kind.startswith("Float"):
        return same_float(text, payload, 6 if kind == "Float32" else 15)
    if kind == "UUID":
        return text == payload.lower()
    if kind == "IPv6":
        return ipaddress.ip_address(text) == ipaddress.ip_address(payload)
    if kind.startswith("DateTime") and payload[10:11] in ("T", " "):
        moment = datetime.datetime.fromisoformat(payload.replace("Z", "+00:00")).astimezone(datetime.UTC)
        moment = moment.replace(tzinfo=None, microsecond=0 if moment.year < 1970 else moment.microsecond)
        return datetime.datetime.fromisoformat(text[:26]) == moment
    return False


def about(column: ColumnSpec, text: str, value: dict[str, Any]) -> bool:
    """Whether a column shows a spilled value, perhaps less exactly where its kind may do so, and nothing else."""
    ((tag, payload),) = value.items()
    kind = parse_type(column.type).name
    if tag not in column.takes:
        return False
    if kind == "JSON":
        return True  # blurs by nature: what it shows is for queries
    if kind == "String" and tag in ("M", "L") and not column.encoding:
        return text == plain_text(tag, payload)[0]
    if kind in ("Array", "Map"):
        node = parse_type(column.type)
        members: Any = canonical(value)[tag]
        shown: Any = json.loads(text)
        if kind == "Map":
            members, shown = [members[name] for name in sorted(members)], [shown[name] for name in sorted(shown)]
        inner = [next(iter(each.values())) if isinstance(each, dict) else each for each in members]
        if all(same_scalar(node.arguments[-1].name, *each) for each in zip(shown, inner, strict=True)):
            return True
    if kind.startswith("DateTime") and tag == "N":
        seconds = Decimal(payload).scaleb(-UNIT_PLACES.get(column.encoding, 0))
        whole = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=math.floor(seconds))  # noqa: DTZ001
        if seconds < 0:
            return datetime.datetime.fromisoformat(text[:26]) == whole
    elif same_scalar(kind, text, payload):
        return True
    return canonical(column_reader(column.type, tag, column.encoding).read(text)) == canonical(value)


async def offered(server: LocalClickHouse) -> Callable[[str, Encoding], bool]:
    """Which kinds the server has: JSON came with 24.8 to 25.3, and some builds have no functions of base64."""
    clickhouse = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
    try:
        ((version, base64_there),) = await clickhouse.fetch(
            "SELECT version(), (SELECT count() FROM system.functions WHERE name = 'base64Encode')"
        )
    finally:
        await clickhouse.close()
    json_there = tuple(map(int, version.split(".")[:2])) >= (25, 3)
    return lambda kind, encoding: (json_there or not kind.startswith("JSON")) and (base64_there or encoding != "raw")


@pytest.mark.timeout(180)
def test_every_value_in_every_column_type_is_exact_or_null_with_the_exact_value_in_the_spill(
    server: LocalClickHouse,
) -> None:
    held = 0
    has = asyncio.run(offered(server))
    for kind, encoding in kinds():
        if not has(kind, encoding):
            continue
        spec = table(kind, encoding)
        renderer = RowRenderer(spec)
        for item, texts, spill in rows_of(server, spec):
            kept = json.loads(spill) if spill else {}
            for column, text in zip(spec.columns, texts, strict=True):
                value, name = item[column.path[0]], column.path[0]
                reader = column_reader(column.type, column.takes[0], column.encoding)
                where = (kind, column.takes, encoding, value, text, spill[:200])
                if column.key:
                    continue
                if name not in kept:
                    held += 1
                    assert text is not None and canonical(reader.read(text)) == canonical(value), where
                    continue
                assert kept[name] == canonical(value), where
                assert text is None or reader.is_default(text) or about(column, text, value), where
            assert renderer.differences(item, texts, spill) == [], (kind, item, texts, spill)
    assert held > 10_000

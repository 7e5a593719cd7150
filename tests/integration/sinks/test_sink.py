"""Blocks into a real ClickHouse and back: every byte, every type of failure, and what it costs in memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
from pathlib import Path

import orjson
import pytest

from dyncdc.config import ClickHouseUrl
from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE, DeadLetterRows
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import FatalError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.schema.sql.quoting import quote_name
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import SchemaChangedError
from dyncdc.sinks.sink import INSERT_COPIES, ClickHouseSink
from dyncdc.sinks.state.tables import own_statements

HOSTILE = [
    "",
    " ",
    "plain",
    "emoji 😀👩‍👩‍👧 flag 🇩🇪",
    "quotes ' \" ` and \\ \\' \\\\",
    "percent %s %(a)s %%",
    "control " + "".join(map(chr, range(32))) + "\x7f",
    "line\nbreak\r\nand\ttab",
    "[[1,2],[3]]; DROP TABLE t; -- /* */ FORMAT Values (1)",
    "\\N \\0 \u2028 \u2029 \ufeff \uffff",
    "null",
    "x" * 300_000,
    "ü" * 300_000,
]

TABLE = "CREATE TABLE {} ({}) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 1000"


def block_of(table: str, **columns: list[object]) -> Block:
    cells = [b",".join(map(orjson.dumps, values)) for values in columns.values()]
    return Block(table, tuple(columns), cells, len(next(iter(columns.values()))))


async def test_hostile_text_comes_back_byte_for_byte(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(TABLE.format("t", "n Int64, s String, o Nullable(String), l LowCardinality(String)"))
    numbers: list[object] = list(range(len(HOSTILE)))
    texts: list[object] = list(HOSTILE)
    await ClickHouseSink(clickhouse).insert(block_of("t", n=numbers, s=texts, o=texts, l=texts), "a")
    rows = await clickhouse.fetch("SELECT s, o, l FROM t ORDER BY n")
    assert rows == [(text, text, text) for text in HOSTILE]


@pytest.mark.parametrize(
    "name", ["a.b", "`tick`", "qu'ote\"s", "back\\slash", "emoji 😀", "select", "new\nline", "%s", "{x:Int8}"]
)
async def test_hostile_names_of_tables_and_columns_are_quoted(clickhouse: ClickHouse, name: str) -> None:
    await clickhouse.execute(TABLE.format(quote_name(name), f"{quote_name(name)} String"))
    await ClickHouseSink(clickhouse).insert(Block(name, (name,), [b'"x"'], 1), "a")
    assert await clickhouse.fetch(f"SELECT {quote_name(name)} FROM {quote_name(name)}") == [("x",)]


async def test_every_kind_of_cell_arrives_exactly(clickhouse: ClickHouse) -> None:
    columns = {
        "Int64": '"9223372036854775807"',
        "UInt256": f'"{2**256 - 1}"',
        "Decimal(38, 10)": '"1234567890123456789012345678.0123456789"',
        "Float64": '"0.1"',
        "Bool": "true",
        "Nullable(Int8)": "null",
        "Array(Nullable(String))": '["a",null]',
        "Map(String, Int64)": '{"a":"1"}',
        "UUID": '"00112233-4455-6677-8899-aabbccddeeff"',
        "DateTime64(6)": '"2024-02-29T23:59:59.123456Z"',
        "DateTime64(3, 'America/New_York')": '"2024-02-29T23:59:59.123Z"',
        "DateTime": '"1970-01-01T00:00:00Z"',
        "Date": '"2024-02-29"',
        "Enum8('a' = 1, 'b' = 2)": '"b"',
        "IPv6": '"2001:db8::1"',
    }
    names = tuple(f"c{number}" for number in range(len(columns)))
    await clickhouse.execute(TABLE.format("t", ", ".join(map(" ".join, zip(names, columns, strict=True)))))
    await ClickHouseSink(clickhouse).insert(Block("t", names, [cell.encode() for cell in columns.values()], 1), "a")
    shown = ", ".join(
        f"toString(toTimeZone({name}, 'UTC'))" if kind.startswith("DateTime") else f"toString({name})"
        for name, kind in zip(names, columns, strict=True)
    )
    assert await clickhouse.fetch(f"SELECT {shown} FROM t") == [
        (
            "9223372036854775807",
            str(2**256 - 1),
            "1234567890123456789012345678.0123456789",
            "0.1",
            "true",
            None,
            "['a',NULL]",
            "{'a':1}",
            "00112233-4455-6677-8899-aabbccddeeff",
            "2024-02-29 23:59:59.123456",
            "2024-02-29 23:59:59.123",
            "1970-01-01 00:00:00",
            "2024-02-29",
            "b",
            "2001:db8::1",
        )
    ]


async def test_c2_the_same_token_never_adds_rows_again_and_another_does(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(TABLE.format("t", "a Int64"))
    sink, block = ClickHouseSink(clickhouse), block_of("t", a=[1, 2])
    for token in ("p/0/1/1", "p/0/1/1", "p/0/1/2", "p/0/1/1"):
        await sink.insert(block, token)
    assert await clickhouse.fetch("SELECT count() FROM t") == [(4,)]  # equal rows under two tokens: both count


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("Int8", b"12.7"),
        ("Int64", b'"text"'),
        ("UInt8", b"-1"),
        ("Decimal(38, 2)", b'"123456789012345678901234567890123456789"'),
        ("UUID", b'"no"'),
        ("DateTime64(6)", b'"yesterday"'),
        ("Array(Int8)", b'"x"'),
        ("Bool", b'"maybe"'),
        ("Enum8('a' = 1)", b'"b"'),
        ("IPv4", b'"1.2.3"'),
        ("Int64", b"{]"),
    ],
)
async def test_rows_that_do_not_fit_are_rejected_and_none_of_the_block_is_kept(
    clickhouse: ClickHouse, kind: str, cell: bytes
) -> None:
    await clickhouse.execute(TABLE.format("t", f"fine Int64, bad {kind}"))
    block = Block("t", ("fine", "bad"), [b"1,2", cell + b"," + cell], 2)
    with pytest.raises(RejectedRowsError, match="inserting 2 rows into t"):
        await ClickHouseSink(clickhouse).insert(block, "a")
    assert await clickhouse.fetch("SELECT count() FROM t") == [(0,)]


async def test_c10_a_refused_cell_names_its_column_and_no_value(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(TABLE.format("t", "fine Int64, `od d)` UUID"))
    with pytest.raises(RejectedRowsError, match=r"376 CANNOT_PARSE_UUID in column od d\)$") as caught:
        await ClickHouseSink(clickhouse).insert(Block("t", ("fine", "od d)"), [b"1", b'"s3cret"'], 1), "a")
    assert "s3cret" not in repr(caught.value)


async def test_a_dropped_column_means_reload_and_retry_and_a_dropped_table_is_fatal(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(TABLE.format("t", "a Int64, b Int64"))
    sink = ClickHouseSink(clickhouse)
    await clickhouse.execute("ALTER TABLE t DROP COLUMN b")
    with pytest.raises(SchemaChangedError):
        await sink.insert(block_of("t", a=[1], b=[2]), "a")
    await clickhouse.execute("DROP TABLE t")
    with pytest.raises(FatalError, match="UNKNOWN_TABLE"):
        await sink.insert(block_of("t", a=[1]), "a")


async def test_rows_of_many_kinds_arrive_in_one_statement_and_the_same_as_by_columns(clickhouse: ClickHouse) -> None:
    kinds = {
        "Nullable(String)": b"null",
        "Array(Nullable(Int64))": b'["1",null]',
        "Map(String, String)": b'{"a":"b"}',
        "Decimal(38, 10)": b'"1234567890123456789.0123456789"',
        "Float64": b'"-9.9541160000000004"',
        "UInt256": b'"115792089237316195423570985008687907853269984665640564039457584007913129639935"',
        "DateTime64(3)": b'"2026-01-01T00:00:00.500Z"',
        "JSON": b'{"a":{"b":1.5},"c":[1,"x",null],"n":18446744073709551615}',
        "Bool": b"true",
        "String": b'"\xff\xfe\\u0000\x80"',
    }
    names = [f"{kind} of `odd\\` name" for kind in kinds]
    defaults = {"d": "concat('of ', s)", "e": "7", "f": "now()"}
    types = {"d": "Nullable(String)", "e": "Int64", "f": "DateTime"}
    listed = ["s String", *(f"{quote_name(name)} {kind}" for name, kind in zip(names, kinds, strict=True))]
    listed += [f"{name} {types[name]} DEFAULT {text}" for name, text in defaults.items()]
    count = 8 * len(HOSTILE)
    repeated = [cell for cell in kinds.values() for _ in range(count)]
    cells = [b",".join(repeated[first : first + count]) for first in range(0, len(repeated), count)]
    there = [
        b",".join(value if row >> bit & 1 else b"null" for row in range(count))
        for bit, value in enumerate((b'"own"', b'"1"', b'"2026-01-01T00:00:00Z"'))
    ]
    texts = b",".join(orjson.dumps(HOSTILE[row // 8]) for row in range(count))
    for table, optional in (("by_rows", tuple(defaults)), ("by_columns", ())):
        await clickhouse.execute(TABLE.format(table, ", ".join(listed)))
        columns = ("s", *names, *(defaults if optional else ()))
        block = Block(table, columns, [texts, *cells, *(there if optional else [])], count, optional=optional)
        await ClickHouseSink(clickhouse).insert(block, "a")
    plain = ", ".join(["s", *map(quote_name, names)])
    same = f"SELECT sum(cityHash64(toString(tuple({plain})))), count() FROM"
    assert await clickhouse.fetch(f"{same} by_rows") == await clickhouse.fetch(f"{same} by_columns")
    found = await clickhouse.fetch(
        "SELECT countIf(d = 'own'), countIf(d = concat('of ', s)), countIf(e = 1), countIf(e = 7),"
        " countIf(f = '2026-01-01 00:00:00'), count(DISTINCT _part) FROM by_rows"
    )
    assert found == [(*(count // 2,) * 5, 1)]
    await ClickHouseSink(clickhouse).insert(
        Block("by_rows", ("s", "d", "e", "f"), [texts, *there], count, optional=tuple(defaults)), "a"
    )
    assert await clickhouse.fetch("SELECT count() FROM by_rows") == [(count,)], "the token is known"


async def test_c10_a_refused_cell_of_rows_of_many_kinds_names_its_column_and_no_value(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(TABLE.format("t", "n Int8, a Int8 DEFAULT 1, b Int8 DEFAULT 1, c Int8 DEFAULT 1"))
    flags = [b",".join(b"1" if row >> bit & 1 else b"null" for row in range(8)) for bit in range(3)]
    block = Block("t", ("n", "a", "b", "c"), [b'1,2,3,4,5,6,7,"s3cret"', *flags], 8, optional=("a", "b", "c"))
    with pytest.raises(RejectedRowsError) as caught:
        await ClickHouseSink(clickhouse).insert(block, "a")
    assert "n" in str(caught.value) and "s3cret" not in str(caught.value)
    assert await clickhouse.fetch("SELECT count() FROM t") == [(0,)]


async def test_an_empty_block_is_no_statement(clickhouse: ClickHouse) -> None:
    await ClickHouseSink(clickhouse).insert(Block("nowhere", (), [], 0), "a")


async def test_dead_letters_fit_their_table_whatever_their_bytes(clickhouse: ClickHouse) -> None:
    for statement in own_statements():
        await clickhouse.execute(statement)
        await clickhouse.execute(statement)  # harmless when repeated
    dead_letters = DeadLetterRows("p", "arn:stream", "shard-1")
    raw = bytes(range(256))
    dead_letters.add(table="orders", reason="not_json", column="", error="it's broken", position="1", raw=raw)
    block = dead_letters.block()
    assert block is not None
    for token in ("a", "b"):  # read again after a crash: the same row
        await ClickHouseSink(clickhouse).insert(block, token)
    rows = await clickhouse.fetch(
        f"SELECT hex(base64Decode(raw)), reason, replayed_at, abs(dateDiff('second', received_at, now())) < 60"
        f" FROM {DEAD_LETTER_TABLE} FINAL"
    )
    assert rows == [(raw.hex().upper(), "not_json", None, 1)]


async def test_c2_an_insert_into_a_frozen_server_may_have_been_applied_and_its_repetition_adds_nothing(
    tmp_path: Path,
) -> None:
    async with LocalClickHouse(tmp_path) as server:
        url = ClickHouseUrl("native", port=server.tcp_port, database=server.database)
        clickhouse = ClickHouse(url, timeout_seconds=0.5)
        await clickhouse.execute(TABLE.format("t", "a Int64"))
        sink, block = ClickHouseSink(clickhouse), block_of("t", a=list(range(1000)))
        await sink.insert(block_of("t", a=[-1]), "before")
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(RetryableError, match="may have been executed"):
            await sink.insert(block, "frozen")
        os.kill(server.pid, signal.SIGCONT)
        for _ in range(3):
            await sink.insert(block, "frozen")
        assert await clickhouse.fetch("SELECT count(), uniqExact(a) FROM t") == [(1001, 1001)]
        server.kill()
        with pytest.raises(RetryableError):
            await sink.insert(block, "after")
        await server.start()
        await sink.insert(block, "frozen")  # tokens survive kill -9
        assert await clickhouse.fetch("SELECT count() FROM t") == [(1001,)]
        await clickhouse.close()


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize("character", ["y", "😀"])
async def test_a_statement_costs_no_more_memory_than_promised(clickhouse: ClickHouse, character: str) -> None:
    await clickhouse.execute(TABLE.format("t", "a String"))
    row = orjson.dumps("x" * 100 + character)
    cells = b",".join([row] * (16 * 2**20 // len(row)))
    rows = cells.count(b",") + 1
    sink = ClickHouseSink(clickhouse)
    await sink.insert(Block("t", ("a",), [row], 1), "warm")
    del row
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    await asyncio.gather(*(sink.insert(Block("t", ("a",), [cells], rows), token) for token in "ab"))
    assert peak_bytes() - before < 2 * INSERT_COPIES * len(cells)

"""The same claims against a real ClickHouse: inserted as cells, read back through the readback expressions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from asynch.connection import Connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data.decode_cases import BLURRED, EXACT, LOOKS_ABSENT, MISFITS
from support.data.decode_items import VERSION, items, wide_table

from dyncdc.decode.decoder import SnapshotDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.sql.readback import quote_identifier
from dyncdc.schema.sql.row_reader import RowRenderer
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.codecs import compile_type, default_takes
from dyncdc.schema.types.dynamodb_values import canonical_item

pytest.importorskip("chdb")

WIDE = wide_table()
PLAN = compile_table(WIDE)
RENDERER = RowRenderer(WIDE)
SETTINGS = {"async_insert": 0, "date_time_input_format": "best_effort"}


@pytest.fixture(scope="module")
def server(server_directory: Path) -> Iterator[LocalClickHouse]:
    found = LocalClickHouse(server_directory / "decode_clickhouse")
    asyncio.run(found.start())
    try:
        asyncio.run(execute(found, create(WIDE)))
        yield found
    finally:
        asyncio.run(found.stop())


def create(spec: TableSpec) -> str:
    columns = [f"{quote_identifier(column.name)} {column.type}" for column in spec.columns]
    columns += [f"{spec.spill_column} String", f"{spec.version_column} Int64", f"{spec.deleted_column} UInt8"]
    return f"CREATE TABLE {spec.destination} ({', '.join(columns)}) ENGINE = MergeTree ORDER BY tuple()"


async def execute(server: LocalClickHouse, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in one connection and return the rows of the last."""
    async with Connection(host="127.0.0.1", port=server.tcp_port, database=server.database) as connection:
        async with connection.cursor() as cursor:
            cursor.set_settings(SETTINGS)  # type: ignore[no-untyped-call]
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall())


def insertion(block: Block) -> str:
    columns = ", ".join(map(quote_identifier, block.columns))
    body = orjson.dumps([orjson.loads(b"[" + cell + b"]") for cell in block.cells]).decode()
    return f"INSERT INTO {block.table} ({columns}) FORMAT JSONCompactColumns {body}"


def stored(server: LocalClickHouse, spec: TableSpec, *found: Any) -> list[tuple[Any, ...]]:
    """Insert items and return their rows: the renderer's expressions, then the spill."""
    plan = PLAN if spec is WIDE else compile_table(spec)
    lines = [json.dumps({"Item": item}).encode() for item in found]
    positions = [Position(str(index)) for index in range(len(lines))]
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), lines, positions, Position("end"), 1, 0.0)
    [decoded] = SnapshotDecoder(plan, VERSION, pipeline="p").decode(chunk)
    assert decoded.dead == {}
    [block] = decoded.blocks
    select = f"SELECT {', '.join(RowRenderer(spec).expressions)}, {spec.spill_column} FROM {spec.destination}"
    return asyncio.run(execute(server, f"TRUNCATE TABLE {spec.destination}", insertion(block), select))


def one_column_each(cases: list[tuple[str, dict[str, Any]]]) -> tuple[TableSpec, dict[str, Any]]:
    """Return a table with a column for each case, and the item that fills them."""
    columns = [ColumnSpec("id", "String", ("id",), ("S",), key=True)]
    item: dict[str, Any] = {"id": {"S": "a"}}
    for index, (kind, value) in enumerate(cases):
        tag: Any = next(iter(value))
        takes = (tag,) if tag in compile_type(kind).encoders else default_takes(kind)
        columns.append(ColumnSpec(f"c{index}", kind, (f"a{index}",), takes))
        item[f"a{index}"] = value
    return TableSpec("cases", "cases", (KeyAttribute("id", "S"),), tuple(columns)), item


@pytest.mark.parametrize("cases", [EXACT, BLURRED, LOOKS_ABSENT, MISFITS])
def test_every_case_is_read_back_exactly_from_clickhouse(server: LocalClickHouse, cases: list[Any]) -> None:
    spec, item = one_column_each(cases)
    asyncio.run(execute(server, "DROP TABLE IF EXISTS cases", create(spec)))
    empty = {"id": {"S": "b"}}
    rows = stored(server, spec, item, empty)
    for each, (*texts, spill) in zip((item, empty), rows, strict=True):
        assert RowRenderer(spec).render(texts, spill).item == canonical_item(each)
    if cases is EXACT:
        assert rows[0][-1] == ""


@pytest.mark.timeout(60)
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(found=st.lists(items(WIDE), min_size=1, max_size=10))
def test_t1_any_item_is_read_back_exactly_from_clickhouse(server: LocalClickHouse, found: list[Any]) -> None:
    rows = stored(server, WIDE, *found)
    assert len(rows) == len(found)
    for item, (*texts, spill) in zip(found, rows, strict=True):
        assert RENDERER.render(texts, spill).item == canonical_item(item)
        assert RENDERER.differences(item, texts, spill) == []

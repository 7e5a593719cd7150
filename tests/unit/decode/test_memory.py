"""What the decoder hands over holds no more memory than it says: the budget counts ``Block.nbytes``, nothing else."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import orjson
import pytest

from dyncdc.decode.compiled.decoder import CompiledStreamDecoder
from dyncdc.decode.decoder import StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.redaction import Redaction
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec

RECORDS = 400
SPEC = TableSpec(
    "orders",
    "orders",
    (KeyAttribute("id", "S"),),
    (
        ColumnSpec("id", "String", ("id",), ("S",), key=True),
        ColumnSpec("city", "Nullable(String)", ("city",), ("S",)),
        ColumnSpec("total", "Nullable(Int64)", ("total",), ("N",)),
    ),
)


def record(number: int) -> bytes:
    image = {"id": {"S": f"order {number}"}, "city": {"S": "Rome"}, "total": {"N": "7"}, "memo": {"S": "no column"}}
    change = {
        "ApproximateCreationDateTime": 1720742302233719 + number,
        "Keys": {"id": image["id"]},
        "NewImage": image,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
    }
    return orjson.dumps({"eventName": "INSERT", "tableName": "orders", "dynamodb": change})


@pytest.mark.parametrize("kind", [StreamDecoder, CompiledStreamDecoder])
@pytest.mark.parametrize("at_once", [RECORDS, 1], ids=["many records a chunk", "one record a chunk"])
def test_blocks_hold_little_more_memory_than_they_count(at_once: int, kind: type[StreamDecoder]) -> None:
    shard = Shard(SourceId("stream@1"), ShardId("shardId-0"))
    decoder = kind({"orders": compile_table(SPEC)}, pipeline="p")
    chunks = []
    for first in range(0, RECORDS, at_once):
        records = [record(number) for number in range(first, first + at_once)]
        positions = [Position(str(number)) for number in range(first, first + at_once)]
        chunks.append(RawChunk(shard, records, positions, HORIZON, sum(map(len, records)), 0.0))
    tracemalloc.start()
    try:
        kept: list[Block] = [block for chunk in chunks for decoded in decoder.decode(chunk) for block in decoded.blocks]
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(block.rows for block in kept) == RECORDS
    objects_bytes = 1200 * len(kept)  # the block itself, its lists, the headers of its cells
    assert held_bytes <= 1.5 * sum(block.nbytes for block in kept) + objects_bytes


LARGE = 40
"""Records with large values: fewer than a sub-batch, so that the cells of all of them are there at the same time."""


def large_record(number: int, **more: Any) -> bytes:
    image = {"id": {"S": f"order {number}"}, "city": {"S": "x" * 10_000}, "memo": {"L": [{"S": "y" * 20}] * 300}}
    change = {
        "ApproximateCreationDateTime": 1720742302233719 + number,
        "Keys": {"id": image["id"]},
        "NewImage": image | more,
        "OldImage": image,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
    }
    return orjson.dumps({"eventName": "MODIFY", "tableName": "orders", "dynamodb": change})


@pytest.mark.parametrize("kind", [StreamDecoder, CompiledStreamDecoder])
@pytest.mark.parametrize(
    ("spec", "more"),
    [
        (SPEC, {}),
        (replace(SPEC, history="orders_history"), {}),
        (replace(SPEC, history="orders_history", redaction=Redaction((("secret",),))), {}),
        (SPEC, {"total": {"N": "none"}}),
    ],
    ids=["rows", "a history", "a history with something left out", "dead letters"],
)
def test_large_cells_on_their_way_into_a_block_hold_no_more_than_themselves(
    spec: TableSpec, more: dict[str, Any], kind: type[StreamDecoder]
) -> None:
    """orjson answers with ten times the memory that its text has: a chunk of those would be beyond the budget."""
    records = [large_record(number, **more) for number in range(LARGE)]
    positions = [Position(str(number)) for number in range(LARGE)]
    chunk_bytes = sum(map(len, records))
    chunk = RawChunk(Shard(SourceId("stream@1"), ShardId("shardId-0")), records, positions, HORIZON, chunk_bytes, 0.0)
    decoder = kind({"orders": compile_table(spec)}, pipeline="p")
    list(decoder.decode(chunk))
    tracemalloc.start()
    try:
        list(decoder.decode(chunk))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 5 * chunk_bytes

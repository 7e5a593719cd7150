"""Sub-batches of one seed, plain but for a few oddities, through compiled and exact decoders: the same blocks."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

from dyncdc.decode.compiled.decoder import CompiledStreamDecoder
from dyncdc.decode.decoder import StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from simulation.process_run import Violation

TABLE = TableSpec(
    "t",
    "t",
    (KeyAttribute("pk", "S"),),
    (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("name", "Nullable(String)", ("name",), ("S",)),
        ColumnSpec("age", "Int8", ("age",), ("N",)),
        ColumnSpec("map", "Nullable(String)", ("map",), ("M",)),
        ColumnSpec("blob", "String", ("blob",), ("B",)),
        ColumnSpec("ratio", "Float64", ("ratio",), ("N",)),
    ),
)

KEEPING = replace(TABLE, history="t_history")

ODD: tuple[tuple[str, Any], ...] = (
    ("name", {"N": "1"}),
    ("name", {"NULL": True}),
    ("age", {"N": "300"}),
    ("age", {"N": "1.0"}),
    ("age", {"N": "0"}),
    ("map", {"M": {"a": {"S": "x", "N": "1"}}}),
    ("map", {"M": {"a": {"SS": ["x"]}}}),
    ("age", {"N": "7.5"}),
    ("map", {"M": {"a": {"S": "\x7f1"}}}),
    ("map", {"M": {"a": {"N": "1.50"}}}),
    ("map", {"M": {"a": {"S": 'said "so"\n'}}}),
    ("blob", {"B": "AAB="}),
    ("ratio", {"N": "-9.954116"}),
    ("ratio", {"N": "0.00005543"}),
    ("ratio", {"N": "0.30000000000000004"}),
    ("ratio", {"N": "0.0074"}),
    ("ratio", {"N": "1.10"}),
    ("other", {"S": "x"}),
    ("pk", {"S": "another"}),
)
"""Attributes, and values for them that not every path takes."""

SERVICE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
CREATED = 1_720_742_302_000_000


def run(seed: int) -> None:
    """Run one seed. Raises Violation."""
    rng = random.Random(f"compiled {seed}")
    records = [_record(rng, number) for number in range(rng.randint(1, 20))]
    positions = [Position(str(number)) for number in range(len(records))]
    chunk = RawChunk(Shard(SourceId("arn@1"), ShardId("s")), records, positions, positions[-1], 1, 0.0)
    plans = {"t": compile_table(rng.choice([TABLE, KEEPING]))}
    (exact,) = StreamDecoder(plans, pipeline="p").decode(chunk)
    try:
        (compiled,) = CompiledStreamDecoder(plans, pipeline="p").decode(chunk)
    except ValueError as error:
        raise Violation(f"seed {seed}: the compiled path fails where the exact one does not: {error}") from error
    if compiled == exact:
        return
    columns = [_differing(one, other) for one, other in zip(exact.blocks, compiled.blocks, strict=False)]
    raise Violation(f"seed {seed}: the compiled path differs from the exact one, in {columns} or in what it counts")


def _record(rng: random.Random, number: int) -> bytes:
    item: dict[str, Any] = {"pk": {"S": f"k{number}"}, "name": {"S": "a"}, "age": {"N": "7"}}
    item["map"] = {"M": {"b": {"N": "1"}, "a": {"S": "x"}}}
    keys = {"pk": item["pk"]}
    if rng.random() < 0.1:
        name, value = rng.choice(ODD)
        item[name] = value
    event = "REMOVE" if rng.random() < 0.1 else "MODIFY"
    unit = {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
    body = {"ApproximateCreationDateTime": CREATED + number, **unit, "Keys": keys, "NewImage": item}
    if rng.random() < 0.7:
        body["OldImage"] = item | {"age": {"N": "6"}}
    record = {"eventName": event, "tableName": "t", "dynamodb": body}
    if rng.random() < 0.7:
        record["eventID"] = rng.choice(["e", "", "é"])
    if rng.random() < 0.2:
        record["userIdentity"] = rng.choice([SERVICE, SERVICE | {"more": "x"}, {"type": "User"}])
    text = json.dumps(record, separators=(",", ":"))
    if rng.random() < 0.5:
        text = text.replace("\x7f", "\\u007f")
    if rng.random() < 0.05:
        text = text.replace('"age":{"N":"7"}', '"age":{"N":"7"},"age":{"N":"8"}')
    if rng.random() < 0.05:
        text = text.replace(f"{CREATED + number}", f"{(CREATED + number) // 1000}").replace("MICRO", "MILLI")
    if rng.random() < 0.05:
        text = text.replace(f"{CREATED + number}", f"{CREATED // 1_000_000}")
    return text.encode()[: rng.choice([9_999] * 30 + [-1])]


def _differing(one: Block, other: Block) -> list[str]:
    cells = zip(one.columns, one.cells, other.cells, strict=False)
    return [name for name, exact, compiled in cells if exact != compiled]

"""Floats and moments of one seed through the exact decoder, and read as servers before 26.1 and 26.7 read them.

A value is in its column as it is, or the spill has it; what the column shows is never another one.
"""

from __future__ import annotations

import datetime
import json
import random
import struct
from typing import Any

import orjson
from support.servers.older_servers import read_float

from dyncdc.decode.decoder import SnapshotDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from simulation.process_run import Violation

VERSION = 1_720_742_302_000_000
PLAN = compile_table(
    TableSpec(
        "t",
        "t",
        (KeyAttribute("pk", "S"),),
        (
            ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
            ColumnSpec("wide", "Float64", ("wide",), ("N",)),
            ColumnSpec("narrow", "Float32", ("narrow",), ("N",)),
            ColumnSpec("at", "DateTime64(3)", ("at",), ("S",)),
        ),
    )
)


def run(seed: int) -> None:
    """Run one seed. Raises Violation."""
    rng = random.Random(f"values {seed}")
    items = [_item(rng, number) for number in range(50)]
    lines = [json.dumps({"Item": item}).encode() for item in items]
    positions = [Position(str(number)) for number in range(len(lines))]
    chunk = RawChunk(Shard(SourceId("arn@1"), ShardId("s")), lines, positions, positions[-1], 1, 0.0)
    [decoded] = SnapshotDecoder(PLAN, VERSION, pipeline="p").decode(chunk)
    [block] = decoded.blocks
    columns = {name: orjson.loads(b"[" + cells + b"]") for name, cells in zip(block.columns, block.cells, strict=True)}
    for number, item in enumerate(items):
        spilled = orjson.loads(columns["_spill"][number] or "{}")
        if "wide" not in spilled and read_float(columns["wide"][number], "Float64") != float(item["wide"]["N"]):
            raise Violation(f"seed {seed}: an older server reads another Float64 than {item['wide']}")
        (narrow,) = struct.unpack("f", struct.pack("f", float(item["narrow"]["N"])))
        if "narrow" not in spilled and read_float(columns["narrow"][number], "Float32") != narrow:
            raise Violation(f"seed {seed}: an older server reads another Float32 than {item['narrow']}")
        before = columns["at"][number] < "1970"
        if before and columns["at"][number][20:23] != "000":
            raise Violation(f"seed {seed}: an older server reads another moment than {item['at']}")
        if before and "at" not in spilled and not item["at"]["S"].endswith(".000Z"):
            raise Violation(f"seed {seed}: no one has the fraction of {item['at']}")


def _item(rng: random.Random, number: int) -> dict[str, Any]:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=rng.randint(-(10**11), 10**11))  # noqa: DTZ001
    return {
        "pk": {"S": str(number)},
        "wide": {"N": f"{rng.randint(-180_000_000, 180_000_000) / 10**6:.6f}"},
        "narrow": {"N": f"{rng.randint(-99999999, 99999999) / 10**6:.6f}"},
        "at": {"S": moment.isoformat(timespec="milliseconds") + "Z"},
    }

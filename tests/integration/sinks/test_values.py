"""Values whose text a ClickHouse may read as another value: written by our cells, read back bit for bit."""

from __future__ import annotations

import math
import random
import struct
from decimal import Decimal

from dyncdc.model.blocks import Block
from dyncdc.schema.types.families.numbers import float32_cell, float64_cell
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink


async def test_floats_of_every_magnitude_are_read_as_they_are(clickhouse: ClickHouse) -> None:
    """On any server: `CH_ENGINE` of the harness runs it on older ones, whose parser is not exact."""
    rng = random.Random(1)
    wide = [float(f"{rng.uniform(-10, 10)!r}e{power}") for power in range(-120, 125) for _ in range(20)]
    wide += [rng.randint(-180_000_000, 180_000_000) / 10**6 for _ in range(3000)]
    narrow = [_float32(rng.getrandbits(32)) for _ in wide]
    await clickhouse.execute("CREATE TABLE f (n UInt32, w Float64, s Float32) ENGINE = MergeTree ORDER BY n")
    cells = [b",".join(b"%d" % number for number in range(len(wide)))]
    cells.append(b",".join(float64_cell(_number(value)) or b"" for value in wide))
    cells.append(b",".join(float32_cell(_number(value)) or b"" for value in narrow))
    await ClickHouseSink(clickhouse).insert(Block("f", ("n", "w", "s"), cells, len(wide)), "a")
    rows = await clickhouse.fetch("SELECT reinterpretAsUInt64(w), reinterpretAsUInt32(s) FROM f ORDER BY n")
    assert rows == [
        (struct.unpack("Q", struct.pack("d", value))[0], struct.unpack("I", struct.pack("f", small))[0])
        for value, small in zip(wide, narrow, strict=True)
    ]


def _number(value: float) -> str:
    return format(Decimal(repr(value)), "f")


def _float32(bits: int) -> float:
    value: float = struct.unpack("f", struct.pack("I", bits))[0]
    return value if math.isfinite(value) and value else 0.5

"""Any bytes whatsoever, through compiled and exact decoders: the same blocks, counts and dead letters.

``DYNCDC_FUZZ_SEEDS=5000`` goes on for longer; ``DYNCDC_FUZZ_FIRST_SEED`` says from where.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.data.damaged_records import ONE, change, line, tables
from support.data.decode_items import VERSION

from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.model.blocks import Decoded
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.inference import infer_columns
from dyncdc.schema.table_spec import TableSpec
from dyncdc.schema.unmapped import UnmappedAttributes

FIRST_SEED = int(os.environ.get("DYNCDC_FUZZ_FIRST_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("DYNCDC_FUZZ_SEEDS", "60")))

BARE = replace(ONE, source_table="bare", destination="bare", columns=ONE.columns[:2])


STREAM = (StreamDecoder, CompiledStreamDecoder)
SNAPSHOT = (SnapshotDecoder, CompiledSnapshotDecoder)


def plans_of(*specs: TableSpec) -> dict[str, TablePlan]:
    return {spec.source_table: compile_table(spec) for spec in specs}


def told(decoder: StreamDecoder | SnapshotDecoder, plans: dict[str, TablePlan], found: RawChunk, noted: bool) -> Any:
    """All that a decoder says about a chunk, new attributes included; which table comes first means nothing."""
    for plan in plans.values():
        plan.unmapped = UnmappedAttributes(nested="flatten", flatten_depth=1, on_news=lambda: None) if noted else None
        if plan.unmapped is not None:
            plan.unmapped.set_columns(plan.spec.columns)
    decoded: list[Decoded] = list(decoder.decode(found))
    for each in decoded:
        each.blocks.sort(key=lambda block: block.table)
    news = [(infer_columns((), each.drain()), each.maps) for plan in plans.values() if (each := plan.unmapped)]
    return decoded, news


def chunk(records: Sequence[bytes], positions: Sequence[str] = ()) -> RawChunk:
    places = [Position(each) for each in positions or map(str, range(len(records)))]
    return RawChunk(Shard(SourceId("s"), ShardId("x")), records, places, Position("end"), 1, 0.0)


@pytest.mark.timeout(0 if len(SEEDS) > 100 else 60)
def test_t14_damaged_change_records_decode_alike_on_both_paths() -> None:
    for seed in SEEDS:
        rng = random.Random(f"changes {seed}")
        specs = tables(rng, *(["one"] if rng.random() < 0.7 else ["one", "é", "kept"]))
        number = rng.choice([40, 260, 260])
        positions = [str(each) for each in range(number)]
        if rng.random() < 0.1:
            positions[rng.randrange(number)] = rng.choice(["", "x", "9" * 63, "1" * 50, "-1", "0" * 70 + "1"])
        found = chunk([change(rng, specs) for _ in range(number)], positions)
        noted = rng.random() < 0.4
        plans = plans_of(*specs)
        exact, compiled = (told(kind(plans, pipeline="p"), plans, found, noted) for kind in STREAM)
        if compiled != exact:  # no assertion: what it would print has megabytes
            pytest.fail(f"the paths differ with seed {seed}")


@pytest.mark.timeout(0 if len(SEEDS) > 100 else 60)
def test_t14_damaged_lines_decode_alike_on_both_paths() -> None:
    for seed in SEEDS:
        rng = random.Random(f"lines {seed}")
        (spec,) = tables(rng, "one")
        plans = plans_of(spec)
        found = chunk([line(rng, spec) for _ in range(rng.choice([20, 260]))])
        noted = rng.random() < 0.4
        exact, compiled = (told(kind(plans["one"], VERSION, pipeline="p"), plans, found, noted) for kind in SNAPSHOT)
        if compiled != exact:  # no assertion: what it would print has megabytes
            pytest.fail(f"the paths differ with seed {seed}")


LONG = 400_000
HUGE: dict[str, str] = {
    "a text": f'{{"S":"{"x" * LONG}"}}',
    "a text of escapes": f'{{"S":"{chr(92) + "u0001"}{(chr(92) + "ud83d" + chr(92) + "ude00") * 30_000}"}}',
    "a text of quotes": f'{{"S":"{(chr(92) + chr(34)) * 200_000}"}}',
    "binary": f'{{"B":"{"AAAA" * 100_000}"}}',
    "a set": json.dumps({"SS": [str(n % 300) for n in range(20_000)]}, separators=(",", ":")),
    "a small set": json.dumps({"SS": [str(n) for n in range(256)]}, separators=(",", ":")),
    "a set that is a little too large": json.dumps({"SS": [str(n) for n in range(257)]}, separators=(",", ":")),
    "a map": json.dumps({"M": {str(n): {"N": str(n)} for n in range(20_000, 0, -1)}}, separators=(",", ":")),
    "a map with a name twice": '{"M":{' + ",".join(f'"{n % 9_999}":{{"N":"1"}}' for n in range(10_000)) + "}}",
    "a list": json.dumps({"L": [{"N": "1.50"}] * 20_000}, separators=(",", ":")),
    "a list too deep": '{"L":[' * 3_000 + '{"S":"x"}' + "]}" * 3_000,
    "a number": f'{{"N":"{"9" * LONG}"}}',
    "a bare number": "9" * 4_000,
    "10,000 attributes": '{"NULL":true},' + ",".join(f'"a{n}":{{"N":"{n}"}}' for n in range(10_000, 0, -1)),
    "10,000 attributes, one of them twice": ",".join(f'{{"N":"1"}},"a{n % 9_999}":{{"N":"2"}}' for n in range(10_000)),
    "a long name": f'{{"NULL":true}},"{"x" * LONG}":{{"S":"y"}}',
    **{f"nesting of {n}": '{"M":{"a":' * n + '{"N":"1"}' + "}}" * n for n in (18, 19, 20, 21, 38, 39, 40, 41, 64, 65)},
}


@pytest.mark.parametrize("name", ["c0", "c2", "c3", "c4", "c5", "t0", "r0", "p", "other"])
def test_t13_huge_values_decode_alike_on_both_paths(name: str) -> None:
    for spec in (ONE, BARE):
        found = []
        for value in HUGE.values():
            image = f'{{"pk":{{"S":"k"}},"{name}":{value}}}'
            body = f'"ApproximateCreationDateTime":{VERSION},"Keys":{{"pk":{{"S":"k"}}}},"NewImage":{image}'
            change = f'{{"eventName":"INSERT","tableName":"{spec.source_table}","dynamodb":{{{body}}}}}'
            found.append(change.encode())
        plans = plans_of(spec)
        exact, compiled = (told(kind(plans, pipeline="p"), plans, chunk(found), False) for kind in STREAM)
        if compiled != exact:
            pytest.fail(f"the paths differ for {spec.source_table}")

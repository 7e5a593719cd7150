"""Change records of one seed through the real decoders, in any order and repeated: last state, dead letters, no clock.

Where the simulation checks when things are read and written, this checks what they become. No loop, no faults.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from simulation.process_run import Violation

BEGIN = 1_720_742_302_000_000
"""Microseconds since the epoch."""

FIRST_SEQUENCE = 2**170
SNAPSHOT_VERSION = BEGIN - 300_000_000
IN_SECONDS = json.dumps(
    {
        "eventName": "REMOVE",
        "tableName": "narrow",
        "dynamodb": {"ApproximateCreationDateTime": BEGIN // 1_000_000, "Keys": {"pk": {"S": "of 1970"}}},
    }
).encode()
GARBAGE = (b"\xff\xfe", b"{", b"[]", b'{"tableName":"wide","dynamodb":7}', IN_SECONDS)
UNITS = {"MICROSECOND": 1, "MILLISECOND": 1000}

Record = tuple[int, bytes]
"""Sequence number and data."""


def run(seed: int) -> None:
    """Run one seed. Raises Violation."""
    rng = random.Random(f"records {seed}")
    plans = {name: _plan(name, wide=name == "wide") for name in ("narrow", "wide")}
    items: dict[tuple[str, str], str | None] = {}
    state: dict[tuple[str, str], tuple[int, str | None]] = {}
    for name, plan in plans.items():
        _apply(state, name, _load(plan, rng, items))
    records = _history(rng, items)
    garbage = [(FIRST_SEQUENCE + 10_000 + number, data) for number, data in enumerate(rng.sample(GARBAGE, 3))]
    dead_letters: set[Any] = set()
    decoder = StreamDecoder(plans, pipeline="p")
    replay = [*records[: len(records) // 2], *garbage]  # from an old checkpoint
    for delivered in (*_deliveries(rng, records, garbage), replay):
        for block in _decode(decoder, delivered):
            if block.table == DEAD_LETTER_TABLE:
                dead_letters.update(row["id"] for row in _rows(block))
            else:
                _apply(state, block.table, [block])
    found = {key: status for key, (_, status) in state.items() if status is not None}
    wanted = {key: status for key, status in items.items() if status is not None}
    wrong = {key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)}
    if wrong:
        key = min(wrong)
        raise Violation(f"seed {seed}: {key} is {found.get(key)}, should be {wanted.get(key)}; {len(wrong)} in all")
    if len(dead_letters) != len(garbage):
        raise Violation(f"seed {seed}: {len(dead_letters)} dead letters for {len(garbage)} records that are no change")


def _plan(name: str, *, wide: bool) -> TablePlan:
    columns = (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("status", "Nullable(String)", ("status",), ("S",)),
    )
    version_type = "UInt256" if wide else "Int64"
    return compile_table(TableSpec(name, name, (KeyAttribute("pk", "S"),), columns, version_type=version_type))


def _load(plan: TablePlan, rng: random.Random, items: dict[tuple[str, str], str | None]) -> Iterator[Block]:
    """Some items that are there before, by a snapshot."""
    keys = [f"k{number}" for number in range(12) if rng.random() < 0.5]
    items.update({(plan.source_table, key): "loaded" for key in keys})
    lines = [json.dumps({"Item": {"pk": {"S": key}, "status": {"S": "loaded"}}}).encode() for key in keys]
    return _decode(SnapshotDecoder(plan, SNAPSHOT_VERSION, pipeline="p"), list(enumerate(lines)))


def _history(rng: random.Random, items: dict[tuple[str, str], str | None]) -> list[Record]:
    """Changes in the order in which they happen; the table ``wide`` has some of one key in one millisecond."""
    records = []
    at = BEGIN
    for number in range(80):
        table = rng.choice(("narrow", "wide"))
        key = f"k{int(rng.expovariate(0.3)) % 12}"
        ties = table == "wide" and rng.random() < 0.4
        at += rng.randint(0, 100) if ties else rng.randint(1_001, 5_000_000)
        unit = "MILLISECOND" if table == "wide" else rng.choice(sorted(UNITS))
        status = None if rng.random() < 0.25 else f"s{number}"
        items[table, key] = status
        records.append((FIRST_SEQUENCE + number, _record(table, key, status, at, unit, rng)))
    return records


def _record(table: str, key: str, status: str | None, at: int, unit: str, rng: random.Random) -> bytes:
    image = {"pk": {"S": key}, "status": {"S": status}}
    body: dict[str, Any] = {"ApproximateCreationDateTime": at // UNITS[unit], "Keys": {"pk": {"S": key}}}
    if unit == "MICROSECOND" or rng.random() < 0.7:  # old records lack it: milliseconds
        body["ApproximateCreationDateTimePrecision"] = unit
    if status is not None:
        body["NewImage"] = image
    event = "REMOVE" if status is None else rng.choice(("INSERT", "MODIFY"))
    return json.dumps({"eventName": event, "tableName": table, "eventID": str(at), "dynamodb": body}).encode()


def _deliveries(rng: random.Random, records: Sequence[Record], garbage: Sequence[Record]) -> Iterator[list[Record]]:
    """The records in some order, some more than once, in parts."""
    delivered = [*records, *garbage, *rng.sample(list(records), 10)]
    rng.shuffle(delivered)
    while delivered:
        count = rng.randint(1, 30)
        yield delivered[:count]
        del delivered[:count]


def _decode(decoder: StreamDecoder | SnapshotDecoder, records: Sequence[Record]) -> Iterator[Block]:
    raw, positions = [data for _, data in records], [Position(str(sequence)) for sequence, _ in records]
    if not raw:
        return
    chunk = RawChunk(Shard(SourceId("arn@1"), ShardId("s")), raw, positions, positions[-1], sum(map(len, raw)), 0.0)
    for decoded in decoder.decode(chunk):
        yield from decoded.blocks


def _rows(block: Block) -> Iterator[dict[str, Any]]:
    columns = [orjson.loads(b"[" + cells + b"]") for cells in block.cells]
    return (dict(zip(block.columns, values, strict=True)) for values in zip(*columns, strict=True))


def _apply(
    state: dict[tuple[str, str], tuple[int, str | None]], table: str, blocks: Sequence[Block] | Iterator[Block]
) -> None:
    """As a ReplacingMergeTree does it: of equal versions the row inserted last wins."""
    for block in blocks:
        for row in _rows(block):
            key, version = (table, row["pk"]), int(row["_version"])
            if key not in state or version >= state[key][0]:
                state[key] = version, None if row["_deleted"] else row["status"]

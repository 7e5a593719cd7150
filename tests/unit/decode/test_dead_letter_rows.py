"""What a decoder says of the records that become dead letters, and of where each row was read."""

from __future__ import annotations

import json

import orjson

from dyncdc.decode.decoder import SUB_BATCH_ROWS, SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import DeadLetter
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec

USERS = compile_table(
    TableSpec(
        "users",
        "people",
        (KeyAttribute("id", "S"),),
        (
            ColumnSpec("id", "String", ("id",), ("S",), key=True),
            ColumnSpec("age", "Int8", ("age",), ("N",)),
        ),
        spill_column="",
    )
)


def item(age: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": "a"}, "age": {"N": age}}


def change(age: str, table: str = "users") -> bytes:
    image = item(age)
    body = {"ApproximateCreationDateTime": 1_720_742_302_233, "Keys": {"id": image["id"]}, "NewImage": image}
    return json.dumps({"eventName": "INSERT", "tableName": table, "dynamodb": body}).encode()


def chunk(*records: bytes) -> RawChunk:
    positions = [Position(str(number)) for number in range(1, len(records) + 1)]
    return RawChunk(Shard(SourceId("s@1"), ShardId("shard")), records, positions, positions[-1], 1, 0.0)


def test_records_of_other_tables_are_no_part_of_what_is_judged() -> None:
    records = [change("1"), change("1", "stranger"), change("300"), b'{"tableName":"stranger"}', b"junk", change("2")]
    [decoded] = StreamDecoder({"users": USERS}, pipeline="p").decode(chunk(*records))
    assert decoded.judged == 4
    assert decoded.dead_letters == [
        DeadLetter(1, Position("3"), "users", "misfit", "age"),
        DeadLetter(2, Position("5"), "", "not_json"),
    ]


def test_every_row_keeps_the_position_of_its_own_record_and_letters_have_none() -> None:
    [decoded] = StreamDecoder({"users": USERS}, pipeline="p").decode(chunk(change("1"), change("300"), change("2")))
    rows, dead_letters = decoded.blocks
    assert orjson.loads(b"[" + rows.positions + b"]") == ["1", "3"]
    assert dead_letters.positions == b""


def test_ordinals_of_a_snapshot_count_within_each_sub_batch() -> None:
    lines = [json.dumps({"Item": item("1")}).encode()] * SUB_BATCH_ROWS + [b"{}", b"{"]
    first, second = SnapshotDecoder(USERS, 5, pipeline="p").decode(chunk(*lines))
    assert (first.judged, first.dead_letters, second.judged) == (SUB_BATCH_ROWS, [], 2)
    assert [(dead_letter.ordinal, dead_letter.position) for dead_letter in second.dead_letters] == [
        (0, "251"),
        (1, "252"),
    ]
    assert first.blocks[0].positions.startswith(b'"1","2",')

"""Change records of a stream and lines of an export: what rows, tombstones and dead letters they become."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest

from dyncdc.decode.dead_letters.rows import DEAD_LETTER_COLUMNS, dead_letter_id
from dyncdc.decode.decoder import SUB_BATCH_ROWS, SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec

T0 = 1_720_742_302_233_719


def column(name: str, kind: str, *takes: Any, key: bool = False) -> ColumnSpec:
    return ColumnSpec(name, kind, (name,), takes, key=key)


ORDERS = TableSpec(
    "orders",
    "orders_ch",
    (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")),
    (
        column("pk", "String", "S", key=True),
        column("sk", "Int64", "N", key=True),
        column("status", "Nullable(String)", "S"),
        column("age", "Nullable(Int8)", "N"),
        column("tags", "Array(String)", "SS"),
    ),
)

GUIDE = TableSpec(
    "people",
    "people",
    (KeyAttribute("id", "S"),),
    (column("id", "String", "S", key=True), column("first_name", "String", "S"), column("age", "Int8", "N")),
    version_column="version",
    deleted_column="",
    spill_column="",
    deletes="ignore",
)


def record(
    event: str = "INSERT", table: str = "orders", time: Any = T0, unit: Any = "MICROSECOND", **attributes: Any
) -> dict[str, Any]:
    item = {"pk": {"S": "a"}, "sk": {"N": "1"}} | attributes if table == "orders" else attributes
    keys = {name: item[name] for name in ("pk", "sk", "id") if name in item}
    body = {"ApproximateCreationDateTime": time, "Keys": keys, "SizeBytes": 1}
    if unit is not None:
        body["ApproximateCreationDateTimePrecision"] = unit
    body["OldImage" if event == "REMOVE" else "NewImage"] = item
    return {
        "awsRegion": "us-east-1",
        "eventID": "e",
        "eventName": event,
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def chunk(*records: Any) -> RawChunk:
    raw = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in records]
    positions = [Position(str(10**55 + index)) for index in range(len(raw))]
    shard = Shard(SourceId("arn@1"), ShardId("shardId-0"))
    return RawChunk(shard, raw, positions, positions[-1], sum(map(len, raw)), 0.0)


def decode(*records: Any, spec: TableSpec = ORDERS) -> Decoded:
    decoder = StreamDecoder({spec.source_table: compile_table(spec)}, pipeline="p")
    [decoded] = decoder.decode(chunk(*records))
    return decoded


def rows(block: Block) -> list[dict[str, Any]]:
    columns = [orjson.loads(b"[" + cells + b"]") for cells in block.cells]
    assert all(len(cells) == block.rows for cells in columns)
    return [dict(zip(block.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def row(*records: Any, spec: TableSpec = ORDERS) -> dict[str, Any]:
    decoded = decode(*records, spec=spec)
    assert decoded.dead == {}
    [block] = decoded.blocks
    [found] = rows(block)
    return found


def dead_letter(*records: Any, spec: TableSpec = ORDERS) -> dict[str, Any]:
    decoded = decode(*records, spec=spec)
    [block] = decoded.blocks
    assert block.table == "dyncdc_dead_letters"
    [found] = rows(block)
    assert decoded.dead == {(found["table"], found["reason"]): 1}
    return found


def test_insert_becomes_a_row() -> None:
    found = row(record(status={"S": "new"}, age={"N": "7"}, tags={"SS": ["b", "a"]}))
    assert found == {
        "pk": "a", "sk": "1", "status": "new", "age": "7", "tags": ["a", "b"],
        "_spill": "", "_version": T0, "_deleted": 0,
    }  # fmt: skip


def test_remove_becomes_a_tombstone_with_defaults() -> None:
    found = row(record("REMOVE", status={"S": "new"}))
    assert found == {
        "pk": "a", "sk": "1", "status": None, "age": None, "tags": [], "_spill": "", "_version": T0, "_deleted": 1,
    }  # fmt: skip


def test_remove_is_dropped_where_deletes_are_ignored() -> None:
    decoded = decode(record("REMOVE", "people", id={"S": "a"}), spec=GUIDE)
    assert (decoded.blocks, decoded.records) == ([], {"people": 1})


def test_t2_a_number_too_large_for_its_column_goes_to_the_spill() -> None:
    found = row(record(age={"N": "300"}))
    assert (found["age"], orjson.loads(found["_spill"])) == (None, {"age": {"N": "300"}})


def test_t2_a_number_too_large_is_a_dead_letter_where_there_is_no_spill() -> None:
    bad = record("INSERT", "people", id={"S": "a"}, first_name={"S": "Al"}, age={"N": "300"})
    found = dead_letter(bad, spec=GUIDE)
    assert (found["reason"], found["column"], found["table"]) == ("misfit", "age", "people")
    assert "300" not in found["error"]
    assert orjson.loads(base64.b64decode(found["raw"])) == bad


def test_the_guides_table_takes_what_fits_and_counts_the_rest() -> None:
    decoded = decode(record("INSERT", "people", id={"S": "a"}, age={"N": "44"}, x={"S": "y"}), spec=GUIDE)
    assert rows(decoded.blocks[0]) == [{"id": "a", "first_name": "", "age": "44", "version": T0}]
    assert decoded.outside == {"people": 1}


@pytest.mark.parametrize(
    ("time", "unit"),
    [(T0, "MICROSECOND"), (T0, None), (T0 // 1000, "MILLISECOND"), (T0 // 1000, None)],
)
def test_o4_the_version_is_always_microseconds(time: int, unit: str | None) -> None:
    assert row(record(time=time, unit=unit))["_version"] // 1000 == T0 // 1000


@pytest.mark.parametrize("time", [T0, T0 // 1000])
def test_o4_a_precision_that_is_null_is_one_that_is_absent(time: int) -> None:
    null = record(time=time, unit=None)
    null["dynamodb"]["ApproximateCreationDateTimePrecision"] = None
    assert row(null)["_version"] // 1000 == T0 // 1000


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (0, "MICROSECOND"),
        (-1, "MICROSECOND"),
        (str(T0), "MICROSECOND"),
        (1.5, "MICROSECOND"),
        (True, "MICROSECOND"),
        (None, "MICROSECOND"),
        (T0, "MILLISECOND"),
        (10**18, None),
        (1_796_040_510, "MILLISECOND"),  # in seconds
        (1_796_040_510, "MICROSECOND"),
        (1_796_040_510, None),
        (T0 // 1000, "MICROSECOND"),
        (1_325_375_999_999, "MILLISECOND"),
        (4_102_444_800_000_000, "MICROSECOND"),
        (T0, "NANOSECOND"),
        (T0, 5),
    ],
)
def test_o11_an_odd_time_is_a_dead_letter(time: Any, unit: Any) -> None:
    assert dead_letter(record(time=time, unit=unit))["reason"] == "bad_version"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"\xf3\x89\x9a\xc2aggregated", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"NaN", "not_json"),
        (orjson.dumps(record())[:-9], "not_json"),
        (orjson.dumps(record(status={"S": "x"})).replace(b'"x"', b'"\xff"'), "not_json"),
        (orjson.dumps(record(status={"S": "x"})).replace(b'"x"', b'"\\ud800"'), "not_json"),
        (base64.b64encode(orjson.dumps(record())), "not_json"),
        (b"null", "bad_envelope"),
        (b"[]", "bad_envelope"),
        (b"{}", "bad_envelope"),
        (b'{"a":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_t14_bytes_that_are_no_change_record_are_a_dead_letter(raw: bytes, reason: str) -> None:
    found = dead_letter(raw)
    assert (found["reason"], base64.b64decode(found["raw"])) == (reason, raw)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in record().items() if key != name}


def body(**fields: Any) -> dict[str, Any]:
    changed = record()
    changed["dynamodb"] = {key: value for key, value in (changed["dynamodb"] | fields).items() if value != "absent"}
    return changed


@pytest.mark.parametrize(
    "bad",
    [
        without("eventName"),
        without("dynamodb"),
        without("tableName"),
        record() | {"eventName": "TRUNCATE"},
        record() | {"tableName": 5},
        record() | {"tableName": ""},
        body(NewImage="absent"),
        body(NewImage=None),
        body(NewImage=[]),
        body(Keys="absent"),
        body(Keys="secret"),
        body(NewImage={"pk": {"S": "other"}, "sk": {"N": "1"}}),
        body(NewImage={"pk": {"S": "a"}}),
    ],
)
def test_t14_a_broken_envelope_is_a_dead_letter(bad: dict[str, Any]) -> None:
    found = dead_letter(bad)
    assert found["reason"] == "bad_envelope"
    assert "TRUNCATE" not in found["error"] and "secret" not in found["error"]


@pytest.mark.parametrize(
    "key",
    [{"pk": {"N": "5"}}, {"sk": {"N": "1.5"}}, {"sk": {"N": "9223372036854775808"}}],
)
def test_a_key_that_does_not_fit_is_a_dead_letter(key: Any) -> None:
    found = dead_letter(record(**key))
    assert (found["reason"], found["column"]) == ("key_does_not_fit", next(iter(key)))


def test_o13_a_key_of_other_attributes_is_a_dead_letter() -> None:
    assert dead_letter(body(Keys={"pk": {"S": "a"}}))["reason"] == "key_does_not_fit"
    assert (
        dead_letter(record("REMOVE") | {"dynamodb": body()["dynamodb"] | {"Keys": {}}})["reason"] == "key_does_not_fit"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "bad_value"),
        ({"S": "a", "N": "1"}, "bad_value"),
        ({"X": "a"}, "bad_value"),
        ("a", "bad_value"),
        ({"S": 5}, "bad_value"),
        ({"N": 5}, "bad_value"),
        ({"N": "1e126"}, "bad_value"),
        ({"N": "1" * 39}, "bad_value"),
        ({"N": "NaN"}, "bad_value"),
        ({"N": "1" * 100_000}, "bad_value"),
        ({"NULL": False}, "bad_value"),
        ({"B": "%%"}, "bad_value"),
        ({"B": "é"}, "bad_value"),
        ({"SS": "a"}, "bad_value"),
        ({"M": []}, "bad_value"),
    ],
)
@pytest.mark.parametrize("name", ["status", "unmapped"])
def test_what_is_no_dynamodb_value_is_a_dead_letter(name: str, value: Any, reason: str) -> None:
    assert dead_letter(record(**{name: value}))["reason"] == reason


def test_t13_nesting_beyond_the_limit_is_a_dead_letter() -> None:
    value: Any = {"S": "x"}
    for _ in range(32):
        value = {"L": [value]}
    assert orjson.loads(row(record(deep=value))["_spill"]) == {"deep": value}
    for _ in range(200):
        value = {"L": [value]}
    assert dead_letter(record(deep=value))["reason"] == "too_deep"


def test_t13_a_very_large_item_is_a_row() -> None:
    attributes: dict[str, Any] = {f"a{index}": {"S": "x" * 60} for index in range(10_000)}
    assert orjson.loads(row(record(**attributes))["_spill"]) == attributes


def test_t3_absent_null_and_empty_values_stay_distinguishable() -> None:
    empty: list[Any] = [{"NULL": True}, {"S": ""}, {"L": []}, {"M": {}}]
    spills = [orjson.loads(row(record(tags=value, status=value))["_spill"]) for value in empty]
    assert spills == [
        {"tags": {"NULL": True}, "status": {"NULL": True}},
        {"tags": {"S": ""}},
        {"tags": {"L": []}, "status": {"L": []}},
        {"tags": {"M": {}}, "status": {"M": {}}},
    ]
    assert row(record())["_spill"] == ""


def test_o12_tables_of_one_stream_are_routed_and_unknown_ones_counted() -> None:
    plans = {spec.source_table: compile_table(spec) for spec in (ORDERS, GUIDE)}
    decoder = StreamDecoder(plans, pipeline="p")
    broken = {"tableName": "unknown", "dynamodb": 5}
    records = [record(), record(table="people", id={"S": "x"}), record(table="unknown"), broken, record()]
    [decoded] = decoder.decode(chunk(*records))
    assert decoded.records == {"orders": 2, "people": 1, "unknown": 2}
    assert {block.table: block.rows for block in decoded.blocks} == {"orders_ch": 2, "people": 1}
    assert {block.table: block.created for block in decoded.blocks} == {"orders_ch": T0 / 1e6, "people": T0 / 1e6}
    assert set(decoder.tables) == {"orders_ch", "people", "dyncdc_dead_letters"}


def test_c10_one_bad_record_leaves_the_others_alone() -> None:
    decoded = decode(record(), b"junk", record())
    assert [(block.table, block.rows) for block in decoded.blocks] == [("orders_ch", 2), ("dyncdc_dead_letters", 1)]
    assert decoded.records == {"orders": 2, "": 1}


def test_a_dead_letter_says_where_it_was_read() -> None:
    found = dead_letter(record(sk={"N": "0.5"}))
    position = str(10**55)
    assert tuple(found) == DEAD_LETTER_COLUMNS
    assert found["id"] == dead_letter_id("arn@1", "shardId-0", position, "orders")
    assert [found[name] for name in ("pipeline", "source", "shard", "position")] == [
        "p",
        "arn@1",
        "shardId-0",
        position,
    ]


def test_chunks_are_decoded_in_sub_batches_in_order() -> None:
    records = [record(sk={"N": str(index)}) for index in range(2 * SUB_BATCH_ROWS + 1)]
    found = list(StreamDecoder({"orders": compile_table(ORDERS)}, pipeline="p").decode(chunk(*records)))
    assert [decoded.blocks[0].rows for decoded in found] == [SUB_BATCH_ROWS, SUB_BATCH_ROWS, 1]
    assert [int(each["sk"]) for decoded in found for each in rows(decoded.blocks[0])] == list(range(len(records)))


def test_t7_keys_of_a_block_are_never_equal_for_different_keys() -> None:
    keys = (KeyAttribute("pk", "S"), KeyAttribute("sk", "S"))
    spec = TableSpec("t", "t", keys, tuple(column(name, "String", "S", key=True) for name in ("pk", "sk")))
    decoder = SnapshotDecoder(compile_table(spec), T0, pipeline="p")
    pairs = [("a|b", "c"), ("a", "b|c"), ('a","b', "c"), ("a", 'b","c'), ("a,b", "c"), ("a", "b,c")]
    lines = [{"Item": {"pk": {"S": one}, "sk": {"S": two}}} for one, two in pairs]
    [decoded] = decoder.decode(chunk(*lines))
    assert len(set(decoded.blocks[0].keys)) == len(pairs)


def test_t15_snapshot_and_stream_make_the_same_row() -> None:
    item = {
        "pk": {"S": "a"},
        "sk": {"N": "1"},
        "tags": {"SS": ["y", "x"]},
        "m": {"M": {"b": {"N": "1"}, "a": {"N": "2"}}},
    }
    other = dict(reversed(item.items())) | {
        "m": {"M": {"a": {"N": "2.0"}, "b": {"N": "1E0"}}},
        "tags": {"SS": ["x", "y"]},
    }
    [streamed] = decode(body(NewImage=item)).blocks
    [decoded] = SnapshotDecoder(compile_table(ORDERS), T0, pipeline="p").decode(chunk({"Item": other}))
    [loaded] = decoded.blocks
    assert (streamed.cells, streamed.keys, streamed.versions) == (loaded.cells, loaded.keys, loaded.versions)


@pytest.mark.parametrize("line", [b"{}", b"5", b'{"Item":[]}', b'{"Item":{}}', b"x", b'{"Item":{"pk":{"S":"a"}}}'])
def test_a_broken_line_of_an_export_is_a_dead_letter(line: bytes) -> None:
    [decoded] = SnapshotDecoder(compile_table(ORDERS), T0, pipeline="p").decode(chunk(line))
    assert [block.table for block in decoded.blocks] == ["dyncdc_dead_letters"]
    assert sum(decoded.dead.values()) == 1


WIDE = TableSpec("orders", "o", ORDERS.keys, ORDERS.columns[:2], version_type="UInt256")


def test_o3_a_wide_version_orders_ties_by_sequence_number() -> None:
    decoder = StreamDecoder({"orders": compile_table(WIDE)}, pipeline="p")
    [decoded] = decoder.decode(chunk(record(), record("REMOVE"), record()))
    [block] = decoded.blocks
    assert block.versions == [T0 << 192 | 10**55 + index for index in range(3)]
    assert [each["_version"] for each in rows(block)] == [str(version) for version in block.versions]


def test_o3_a_snapshots_wide_version_is_below_that_of_any_event() -> None:
    [decoded] = SnapshotDecoder(compile_table(WIDE), T0, pipeline="p").decode(
        chunk({"Item": {"pk": {"S": "a"}, "sk": {"N": "1"}}})
    )
    assert decoded.blocks[0].versions == [T0 << 192]


@pytest.mark.parametrize("position", ["abc", "-5", "1" * 64, str(2**192), "٣"])
def test_a_wide_version_needs_a_sequence_number(position: str) -> None:
    one = chunk(record())
    odd = RawChunk(one.shard, one.records, [Position(position)], one.end, 1, 0.0)
    [decoded] = StreamDecoder({"orders": compile_table(WIDE)}, pipeline="p").decode(odd)
    assert decoded.dead == {("orders", "bad_version"): 1}

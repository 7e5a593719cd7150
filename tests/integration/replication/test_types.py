"""Types, keys and schemas: a value arrives exactly or in the spill, and two keys are never one.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from support.data.load import COLUMNS as LOAD_COLUMNS
from support.data.load import make_item
from support.stage.rows import decode, spec_of
from support.stage.stage import Stage, change, now

from dyncdc.decode.decoder import StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import ConfigError

TINY, HUGE = "1E-130", "9." + "9" * 37 + "E+125"
NUMBERS = ("12345678901234567890123456789012345678", TINY, HUGE, "-0", "0.1", "0.30000000000000004", "1E2", "-12.70")
LONG = ("12345678901234567890", "12345678901234567891")


def spilled(stage: Stage, table: str = "orders") -> dict[str, dict[str, Any]]:
    """The spill of every item, by its first key column ``id``."""
    rows = stage.clickhouse.rows(f"SELECT id, _spill FROM {table} FINAL WHERE _deleted = 0")
    return {str(key): json.loads(str(spill) or "{}") for key, spill in rows}


@pytest.mark.parametrize("kind", ["String", "Decimal(38, 0)", "Int128", "UInt64"])
def test_t1_keys_beyond_the_digits_of_a_float_are_two_rows(stage: Stage, kind: str) -> None:
    """Catches: numbers read as floats, under which these two are one."""
    columns = {"id": kind, "value": "Nullable(String)"}
    table = stage.table(keys={"id": "N"}, columns=columns)
    stage.put(*(change(table, "INSERT", now(), {"id": {"N": number}, "value": {"S": number}}) for number in LONG))
    stage.put(change(table, "REMOVE", now(), {"id": {"N": "5"}}))
    stage.once()
    assert stage.rows(columns="toString(id), value") == [[number, number] for number in LONG]


def test_t1_numbers_come_back_to_the_last_digit_or_go_to_the_spill(stage: Stage) -> None:
    """Catches: floats on the way; Decimal columns that turn 1E-130 into 0 and 9.99E+125 into NULL (measured)."""
    columns = [
        {"attribute": "id", "type": "String"},
        {"attribute": "text", "type": "Nullable(String)", "from": "N"},
        {"attribute": "decimal", "type": "Nullable(Decimal(38, 10))"},
        {"attribute": "wide", "type": "Nullable(Decimal(76, 38))"},
    ]
    table = stage.table(columns=columns)
    items = [
        {"id": {"S": number}, "text": {"N": number}, "decimal": {"N": number}, "wide": {"N": number}}
        for number in NUMBERS
    ]
    stage.put(*(change(table, "INSERT", now(), item) for item in items))
    stage.once()
    rows = {str(row[0]): row[1:] for row in stage.rows(columns="id, text, toString(decimal), toString(wide)")}
    spills = spilled(stage)
    for number in NUMBERS:
        text, *decimals = rows[number]
        assert Decimal(str(text)) == Decimal(number)
        for name, shown in zip(("decimal", "wide"), decimals, strict=True):
            if shown is None:
                assert Decimal(spills[number][name]["N"]) == Decimal(number)
            else:
                assert Decimal(str(shown)) == Decimal(number)
                assert name not in spills[number] or number == "-0"
    assert rows["0.1"][1] == "0.1"
    assert rows[TINY][1:] == rows[HUGE][1:] == [None, None]


def test_t2_a_number_beyond_its_column_is_never_wrapped(stage: Stage) -> None:
    """Catches: values handed to the server unchecked: 300 becomes 44 in an Int8 (measured)."""
    beyond = {
        "Int8": ("300", "-129", "12.7"),
        "UInt8": ("256", "-1", "1E-1"),
        "Int64": ("9223372036854775808", "-9223372036854775809", "1E19"),
        "UInt64": ("18446744073709551616", "-1", "0.5"),
        "Int256": (HUGE, "-" + HUGE, TINY),
        "Decimal(5, 2)": ("1000", "0.001", "-1000.01"),
    }
    columns: dict[str, str] = {"id": "String"}
    items: list[dict[str, Any]] = [{"id": {"S": f"{number}"}} for number in range(3)]
    for place, (kind, numbers) in enumerate(beyond.items()):
        columns[f"n{place}"] = f"Nullable({kind})"
        for item, number in zip(items, numbers, strict=True):
            item[f"n{place}"] = {"N": number}
    table = stage.table(columns=columns)
    stage.put(*(change(table, "INSERT", now(), item) for item in items))
    stage.once()
    assert stage.rows() == [[f"{number}", *[None] * len(beyond)] for number in range(3)]
    for item in items:
        kept = spilled(stage)[item["id"]["S"]]
        assert {name: Decimal(value["N"]) for name, value in kept.items()} == {
            name: Decimal(value["N"]) for name, value in item.items() if name != "id"
        }


def test_t2_without_a_spill_a_number_beyond_its_column_is_a_dead_letter(stage: Stage) -> None:
    """Catches: a table without a spill column for which 300 is good enough as 44, or as NULL."""
    metadata = {"spill": ""}
    table = stage.table(columns={"id": "String", "age": "Int8"}, metadata=metadata)
    ages = ("7", "300", "-128", "12.7")
    stage.put(*(change(table, "INSERT", now(), {"id": {"S": age}, "age": {"N": age}}) for age in ages))
    stage.once()
    assert stage.rows() == [["-128", -128], ["7", 7]]
    assert [(dead_letter["reason"], dead_letter["column"]) for dead_letter in stage.dead_letters()] == [
        ("misfit", "age")
    ] * 2


NOTHINGS: dict[str, dict[str, Any]] = {
    "absent": {},
    "null": {"v": {"NULL": True}},
    "text": {"v": {"S": ""}},
    "list": {"v": {"L": []}},
    "map": {"v": {"M": {}}},
}


@pytest.mark.parametrize(
    ("kind", "takes"),
    [("Nullable(String)", "S"), ("String", "S"), ("Array(String)", "L"), ("String", "M"), ("Nullable(Int64)", "N")],
)
def test_t3_five_kinds_of_nothing_stay_five(stage: Stage, kind: str, takes: str) -> None:
    """Catches: defaults for what is absent, NULL for all of them, the column alone as the whole truth."""
    columns = [{"attribute": "id", "type": "String"}, {"attribute": "v", "type": kind, "from": takes}]
    table = stage.table(columns=columns)
    stage.put(*(change(table, "INSERT", now(), {"id": {"S": name}} | value) for name, value in NOTHINGS.items()))
    stage.once()
    rows = stage.clickhouse.rows("SELECT toString(v), isNull(v), _spill FROM orders FINAL")
    assert len({tuple(row) for row in rows}) == len(NOTHINGS)
    for name, value in NOTHINGS.items():
        assert spilled(stage)[name] in (value, {})


def test_t4_a_set_is_the_same_row_in_any_order(stage: Stage) -> None:
    """Catches: sets as lists: every rewrite would look like a change, and verify would report it."""
    columns = {"id": "String", "tags": "Array(String)", "sizes": "Array(Int64)"}
    table = stage.table(columns=columns)
    for key, tags, sizes in (("a", ["x", "ä", "b"], ["10", "9", "-1"]), ("b", ["b", "x", "ä"], ["9.0", "-1", "1E1"])):
        item: dict[str, Any] = {"id": {"S": key}, "tags": {"SS": tags}, "sizes": {"NS": sizes}}
        stage.put(change(table, "INSERT", now(), item | {"free": {"SS": tags}}))
    stage.once()
    first, second = stage.clickhouse.rows("SELECT tags, sizes, _spill FROM orders FINAL ORDER BY id")
    assert first == second
    assert first[:2] == [["b", "x", "ä"], ["-1", "9", "10"]]


BYTES = (b"\xff\xfe", b"\x00", b"a", b"\xc3\x28", bytes(range(256)))


def test_t5_binary_keys_and_values_are_exact_to_the_byte(stage: Stage) -> None:
    """Catches: bytes decoded as UTF-8 with replacements: different keys become one. Empty bytes are not NULL."""
    columns = [{"attribute": "id", "type": "String"}, {"attribute": "value", "type": "Nullable(String)", "from": "B"}]
    table = stage.table(keys={"id": "B"}, columns=columns)
    t = now()

    def item(key: bytes, value: bytes) -> dict[str, Any]:
        return {"id": {"B": base64.b64encode(key).decode()}, "value": {"B": base64.b64encode(value).decode()}}

    stage.put(*(change(table, "INSERT", t, item(key, key[1:])) for key in BYTES))
    stage.put(change(table, "REMOVE", t + 1, item(b"\xff\xfe", b"")))
    stage.once()
    rows = stage.rows(columns="hex(base64Decode(id)), hex(base64Decode(value)), isNull(value)")
    assert rows == sorted([key.hex().upper(), key[1:].hex().upper(), 0] for key in BYTES if key != b"\xff\xfe")


def test_t6_items_that_share_their_hash_key_are_rows_of_their_own(stage: Stage) -> None:
    """Catches: a destination ordered by the HASH key alone, which keeps 1 of 3 (measured)."""
    columns = {"pk": "String", "sk": "Int64", "value": "Nullable(String)"}
    table = stage.table(keys={"pk": "S", "sk": "N"}, columns=columns)
    t = now()
    items = [{"pk": {"S": "p"}, "sk": {"N": f"{number}"}, "value": {"S": f"v{number}"}} for number in range(4)]
    stage.put(*(change(table, "INSERT", t, item, keys=("pk", "sk")) for item in items))
    stage.put(change(table, "REMOVE", t + 1, items[3], keys=("pk", "sk")))
    stage.once()
    stage.clickhouse.run("OPTIMIZE TABLE orders FINAL")
    assert stage.rows() == [["p", str(number), f"v{number}"] for number in range(3)]


REFUSED = {
    "t6": ("ORDER BY pk", "", "not exactly the key"),
    "t8": ("ORDER BY (pk, sk, value)", "", "not exactly the key"),
    "t9": ("PARTITION BY value ORDER BY (pk, sk)", "", "PARTITION BY"),
    "o6": ("ORDER BY (pk, sk)", "clean_deleted_rows = 'Always'", "deleted items come back"),
}


def refuse(stage: Stage, trap: str) -> None:
    """Start on a table that has been there before; it must be refused with the reason, and stay as it is."""
    order, setting, reason = REFUSED[trap]
    allowed = f" SETTINGS allow_experimental_replacing_merge_with_cleanup = 1, {setting}" if setting else ""
    stage.clickhouse.run(
        "CREATE TABLE orders (pk String, sk Int64, value String, _spill String, _version Int64, _deleted UInt8)"
        f" ENGINE = ReplacingMergeTree(_version, _deleted) {order}{allowed}"
    )
    table = stage.table(keys={"pk": "S", "sk": "N"})
    stage.put(change(table, "INSERT", now(), {"pk": {"S": "a"}, "sk": {"N": "1"}}, keys=("pk", "sk")))
    with pytest.raises(ConfigError) as refused:
        stage.once()
    assert reason in f"{refused.value} {refused.value.hint}"
    assert stage.clickhouse.tables() == {"orders"}
    assert stage.clickhouse.number("SELECT count() FROM orders") == 0


def test_t6_a_table_ordered_by_part_of_the_key_is_refused(stage: Stage) -> None:
    """Catches: an existing table taken as it is: items would replace each other."""
    refuse(stage, "t6")


def test_t8_a_table_ordered_by_more_than_the_key_is_refused(stage: Stage) -> None:
    """Catches: tombstones, which know the key only, that never meet the row they delete."""
    refuse(stage, "t8")


def test_t9_a_table_partitioned_by_more_than_the_key_is_refused(stage: Stage) -> None:
    """Catches: versions of one item in several partitions, which no merge ever brings together."""
    refuse(stage, "t9")


def test_o6_a_table_that_drops_tombstones_in_merges_is_refused(stage: Stage) -> None:
    """Catches: a CLEANUP merge and then a replay of the older insert: the item would be back (measured)."""
    refuse(stage, "o6")


def test_t7_keys_that_look_alike_when_joined_are_two_rows(stage: Stage) -> None:
    """Catches: composite keys joined by a separator, in a batch or in the table."""
    columns = {"pk": "String", "sk": "String"}
    table = stage.table(keys={"pk": "S", "sk": "S"}, columns=columns)
    pairs = [("a|b", "c"), ("a", "b|c"), ('a","b', "c"), ("a", 'b","c'), ("a\\", "b"), ("a", "\\b"), ("a\0b", "c")]
    at = now()
    items = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in pairs]
    stage.put(*(change(table, "INSERT", at, item, keys=("pk", "sk")) for item in items))
    stage.put(change(table, "REMOVE", at + 1, items[0], keys=("pk", "sk")))
    stage.once()
    assert sorted(map(tuple, stage.rows())) == sorted(pairs[1:])


NAMES = (
    *("a.b", "back`tick", 'quo"te', "it's", "😀", "Name", "name", "_version", "_deleted", "_spill", "1st", "select"),
    *("a\\b", "new\nline", "%s", "{x:Int8}", "", "x" * 60_000, "a_b", "a"),
)


def test_t10_hostile_names_of_attributes_all_arrive_and_none_collide(stage: Stage) -> None:
    """Catches: names pasted into SQL, folded to lower case or cut short; attributes that overwrite dyncdc's columns."""
    names = [name for name in NAMES if name]
    items = [{"id": {"S": f"{turn}"}} | {name: {"S": f"{turn} {name[:9]}"} for name in names} for turn in range(2)]
    items[1]["a"] = {"M": {"b": {"S": "inside"}, "B": {"S": "INSIDE"}}}  # type: ignore[dict-item]
    table = stage.table(items=[items[0] | {"a": {"S": "before"}}], columns="infer")
    stage.place.aws.put_all(table, items)
    stage.once()
    assert stage.dead_letters() == []
    assert stage.verify(table) == "EQUAL items=2"


def test_t11_an_attribute_that_changes_its_type_within_a_batch_loses_nothing(stage: Stage) -> None:
    """Catches: a batch refused for one value; the column's type guessed again from whatever came last."""
    values: list[dict[str, Any]] = [{"S": "7"}, {"N": "7"}, {"M": {"a": {"N": "7"}}}, {"BOOL": True}, {"N": "8"}]
    table = stage.table(columns={"id": "String", "v": "Nullable(Int64)"})
    at = now()
    stage.put_all([change(table, "INSERT", at, {"id": {"S": f"{n}"}, "v": value}) for n, value in enumerate(values)])
    stage.put_all(
        [change(table, "MODIFY", at + n, {"id": {"S": "last"}, "v": value}) for n, value in enumerate(values)]
    )
    stage.once()
    assert stage.rows() == [["0", None], ["1", "7"], ["2", None], ["3", None], ["4", "8"], ["last", "8"]]
    kept = {key: spill for key, spill in spilled(stage).items() if spill}
    assert kept == {f"{number}": {"v": values[number]} for number in (0, 2, 3)}
    assert stage.dead_letters() == []


def test_t12_an_attribute_without_a_column_is_in_the_spill_whatever_columns_appear_meanwhile(stage: Stage) -> None:
    """Catches: unknown attributes dropped; a cached list of columns under which a value becomes its default."""
    table = stage.table(columns={"id": "String", "v": "Nullable(String)"}, evolve="spill")
    at = now()

    def item(key: str) -> dict[str, Any]:
        return {"id": {"S": key}, "v": {"S": "v"}, "new": {"S": key}}

    stage.put(change(table, "INSERT", at, item("1")))
    stage.once()
    stage.clickhouse.run("ALTER TABLE orders ADD COLUMN other Int64 DEFAULT 5 FIRST")
    stage.put(change(table, "INSERT", at, item("2")))
    stage.once()
    stage.clickhouse.run("ALTER TABLE orders ADD COLUMN late Nullable(String)")
    stage.put(change(table, "INSERT", at, item("3")))
    stage.once()
    assert spilled(stage) == {key: {"new": {"S": key}} for key in "123"}
    assert stage.dead_letters() == []


def test_t13_the_largest_items_and_records_arrive_whole(stage: Stage) -> None:
    """Catches: limits of parsers, statements and columns smaller than DynamoDB's own."""
    stage.place.aws.set(max_record_bytes=10 * 2**20)
    deep: dict[str, Any] = {"S": "x"}
    for _ in range(32):
        deep = {"L": [deep]}
    large: dict[str, Any] = {
        "deep": {"v": deep},
        "wide": {f"a{number}": {"S": "x" * 20} for number in range(10_000)},
        "long": {"v": {"S": "ü" * 200_000}},
        "escaped": {"v": {"S": "\x01" * 400_000}},
    }
    table = stage.table(columns={"id": "String"})
    records = [change(table, "INSERT", now(), {"id": {"S": key}} | item) for key, item in large.items()]
    assert max(map(len, records)) > 2 * 2**20
    stage.put(*records)
    stage.once(limits={"memory_bytes": 16 * 2**20})
    assert spilled(stage) == large
    assert stage.dead_letters() == []


def test_t13_decoding_the_largest_records_takes_a_bounded_multiple_of_their_size() -> None:
    """Catches: work per nesting level or attribute that copies the whole record."""
    spec = spec_of("orders", {"id": "S"}, {"id": "String", "v": "Nullable(String)"})
    decoder = StreamDecoder({"orders": compile_table(spec)}, pipeline="p")
    deep: Any = {"S": "x" * 10_000}
    for level in range(31):
        deep = {"M": {f"level {level}": deep, "beside": {"S": "y" * 1000}}}
    items: list[dict[str, Any]] = [
        {"v": {"L": [deep] * 10}},
        {f"a{number}": {"N": f"{number}"} for number in range(20_000)},
        {"v": {"S": "\U0001f600" * 100_000}},
    ]
    for item in items:
        record = change("orders", "INSERT", 1_720_742_302_233_719, {"id": {"S": "a"}} | item)
        tracemalloc.start()
        try:
            decode(decoder, [("1", record)])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 50 * len(record), peak / len(record)  # of 20,000 tiny attributes each is a few objects


def damaged(table: str) -> list[bytes]:
    good = change(table, "INSERT", now(), {"id": {"S": "damaged"}})
    body = b"\x0a\x01p\x1a\x02\x08\x00"
    aggregated = b"\xf3\x89\x9a\xc2" + body + hashlib.md5(body).digest()
    return [b"\xff\xfe", good[:-40], b"not json", base64.b64encode(good), aggregated, b"", b"{}", b"[1,2,3]"]


def test_t14_what_cannot_be_decoded_is_kept_with_its_bytes_beside_the_rest(stage: Stage) -> None:
    """Catches: bad records skipped, or stopping the shard; fields that this version does not know taken for damage."""
    table = stage.table(columns={"id": "String"})
    bad = damaged(table)
    future = change(table, "INSERT", now(), {"id": {"S": "of tomorrow"}}, replication={"region": "eu"}, tableVersion=2)
    stage.put(change(table, "INSERT", now(), {"id": {"S": "first"}}), *bad, future)
    stage.once()
    assert stage.rows() == [["first"], ["of tomorrow"]]
    dead_letters = stage.dead_letters()
    assert sorted(base64.b64decode(str(dead_letter["raw"])) for dead_letter in dead_letters) == sorted(bad)
    assert {dead_letter["reason"] for dead_letter in dead_letters} == {"not_json", "bad_envelope"}
    assert all(str(dead_letter["position"]).isdecimal() for dead_letter in dead_letters)


def test_t15_an_item_is_the_same_row_whether_loaded_or_streamed(stage: Stage) -> None:
    """Catches: two decoders that disagree: rows would flip at the next change, and verify would differ."""
    rng = random.Random(15)
    items = [make_item(rng, {"pk": {"S": f"p{number}"}, "n": {"N": f"{number}"}}) for number in range(150)]
    keys = {"pk": "S", "n": "N"}
    export = {"method": "export", "bucket": stage.place.bucket, "settle_seconds": 0.5}
    stage.table("loaded", keys, items=items, columns=LOAD_COLUMNS, snapshot=export, evolve="spill")
    streamed = stage.table("streamed", keys, columns=LOAD_COLUMNS, evolve="spill")  # columns that appear differ in time
    stage.place.aws.put_all(streamed, items)
    stage.once()
    select = "SELECT * EXCEPT _version FROM {} FINAL ORDER BY pk, n"
    loaded = stage.clickhouse.rows(select.format("loaded"))
    assert len(loaded) == len(items)
    assert loaded == stage.clickhouse.rows(select.format("streamed"))

"""The compiled path gives what the reference path gives, bit for bit: for items, for odd values, and for any bytes."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.data.decode_items import VERSION, binaries, items, numbers, scalars, texts, values, wide_table

from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
from dyncdc.decode.compiled.layout import CompiledTable, kind_of
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.inference import infer_columns
from dyncdc.schema.redaction import Redaction
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.encodings import TYPED_TYPES
from dyncdc.schema.unmapped import UnmappedAttributes

quick = settings(
    deadline=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a dozen records are found out faster than shrunk
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
plan_of = functools.cache(compile_table)


def column(name: str, kind: str, *takes: Any, key: bool = False) -> ColumnSpec:
    return ColumnSpec(name, kind, (name,), takes, key=key)


NARROW = TableSpec(
    "narrow",
    "narrow",
    (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")),
    (
        column("pk", "String", "S", key=True),
        column("sk", "Int64", "N", key=True),
        column("text", "Nullable(String)", "S"),
        column("word", "LowCardinality(String)", "S"),
        column("kind", "Enum8('a' = 1, 'null' = 2, '' = 3)", "S"),
        column("id", "Nullable(UUID)", "S"),
        column("at", "DateTime64(3)", "S"),
        column("day", "Nullable(Date)", "S"),
        column("ip", "IPv4", "S"),
        column("whole", "Nullable(Int64)", "N"),
        column("small", "Int8", "N"),
        column("price", "Decimal(9, 2)", "N"),
        column("ratio", "Nullable(Float64)", "N"),
        column("number", "Nullable(String)", "N"),
        column("flag", "Bool", "BOOL"),
        column("maybe", "Nullable(Bool)", "BOOL"),
        column("bytes", "Nullable(String)", "B"),
        column("blob", "String", "B"),
        column("map", "Nullable(String)", "M"),
        column("list", "String", "L"),
        column("either", "Nullable(String)", "M", "L", "S"),
        column("tags", "Array(String)", "SS"),
        ColumnSpec("typed", "Nullable(String)", ("typed",), TYPED_TYPES, encoding="typed"),
        ColumnSpec("typed_map", "String", ("typed_map",), ("M", "S"), encoding="typed"),
        ColumnSpec("part_a", "Nullable(String)", ("part", "a"), ("S",)),
        ColumnSpec("part_b", "Int8", ("part", "b"), ("N",)),
        ColumnSpec("part_c", "Nullable(String)", ("part", "c"), ("M",)),
        ColumnSpec("ms", "DateTime64(3)", ("ms",), ("N",), encoding="epoch_ms"),
        ColumnSpec("lossy_at", "DateTime64(3)", ("lossy_at",), ("S",), lossy=True),
        ColumnSpec("lossy", "Nullable(Int64)", ("lossy",), ("N",), lossy=True),
    ),
)
STRICT = replace(NARROW, spill_column="", deletes="ignore", deleted_column="")
HIDDEN = Redaction(
    exclude=(("blob",), ("list", "a"), ("other",)), mask=(("text",), ("map", "a"), ("é",), ("part", "a")), key=b"k" * 16
)
SPECS = {
    "narrow": NARROW,
    "strict": STRICT,
    "wide version": replace(NARROW, version_type="UInt256"),
    "history": replace(NARROW, history="narrow_history", base_microseconds=7),
    "history, deletes ignored": replace(STRICT, history="narrow_history", spill_column="_spill"),
    "history, redacted": replace(
        NARROW,
        history="narrow_history",
        redaction=HIDDEN,
        columns=tuple(c for c in NARROW.columns if c.path[0] != "blob"),
    ),
    "expired items kept": replace(NARROW, ttl_deletes="keep", expired_column="_expired"),
    "history of expired items": replace(NARROW, ttl_deletes="keep", expired_column="_expired", history="kept_history"),
    "redacted": replace(NARROW, redaction=HIDDEN, columns=tuple(c for c in NARROW.columns if c.path[0] != "blob")),
    "redacted, no spill": replace(
        STRICT, redaction=HIDDEN, columns=tuple(c for c in NARROW.columns if c.path[0] != "blob")
    ),
    "every type": wide_table(),
    "every type, no spill": wide_table(spill=""),
}

ODD = [
    *(
        b'{"S":"a"}',
        b'{"S":""}',
        b'{"S":null}',
        b'{"S":{}}',
        b'{"S":"a","S":"b"}',
        b'{"S":"a","N":"1"}',
        b'{"S":["a"]}',
    ),
    *(b'{"N":"0"}', b'{"N":"-0"}', b'{"N":"5"}', b'{"N":"128"}', b'{"N":"127"}', b'{"N":"-128"}', b'{"N":"12.50"}'),
    *(b'{"N":"1.0"}', b'{"N":"0.10"}', b'{"N":"1E3"}', b'{"N":"9223372036854775807"}', b'{"N":"9223372036854775808"}'),
    *(b'{"N":"-9223372036854775808"}', b'{"N":"1,2"}', b'{"N":""}', b'{"N":"+1"}', b'{"N":"007"}', b'{"N":5}'),
    *(b'{"N":null}', b'{"N":{}}', b'{"N":"0.1"}', b'{"N":"0.00001"}', b'{"N":"0.30000000000000004"}', b'{"N":"1e-7"}'),
    *(b'{"N":"1.' + b"0" * 300 + b'"}', b'{"N":"1.' + b"0" * 500 + b'"}', b'{"N":"' + b"9" * 38 + b'"}'),
    *(b'{"N":"' + b"9" * 39 + b'"}', b'{"N":"1.5."}', b'{"N":"1.5.0"}', b'{"N":"12."}', b'{"N":".5"}', b'{"N":"-0.0"}'),
    *(b'{"NULL":true}', b'{"NULL":false}', b'{"NULL":null}', b'{ "NULL":true}', b'{"BOOL":true}', b'{"BOOL":false}'),
    *(
        b'{"BOOL":"true"}',
        b'{"BOOL":null}',
        b'{"BOOL":{}}',
        b'{"BOOL":1}',
        b'{"B":"AAA="}',
        b'{"B":"AAB="}',
        b'{"B":""}',
    ),
    *(b'{"B":"A"}', b'{"B":"AA=="}', b'{"B":"AB=="}', b'{"B":"AAAA"}', b'{"B":"A==="}', b'{"B":"AA=\\u003d"}'),
    *(b'{"B":"null"}', b'{"B":"nullnull"}', b'{"B":"AAnullnullAAnullnull"}'),
    *(b'{"SS":["b","a"]}', b'{"SS":["a","a"]}', b'{"SS":[]}', b'{"SS":["a",1]}', b'{"SS":null}', b'{"SS":{}}'),
    *(b'{"SS":[["a"]]}', b'{"SS":"a"}', b'{"NS":["1"]}', b'{"BS":["AA=="]}'),
    *(b'{"M":{}}', b'{"M":{"b":{"S":"x"},"a":{"N":"1.50"}}}', b'{"M":{"a":{"S":"{"}}}', b'{"M":{"a":{"S":"}"}}}'),
    *(b'{"M":{"M":{"M":{"a":{"S":"x"}}}}}', b'{"M":{"S":{"S":"x"}}}', b'{"M":{"a":{"S":"x","N":"1"}}}'),
    *(b'{"M":{"a":{"S":"x"},"b":"y"}}', b'{"M":{"a":{"SS":["x"]}}}', b'{"M":{"a":{"L":[]},"b":{"L":[{"L":[]}]}}}'),
    *(b'{"M":{"a":{"M":{"b":{"NULL":true}}},"c":{"BOOL":false}}}', b'{"M":{"a":{"M":{"b":{"S":"x"}},"S":"y"}}}'),
    *(b'{"M":{"a":{"N":"1"},"a":{"N":"2"}}}', b'{"M":{"a":{"N":"x"}}}', b'{"M":{"a":{"NULL":false}}}', b'{"M":[]}'),
    *(b'{"M":{"a":{"S":"\x7f1"}}}', b'{"M":{"a":{"S":"\\u0001,\\u0001"}}}', b'{"M":{"\\"0\\"":{"S":"\\",\\""}}}'),
    *(b'{"M":{"a":{"S":"\\u007f1"}}}', b'{"M":{"\\u007F1":{"S":"x"}}}', b'{"L":[{"S":"\\u007f12.50"}]}'),
    *(b'{"M":{"a":{"N":"-0"}}}', b'{"M":{"a":{"N":"1E2"}}}', b'{"M":{"a":{"B":"AA=="}}}', b'{"M":{"a":{"M":{}}}}'),
    *(b'{"M":{"0":{"0":0}}}', b'{"M":null}', b'{"M":{"a":null}}', b'{"M":{"a":{}}}', b'{"M":{"a": {"S":"x"}}}'),
    *(b'{"L":[]}', b'{"L":[{"S":"x"},{"N":"2"}]}', b'{"L":[0]}', b'{"L":["x"]}', b'{"L":[{"M":{"z":{"S":","}}}]}'),
    *(b'{"L":[{"S":"],"},{"S":"\\"},{"}]}', b'{"L":' * 3, b'{"L":[' * 40 + b'{"S":"x"}' + b"]}" * 40),
    *(b'{"L":[' * 70 + b'{"S":"x"}' + b"]}" * 70, b'{"L":[' + b",".join([b'{"L":[]}'] * 90) + b"]}"),
    *(b'{"\\u004d":{"a":' * 65 + b'{"S":"x"}' + b"}}" * 65, b'{"M" :{"a":' * 200 + b'{"S":"x"}' + b"}}" * 200),
    *(
        b'{"S":"\\u00e9\\n\\"\\\\"}',
        b'{"S":"\xc3\xa9"}',
        b'{"S":"\xff"}',
        b'{"S":"\\ud800"}',
        b'{"S":"\\ud83d\\ude00"}',
    ),
    *(b'{"S":"\xed\xa0\x80"}', b'{"S":"\\/"}', b'{"S":"a\\u0000"}', b'{"S":"{\\"NULL\\":true}"}', b'{"S":"null"}'),
    *(
        b'{"S":"a\\",\\"b"}',
        b'{"S":"1970-01-01T00:00:00.000Z"}',
        b'{"S":"2024-02-29T10:00:00.500Z"}',
        b'{"S":"2024-02-31"}',
    ),
    *(b'{"S":"2024-02-28"}', b'{"S":"2149-06-06"}', b'{"S":"2149-06-07"}', b'{"S":"0.0.0.0"}', b'{"S":"1.2.3.255"}'),
    *(
        b'{"S":"01.2.3.4"}',
        b'{"S":"61f0c404-5cb3-11e7-907b-a6006ad3dba0"}',
        b'{"S":"61F0C404-5CB3-11E7-907B-A6006AD3DBA0"}',
    ),
    *(
        b"null",
        b"{}",
        b"[]",
        b'"a"',
        b"5",
        b"1e400",
        b'{"S":"a"',
        b'{"X":"a"}',
        b'{"S":"a"},"x":{"S":"\xff"}',
        b'"\x01"',
    ),
    *(b"0", b"-0", b"0.0", b"true", b"false"),
    *(b'{"M":{"a":{"S":"x"},"b":{"N":"1"},"c":{"M":{"d":{"S":"y"}}}}}', b'{"M":{"b":{"N":"1.50"},"a":{"S":"x"}}}'),
    *(b'{"M":{"b":{"N":"7"}}}', b'{"M":{"b":{"N":"0"}}}', b'{"M":{"a":{"NULL":true}}}', b'{"M":{"b":{"NULL":true}}}'),
    *(b'{"M":{"a":{"S":"x"},"z":{"S":"y"}}}', b'{"M":{"a":{"S":"x"},"a":{"S":"\xff"},"a":{"S":"z"}}}'),
    *(b'{"M":{"b":{"N":"300"}}}', b'{"M":{"c":{"M":{}}}}', b'{"M":{"a":{"S":null}}}', b'{"M":{"a":{"S":"x"}},"S":"y"}'),
    *(b'{"M":{"\\u0061":{"S":"x"}}}', b'{"M":{"c":0}}', b'{"M":{"c":{"S":"x"},"b":{"N":"5"}}}'),
]


def compact(found: Any) -> bytes:
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


odd_values = st.one_of(
    st.sampled_from(ODD),
    scalars.map(compact),
    values.map(compact),
    texts.map(lambda found: compact({"S": found})),
    numbers.map(lambda found: compact({"N": found})),
    binaries.map(lambda found: compact({"B": found})),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda found: compact({"N": repr(found)})),
    st.lists(texts, max_size=3).map(lambda found: compact({"SS": found})),
)


@st.composite
def images(draw: st.DrawFn, spec: TableSpec) -> tuple[bytes, bytes]:
    """Return the JSON of an item's key and of the item: mostly right, sometimes not."""
    if spec.source_table == "wide" and draw(st.booleans()):
        item = draw(items(spec))
        dump: Callable[[Any], bytes] = draw(st.sampled_from([compact, lambda found: json.dumps(found).encode()]))
        return dump({name: item[name] for name in ("k_s", "k_n")}), dump(item)
    names = [each.path[0] for each in spec.columns if not each.key] + ["other", "é", 'q"', "Pk"]
    found = {
        key.name: draw(st.sampled_from(OFTEN[key.type] + ([*ODD] if draw(st.integers(0, 30)) == 0 else [])))
        for key in spec.keys
    }
    keys = dict(found)
    for name in draw(st.lists(st.sampled_from(names), max_size=8, unique=draw(st.integers(0, 9)) > 0)):
        found[name] = draw(odd_values)
    if draw(st.integers(0, 20)) == 0:
        found.pop(draw(st.sampled_from(sorted(found))))
    if draw(st.integers(0, 20)) == 0:
        keys |= draw(st.sampled_from([{"more": b'{"S":"x"}'}, {spec.keys[0].name: b'{"S":"else"}'}]))
    twice = b',"text":{"S":"\xff"},"text":{"S":"again"}' if draw(st.integers(0, 20)) == 0 else b""
    return object_of(keys), object_of(found)[:-1] + twice + b"}"


OFTEN = {
    "S": [compact({"S": text}) for text in ("k0", ",", 'a",', "k3", "k4", "k5", "k6", "k7", "k8")],
    "N": [compact({"N": str(n)}) for n in range(9)],
}


def object_of(found: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(compact(name) + b":" + value for name, value in found.items()) + b"}"


EVENT_IDS = [b'"e"', b'""', b"null", b"5", b'"\\u0065"', '"é"'.encode(), b'"e","eventID":"f"']
IDENTITIES = [
    b'{"type":"Service","principalId":"dynamodb.amazonaws.com"}',
    b'{"principalId":"dynamodb.amazonaws.com","type":"Service"}',
    b'{"type":"Service","principalId":"dynamodb.amazonaws.com","more":"x"}',
    b'{"type":"User","principalId":"x"}',
    b"null",
    b'"x"',
]


@st.composite
def records(draw: st.DrawFn, spec: TableSpec) -> bytes:
    key, image = draw(images(spec))
    event = draw(st.sampled_from([b"INSERT", b"MODIFY", b"MODIFY", b"REMOVE"]))
    rarely = draw(st.integers(0, 12))
    table = draw(st.sampled_from([b"others", b"more", b"", b'x","y":"'])) if rarely == 0 else spec.source_table.encode()
    time = (
        draw(st.sampled_from([b"1760000000000", b"0", b"-5", b"1e15", b"9" * 16, b'"x"', b"17.0"]))
        if rarely == 1
        else b"%d" % VERSION
    )
    unit = (
        draw(st.sampled_from([b'"MILLISECOND"', b'"SECOND"', b"null", b""])) if rarely in (1, 2) else b'"MICROSECOND"'
    )
    parts = [b'"ApproximateCreationDateTime":' + time, b'"Keys":' + key]
    if unit:
        parts.append(b'"ApproximateCreationDateTimePrecision":' + unit)
    if event != b"REMOVE" or draw(st.booleans()):
        new = image if rarely != 3 else draw(st.sampled_from([b"null", b"{}", b"[]", b'"x"']))
        parts.append(b'"NewImage":' + new)
    if event != b"INSERT":
        old = draw(images(spec))[1] if rarely in (6, 7) else image
        parts.append(b'"OldImage":' + (old if rarely != 8 else draw(st.sampled_from([b"null", b"{}", b"[]", b'"x"']))))
    around = [b'"eventName":"%b"' % event, b'"tableName":"%b"' % table]
    around.append(b'"eventID":' + draw(st.sampled_from([*EVENT_IDS] if rarely == 6 else [b'"e"'])))
    if draw(st.integers(0, 5)) == 0:
        around.append(b'"userIdentity":' + draw(st.sampled_from(IDENTITIES)))
    if rarely == 5:  # an image may come before its key, and before the name of its table
        parts = draw(st.permutations(parts))
        parts += draw(st.lists(st.sampled_from(parts), max_size=1))
        around += draw(st.lists(st.sampled_from([*around, b'"dynamodb":{}']), max_size=1))
        around = draw(st.permutations(around))
    around.insert(draw(st.integers(0, len(around))) if rarely == 5 else 2, b'"dynamodb":{%b}' % b",".join(parts))
    record = b"{%b}" % b",".join(around)
    if rarely == 4:
        cut = draw(st.integers(0, len(record)))
        record = record[:cut] + draw(st.binary(max_size=3)) + record[cut + draw(st.integers(0, 3)) :]
    return record


def chunk(found: Sequence[bytes], positions: Sequence[str] = ()) -> RawChunk:
    told = [Position(each) for each in positions or map(str, range(len(found)))]
    return RawChunk(Shard(SourceId("s"), ShardId("x")), found, told, Position("end"), 1, 0.0)


def same(one: Decoded, other: Decoded) -> None:
    for each in (one, other):  # which table comes first means nothing
        each.blocks.sort(key=lambda block: block.table)
    for expected, block in zip(one.blocks, other.blocks, strict=True):
        for name, wanted, cells in zip(expected.columns, expected.cells, block.cells, strict=True):
            assert cells == wanted, name
    assert other == one
    for block in one.blocks + other.blocks:
        assert isinstance(block, Block)
        assert all(type(cells) is bytes for cells in block.cells)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", SPECS)
def test_t15_a_stream_decodes_alike_on_both_paths(name: str) -> None:
    spec = SPECS[name]
    twice = (*NARROW.columns, column("pk_again", "String", "S"))  # which only the reference path knows
    twice = tuple(replace(each, path=("pk",)) if each.name == "pk_again" else each for each in twice)
    more = replace(NARROW, source_table="more", destination="more", history="more_history", columns=twice)
    with pytest.raises(ValueError, match="repeats"):
        CompiledTable(plan_of(more))
    plans = {spec.source_table: plan_of(spec), "more": plan_of(more)}
    fast = CompiledStreamDecoder(plans, pipeline="p")

    @quick
    @given(st.lists(records(spec), min_size=1, max_size=12), st.sampled_from(["", "x", "9" * 63, "1" * 50]))
    def check(found: list[bytes], position: str) -> None:
        positions = [position if number == 1 and position else str(number) for number in range(len(found))]
        one = list(StreamDecoder(plans, pipeline="p").decode(chunk(found, positions)))
        for _ in range(2):  # the second time it looks for what it has met the first time
            for exact, other in zip(one, fast.decode(chunk(found, positions)), strict=True):
                same(exact, other)

    check()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["narrow", "every type, no spill", "history", "redacted", "expired items kept"])
def test_t15_a_snapshot_decodes_alike_on_both_paths(name: str) -> None:
    spec = SPECS[name]
    fast = CompiledSnapshotDecoder(plan_of(spec), VERSION, pipeline="p")
    lines = st.one_of(
        images(spec).map(lambda found: b'{"Item":' + found[1] + b"}"),
        images(spec).map(lambda found: b'{"Item":' + found[1] + b',"more":1}'),
        st.sampled_from([b"", b"{}", b'{"Item":null}', b'{"Item":{}}', b'{"Item":{}', b' {"Item":{}}', b"[]", b"\xff"]),
    )

    @quick
    @given(st.lists(lines, min_size=1, max_size=12))
    def check(found: list[bytes]) -> None:
        one = list(SnapshotDecoder(plan_of(spec), VERSION, pipeline="p").decode(chunk(found)))
        for exact, other in zip(one, fast.decode(chunk(found)), strict=True):
            same(exact, other)

    check()


@pytest.mark.timeout(60)
def test_every_odd_value_takes_the_same_way_in_every_column() -> None:
    """Alone among plain ones: what is odd must neither hide behind them nor pull them along."""
    plan = plan_of(NARROW)
    fast = CompiledStreamDecoder({"narrow": plan}, pipeline="p")
    exact = StreamDecoder({"narrow": plan}, pipeline="p")
    plain = {"pk": OFTEN["S"][0], "sk": OFTEN["N"][0]}
    for name in [each.path[0] for each in NARROW.columns] + ["other"]:
        found = []
        for number, value in enumerate(ODD):
            item = plain | ({} if number % 3 == 0 else {"whole": b'{"N":"7"}'})
            keys = {key: value if key == name else plain[key] for key in plain}
            found += [record_of(plain, item), record_of(keys, item | {name: value})]
        for one, other in zip(exact.decode(chunk(found)), fast.decode(chunk(found)), strict=True):
            same(one, other)


def record_of(keys: dict[str, bytes], item: dict[str, bytes]) -> bytes:
    body = b'"ApproximateCreationDateTime":%d,"ApproximateCreationDateTimePrecision":"MICROSECOND"' % VERSION
    body += b',"Keys":' + object_of(keys) + b',"NewImage":' + object_of(item)
    return b'{"eventName":"MODIFY","tableName":"narrow","dynamodb":{%b}}' % body


def test_every_column_of_the_usual_types_is_known_to_the_compiled_path() -> None:
    for name in [each for each in SPECS if not each.startswith("every type")]:
        CompiledTable(plan_of(SPECS[name]))
        assert all(kind_of(each) is not None for each in SPECS[name].columns if not each.encoding.startswith("epoch"))


def test_base64_of_any_length_is_judged_alike() -> None:
    found = [
        record_of(
            {"pk": OFTEN["S"][0], "sk": OFTEN["N"][0]},
            {
                "pk": OFTEN["S"][0],
                "sk": OFTEN["N"][0],
                "bytes": compact({"B": base64.b64encode(bytes(n)).decode()[cut:]}),
            },
        )
        for n in range(12)
        for cut in range(3)
    ]
    plans = {"narrow": plan_of(NARROW)}
    for one, other in zip(
        StreamDecoder(plans, pipeline="p").decode(chunk(found)),
        CompiledStreamDecoder(plans, pipeline="p").decode(chunk(found)),
        strict=True,
    ):
        same(one, other)


def test_new_attributes_are_told_alike_on_both_paths() -> None:
    """Plain ones, one among many, and such as come with something else that is odd."""
    plain = {"pk": OFTEN["S"][0], "sk": OFTEN["N"][0]}
    found = [record_of(plain, plain | {"text": b'{"NULL":true}'} | extra) for extra in [{}] * 40 + NEW]
    told = []
    for kind in (StreamDecoder, CompiledStreamDecoder):
        plan = compile_table(NARROW)
        plan.unmapped = UnmappedAttributes(nested="flatten", flatten_depth=1, on_news=lambda: None)
        plan.unmapped.set_columns(NARROW.columns)
        for _ in range(2):
            list(kind({"narrow": plan}, pipeline="p").decode(chunk(found)))
        told.append(infer_columns((), plan.unmapped.drain()))
    assert told[0] == told[1]
    assert {column.path[0] for column in told[0]} == {"new", "list_of", "nested"}


NEW: list[dict[str, bytes]] = [
    {"new": b'{"S":"x"}'},
    {"new": b'{"S":"x"}', "small": b'{"N":"300"}'},
    {"list_of": b'{"L":[{"S":"x"}]}', "text": b'{"N":"1"}'},
    {"nested": b'{"M":{"a":{"N":"1"}}}'},
    {"nothing": b'{"NULL":true}'},
    {"broken": b'{"S":1}'},
]


def test_keys_that_look_like_the_space_between_keys_stay_one_key_each() -> None:
    def change(key: bytes) -> bytes:
        keys = {"pk": key, "sk": OFTEN["N"][0]}
        return record_of(keys, keys)

    odd = [compact({"S": text}) for text in (",", 'a",', '"', "x", '",')] + [b'{"N":"1"}']
    plans = {"narrow": plan_of(NARROW)}
    for found in ([change(one), change(other), change(last)] for one in odd for other in odd for last in odd):
        for one, other in zip(
            StreamDecoder(plans, pipeline="p").decode(chunk(found)),
            CompiledStreamDecoder(plans, pipeline="p").decode(chunk(found)),
            strict=True,
        ):
            same(one, other)

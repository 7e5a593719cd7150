"""Any DynamoDB item becomes a row that tells it exactly; any bytes become rows or dead letters."""

from __future__ import annotations

import functools
import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data.decode_items import VERSION, columns_of, items, names, numbers, shown, values, wide_table

from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.inference import infer_columns
from dyncdc.schema.sql.row_reader import RowRenderer
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.dynamodb_values import canonical, canonical_item
from dyncdc.schema.types.reject_reasons import MISFIT, REASONS, UndecodableRecord

quick = settings(deadline=None, max_examples=100)

plan_of = functools.cache(compile_table)
WIDE = wide_table()
STRICT = wide_table(spill="")


def chunk(*records: bytes) -> RawChunk:
    positions = [Position(str(index)) for index in range(len(records))]
    return RawChunk(Shard(SourceId("s"), ShardId("x")), records, positions, Position("end"), 1, 0.0)


def decoded(spec: TableSpec, *found: Any) -> Decoded:
    lines = [json.dumps({"Item": item}).encode() for item in found]
    [result] = SnapshotDecoder(plan_of(spec), VERSION, pipeline="p").decode(chunk(*lines))
    return result


def read_rows(spec: TableSpec, block: Block) -> list[tuple[list[str | None], str]]:
    """What a SELECT of the renderer's expressions and of the spill would answer."""
    columns = dict(zip(block.columns, columns_of(block.cells), strict=True))
    texts = [[shown(column.type, cell) for cell in columns[column.name]] for column in spec.columns]
    spills = columns[spec.spill_column] if spec.spill_column else [""] * block.rows
    return [(list(row), spill) for *row, spill in zip(*texts, spills, strict=True)]


@quick
@given(items(WIDE))
def test_t1_any_item_reads_back_exactly(item: dict[str, Any]) -> None:
    result = decoded(WIDE, item)
    assert result.dead == {}
    [(texts, spill)] = read_rows(WIDE, result.blocks[0])
    renderer = RowRenderer(WIDE)
    rendered = renderer.render(texts, spill)
    assert rendered.item == canonical_item(item)
    assert rendered.ambiguous == frozenset()
    assert renderer.differences(item, texts, spill) == []


@quick
@given(items(STRICT))
def test_without_a_spill_a_row_tells_its_columns_exactly_or_is_a_dead_letter(item: dict[str, Any]) -> None:
    result = decoded(STRICT, item)
    if result.dead:
        assert result.dead == {("wide", MISFIT): 1}
        return
    [(texts, spill)] = read_rows(STRICT, result.blocks[0])
    assert RowRenderer(STRICT).differences(item, texts, spill) == []


@quick
@given(items(WIDE), st.data())
def test_a_changed_row_never_passes_for_the_item(item: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(item.keys() - {"k_s", "k_n"}) or ["new"]))
    other = dict(item)
    changed = data.draw(st.one_of(st.none(), values))
    if changed is None:
        other.pop(name, None)
    else:
        other[name] = changed
    [(texts, spill)] = read_rows(WIDE, decoded(WIDE, item).blocks[0])
    same = name in item and name in other and canonical(item[name]) == canonical(other[name])
    expected = [] if same or (name not in item and name not in other) else [name]
    assert RowRenderer(WIDE).differences(other, texts, spill) == expected


@quick
@given(values)
def test_canonical_form_is_stable(value: dict[str, Any]) -> None:
    assert canonical(canonical(value)) == canonical(value)
    assert orjson.loads(orjson.dumps(canonical(value))) == canonical(value)


@quick
@given(st.lists(items(WIDE), min_size=1, max_size=5), st.sampled_from(["flatten", "json", "typed"]), st.integers(0, 3))
def test_inferred_columns_hold_their_sample_and_do_not_depend_on_its_order(
    sample: list[dict[str, Any]], nested: Any, depth: int
) -> None:
    keys = (KeyAttribute("k_s", "S"), KeyAttribute("k_n", "N"))
    found = infer_columns(keys, sample, nested=nested, flatten_depth=depth, max_columns=40)
    assert found == infer_columns(keys, sample[::-1], nested=nested, flatten_depth=depth, max_columns=40)
    assert len({column.name for column in found}) == len(found) <= 40
    spec = TableSpec("wide", "wide", keys, found)
    result = decoded(spec, *sample)
    assert result.dead == {}
    renderer = RowRenderer(spec)
    for item, (texts, spill) in zip(sample, read_rows(spec, result.blocks[0]), strict=True):
        assert renderer.render(texts, spill).item == canonical_item(item)


@quick
@given(
    st.sets(
        st.one_of(names, st.sampled_from(["_version", "_deleted", "_spill", "a_b", "Name", "name", "1"])), max_size=8
    ),
    st.text(max_size=4),
)
def test_t10_names_of_columns_never_collide(attributes: set[str], child: str) -> None:
    sample = [
        {name: {"M": {child: {"S": ""}, "b": {"N": "1"}}} if len(name) % 2 else {"S": "x"} for name in attributes}
    ]
    found = infer_columns((KeyAttribute("id", "S"),), sample)
    named = [column.name for column in found]
    assert len(set(named)) == len(named) == len({column.path for column in found})
    assert not {"_version", "_deleted", "_spill"} & set(named)
    compile_table(TableSpec("t", "t", (KeyAttribute("id", "S"),), found))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), numbers),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(names, st.sampled_from(["S", "N", "M", "L", "NULL", "SS", "BS"])), inner, max_size=3),
    ),
    max_leaves=10,
)


def envelope(fields: dict[str, Any], body: dict[str, Any]) -> bytes:
    record = {"eventName": "INSERT", "tableName": "wide", "dynamodb": body} | fields
    return json.dumps(record).encode("utf-8", "surrogatepass")


keyed = {"k_s": {"S": "a"}, "k_n": {"N": "1"}}
bodies = st.fixed_dictionaries(
    {},
    optional={
        "Keys": st.one_of(st.just(keyed), json_values),
        "NewImage": st.one_of(
            st.dictionaries(st.sampled_from([*(column.path[0] for column in WIDE.columns), "zz"]), json_values).map(
                lambda found: found | keyed
            ),
            json_values,
        ),
        "ApproximateCreationDateTime": st.one_of(st.just(VERSION), json_values),
        "ApproximateCreationDateTimePrecision": st.one_of(st.just("MICROSECOND"), json_values),
    },
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "eventName": st.one_of(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]), json_values),
        "tableName": st.one_of(st.just("wide"), json_values),
        "userIdentity": json_values,
        "extra": json_values,
    },
)
wild = st.one_of(
    st.binary(max_size=50),
    json_values.map(lambda found: json.dumps(found).encode()),
    st.builds(envelope, fields, bodies),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good record with a few bytes changed, cut short or doubled."""
    raw = bytearray(
        envelope({}, {"Keys": keyed, "NewImage": draw(items(WIDE)), "ApproximateCreationDateTime": VERSION})
    )
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw)


@quick
@given(st.lists(st.one_of(wild, damaged()), min_size=1, max_size=5), st.sampled_from([WIDE, STRICT]))
def test_t14_any_bytes_become_rows_or_dead_letters(records: list[bytes], spec: TableSpec) -> None:
    plan = plan_of(spec)
    for decoder in (StreamDecoder({"wide": plan}, pipeline="p"), SnapshotDecoder(plan, VERSION, pipeline="p")):
        [result] = decoder.decode(chunk(*records))
        assert sum(result.records.values()) == len(records)
        assert {reason for _, reason in result.dead} <= set(REASONS)
        unknown = sum(count for table, count in result.records.items() if table not in ("wide", ""))
        assert sum(block.rows for block in result.blocks) + unknown == len(records)
        for block in result.blocks:
            assert all(len(column) == block.rows for column in columns_of(block.cells))


def test_a_lossy_column_is_ambiguous_and_not_in_the_spill() -> None:
    keys = (KeyAttribute("id", "S"),)
    columns = (
        ColumnSpec("id", "String", ("id",), ("S",), key=True),
        ColumnSpec("x", "Nullable(Float64)", ("x",), ("N",), lossy=True),
    )
    spec = TableSpec("t", "t", keys, columns)
    item = {"id": {"S": "a"}, "x": {"N": "0.12345678901234567890"}}
    [(texts, spill)] = read_rows(spec, decoded(spec, item).blocks[0])
    assert (texts, spill) == (["a", "0.12345678901234568"], "")
    assert RowRenderer(spec).render(texts, spill).ambiguous == {"x"}
    assert RowRenderer(spec).differences(item, texts, spill) == []


def test_undecodable_is_raised_for_items_that_dynamodb_cannot_have() -> None:
    try:
        RowRenderer(WIDE).differences({"a": {"X": 1}}, [None] * len(WIDE.columns), "")
    except UndecodableRecord as failure:
        assert failure.reason in REASONS

"""One item through the snapshot's decoder and through the stream's gives the same bytes, masked and left out or not."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data.decode_items import VERSION, items, values, wide_table

from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.inference import infer_columns
from dyncdc.schema.redaction import Redaction
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.types.encodings import dump_cells, load_cells

plan_of = functools.cache(compile_table)
KEY = b"0123456789abcdef"
HIDING = Redaction((("m", "x"), ("gone",)), (("secret",), ("m", "z")), KEY)


def tables() -> list[TableSpec]:
    wide = wide_table()
    encoded = (
        ColumnSpec("typed", "Nullable(String)", ("t",), ("S", "N", "M", "BS"), encoding="typed"),
        ColumnSpec("raw", "Nullable(String)", ("r",), ("B",), encoding="raw"),
        ColumnSpec("secret", "LowCardinality(Nullable(String))", ("secret",), ("S",)),
    )
    whole = replace(wide, columns=wide.columns + encoded)
    kept = tuple(column for column in whole.columns if column.path[:2] not in (("m", "x"), ("m", "z")))
    return [whole, replace(whole, columns=kept, redaction=HIDING), replace(whole, version_type="UInt256")]


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same value in another notation: sets, and members of objects, in another order, numbers with an exponent."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name in rng.sample(list(value), len(value)):
        inner = value[name]
        if name in ("SS", "NS", "BS") and isinstance(inner, list):
            found[name] = rng.sample(inner, len(inner))
        elif name == "L" and isinstance(inner, list):
            found[name] = [shuffled(each, rng) for each in inner]
        elif name == "N" and isinstance(inner, str) and "e" not in inner.lower():
            found[name] = inner + "E+0"
        else:
            found[name] = shuffled(inner, rng)
    return found


def chunk(record: bytes) -> RawChunk:
    return RawChunk(Shard(SourceId("s"), ShardId("x")), [record], [Position("7")], Position("8"), 1, 0.0)


def snapshot_block(spec: TableSpec, item: Any) -> Block:
    line = json.dumps({"Item": item}).encode()
    [decoded] = SnapshotDecoder(plan_of(spec), VERSION, pipeline="p").decode(chunk(line))
    return decoded.blocks[0]


def stream_block(spec: TableSpec, item: Any) -> Block:
    keys = {key.name: item[key.name] for key in spec.keys}
    body = {"ApproximateCreationDateTime": VERSION, "Keys": keys, "NewImage": item}
    record = json.dumps({"eventName": "MODIFY", "tableName": spec.source_table, "dynamodb": body}).encode()
    [decoded] = StreamDecoder({spec.source_table: plan_of(spec)}, pipeline="p").decode(chunk(record))
    return decoded.blocks[0]


@settings(deadline=None, max_examples=100)
@given(
    items(wide_table()),
    st.dictionaries(st.sampled_from(["t", "r", "secret", "gone"]), values),
    st.sampled_from(tables()),
    st.randoms(use_true_random=False),
)
def test_an_item_has_the_same_cells_by_snapshot_and_by_stream(
    item: dict[str, Any], more: dict[str, Any], spec: TableSpec, rng: random.Random
) -> None:
    item |= more
    loaded, changed = snapshot_block(spec, item), stream_block(spec, shuffled(item, rng))
    assert (loaded.table, loaded.columns, loaded.keys) == (changed.table, changed.columns, changed.keys)
    version = loaded.columns.index(spec.version_column)
    differing = [
        name
        for index, (name, one, other) in enumerate(zip(loaded.columns, loaded.cells, changed.cells, strict=True))
        if one != other and not (index == version and spec.version_type == "UInt256")
    ]
    assert differing == []


@settings(deadline=None, max_examples=50)
@given(st.lists(items(wide_table()), min_size=1, max_size=3), st.sampled_from(["flatten", "json", "typed"]))
def test_the_same_holds_for_inferred_columns(sample: list[dict[str, Any]], nested: Any) -> None:
    wide = wide_table()
    spec = replace(wide, columns=infer_columns(wide.keys, sample, nested=nested))
    for item in sample:
        assert snapshot_block(spec, item) == replace(stream_block(spec, item), created=0.0, positions=b'"7"')


@pytest.mark.parametrize("bytewise", [True, False])
@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=6)), min_size=1, max_size=4))
def test_cells_of_raw_bytes_are_parsed_and_written_again_unchanged(bytewise: bool, found: list[bytes | None]) -> None:
    cells = dump_cells([each if bytewise or each is None else each.decode("latin-1") for each in found])
    assert dump_cells(load_cells(cells)) == cells
    assert len(load_cells(cells)) == len(found)

"""The compiled decoders around the reader: odd positions and versions, exchanged plans, what a chunk leaves behind."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace

import pytest

from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.unmapped import MOST_NAMES, UnmappedAttributes

from .test_compiled_reader import RECORDS, SPEC, VERSION, record


def chunk(found: list[bytes], positions: list[str] | None = None) -> RawChunk:
    told = [Position(each) for each in positions or map(str, range(len(found)))]
    return RawChunk(Shard(SourceId("s"), ShardId("x")), found, told, Position("end"), 1, 0.0)


def test_what_became_of_a_chunk_holds_none_of_its_records() -> None:
    """Not even in a cycle, which would stay until the next collection: chunks have megabytes."""
    told = chunk([bytes(bytearray(each)) for each in RECORDS])
    before = [sys.getrefcount(each) for each in told.records]
    gc.disable()
    try:
        decoded = list(CompiledStreamDecoder({"t": compile_table(SPEC)}, pipeline="p").decode(told))
        after = [sys.getrefcount(each) for each in told.records]
    finally:
        gc.enable()
    assert sum(each.dead[("", "not_json")] for each in decoded) == 1
    assert after == before


@pytest.mark.parametrize("position", ["0" * 70 + "1", "1" * 5000, "9" * 63, "9" * 57, "x", "1" * 58, "٣"])
def test_positions_are_sequence_numbers_to_both_paths_or_to_neither(position: str) -> None:
    plans = {"t": compile_table(replace(SPEC, version_type="UInt256"))}
    found = chunk([record("a"), record("b")], ["1", position])
    assert list(CompiledStreamDecoder(plans, pipeline="p").decode(found)) == list(
        StreamDecoder(plans, pipeline="p").decode(found)
    )


def test_a_snapshot_goes_on_with_a_plan_that_only_the_exact_path_knows() -> None:
    """Exchanged between two sub-batches of one chunk."""
    again = ColumnSpec("again", "String", ("pk",), ("S",))
    history = compile_table(replace(SPEC, history="t_history", columns=(*SPEC.columns, again)))
    found = chunk([b'{"Item":{"pk":{"S":"%d"}}}' % number for number in range(600)])
    told = []
    for kind in (SnapshotDecoder, CompiledSnapshotDecoder):
        decoder = kind(compile_table(SPEC), VERSION, pipeline="p")
        decoded = []
        for each in decoder.decode(found):
            decoded.append(each)
            decoder.plan = history if len(decoded) == 1 else compile_table(SPEC)
        told.append(decoded)
    assert told[0] == told[1]


@pytest.mark.parametrize("version", [2**62, 2**64])
def test_a_snapshot_of_any_version_is_read_alike(version: int) -> None:
    found = chunk([b'{"Item":{"pk":{"S":"a"},"name":{"S":"b"}}}', record("a")])
    exact = list(SnapshotDecoder(compile_table(SPEC), version, pipeline="p").decode(found))
    assert list(CompiledSnapshotDecoder(compile_table(SPEC), version, pipeline="p").decode(found)) == exact


def test_new_attributes_are_told_of_in_the_order_of_their_records() -> None:
    """Where there is no room for all of them, it is the first that count."""
    found = [
        record("k", ',"first":{"S":"x"}'),
        record("k", ',"second":{"S":"x"},"\\u0061":{"NULL":true}'),  # an escaped name: for the reference path
        record("k", ',"third":{"S":"x"}'),
    ]
    for room in range(4):
        names = []
        for kind in (StreamDecoder, CompiledStreamDecoder):
            plan = _plan_with_room(room)
            assert plan.unmapped is not None
            list(kind({"t": plan}, pipeline="p").decode(chunk(found)))
            names.append({name for name in plan.unmapped.drain().root.children if not name.startswith(" ")})
        assert names[0] == names[1]
        assert len(names[0]) == min(room, 3)


def _plan_with_room(room: int) -> TablePlan:
    plan = compile_table(SPEC)
    plan.unmapped = UnmappedAttributes(nested="flatten", flatten_depth=1, on_news=lambda: None)
    plan.unmapped.set_columns(SPEC.columns)
    plan.unmapped.observe({f" {number:04}": {"S": "x"} for number in range(MOST_NAMES - room)})
    return plan


def test_both_paths_leave_a_column_with_a_default_of_someone_elses_to_it() -> None:
    columns = tuple(replace(column, defaulted=not column.key) for column in SPEC.columns)
    plans = {"t": compile_table(replace(SPEC, columns=columns))}
    found = chunk(list(RECORDS))
    compiled = list(CompiledStreamDecoder(plans, pipeline="p").decode(found))
    assert compiled == list(StreamDecoder(plans, pipeline="p").decode(found))
    (block, *_) = [each for decoded in compiled for each in decoded.blocks if each.table == SPEC.destination]
    assert block.optional == tuple(column.name for column in columns if column.defaulted)
    assert b"null" in block.cells[block.columns.index(block.optional[0])]

"""What a table misses when a session begins: decisions of dyncdc.pipeline.recovery.gaps."""

from __future__ import annotations

from dataclasses import replace

from dyncdc.model.checkpoints import Mark
from dyncdc.model.gaps import TableSource
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.pipeline.recovery.gaps import missed_since

STREAM = SourceId("arn:stream/s@1")
BEFORE = TableSource("orders", STREAM, epoch=5, at=100.0, held=True)
MARKS = {ShardId("shard-0"): Mark(Position("12"), 90.0)}


def test_a_table_that_every_session_has_followed_misses_nothing() -> None:
    assert not list(missed_since(BEFORE, STREAM, 5, MARKS, 200.0))


def test_a_table_left_out_by_a_later_session_misses_what_that_session_has_read() -> None:
    (gap,) = missed_since(BEFORE, STREAM, 6, MARKS, 200.0)
    assert (gap.table, gap.begin, gap.end) == ("orders", 100.0, 200.0)


def test_k13_a_stream_made_again_loses_every_position_of_the_old_one() -> None:
    (gap,) = missed_since(BEFORE, SourceId("arn:stream/s@2"), 5, MARKS, 200.0)
    assert (gap.shard, gap.begin, gap.position) == ("shard-0", 90.0, "12") and "again" in gap.reason


def test_checkpoints_that_are_gone_are_a_loss_and_no_fresh_start() -> None:
    (gap,) = missed_since(BEFORE, STREAM, 0, {}, 200.0)
    assert (gap.begin, gap.end) == (100.0, 200.0) and "checkpoints" in gap.reason


def test_a_session_that_ended_before_it_saved_a_position_has_lost_nothing() -> None:
    assert not list(missed_since(replace(BEFORE, held=False), STREAM, 0, {}, 200.0))


def test_o13_a_table_made_again_under_its_name_is_a_loss_that_a_snapshot_has_to_make_good() -> None:
    (gap,) = missed_since(BEFORE, STREAM, 5, MARKS, 900.0, created=500.0)
    assert (gap.begin, gap.end) == (100.0, 900.0) and "created again" in gap.reason
    assert not list(missed_since(BEFORE, STREAM, 5, MARKS, 900.0, created=100.0)), "the clocks may differ"

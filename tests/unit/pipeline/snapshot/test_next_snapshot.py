"""choice: which snapshot a table needs next; and how a lost position becomes gaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyncdc.model.checkpoints import Mark
from dyncdc.model.gaps import Gap, Request
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot, SnapshotState
from dyncdc.pipeline.reading.lineage import LostPosition
from dyncdc.pipeline.recovery.gaps import gaps_of, in_words, lost_with_source
from dyncdc.pipeline.snapshot.next_snapshot import choose, version_floor

COVERED = 1_000.0
DONE = Snapshot("one", "orders", "complete", "uuid", "arn", 1_100.0, 800_000_000, covered_from=COVERED, had_rows=True)
LATER = Gap("orders", "stream@1", "s", 1_500.0, 2_000.0)
EARLIER = Gap("orders", "stream@1", "s", 500.0, COVERED)
ASKED = Request("r1", "orders", 3_000.0)


def test_the_first_snapshot_is_begun_and_a_failed_one_followed_by_another() -> None:
    for known in ([], [replace(DONE, state="failed")]):
        choice = choose(known, [], None)
        assert not choice.done and choice.go_on is None and choice.superseded is None


def test_a_complete_snapshot_is_enough_until_something_else_is_wanted() -> None:
    assert choose([DONE], [], None).done
    assert choose([DONE], [EARLIER], None).done, "it was covered after that gap"
    assert not choose([DONE], [LATER], None).done
    assert choose([DONE], [replace(LATER, accepted=True)], None).done
    assert not choose([DONE], [], ASKED).done
    assert choose([replace(DONE, request="r1")], [], ASKED).done, "only its end was not written down"


@pytest.mark.parametrize("state", ["exporting", "loading", "sweeping"])
def test_s6_what_is_under_way_when_someone_asks_is_finished_first(state: SnapshotState) -> None:
    under_way = replace(DONE, state=state)
    assert choose([under_way], [], ASKED).go_on == under_way
    assert choose([under_way], [EARLIER], None).go_on == under_way


@pytest.mark.parametrize("state", ["exporting", "loading", "sweeping", "complete"])
def test_a_snapshot_that_is_not_swept_closes_no_gap_that_was_noticed_after_its_begin(state: SnapshotState) -> None:
    """Catches: a gap far behind the tip, whose deletes are lost, closed by the first load of an empty destination."""
    first = replace(DONE, state=state, had_rows=False)
    choice = choose([first], [EARLIER], None)
    assert not choice.done and choice.go_on is None


@pytest.mark.parametrize("state", ["exporting", "loading", "sweeping"])
def test_a_snapshot_that_was_covered_before_a_gap_is_given_up(state: SnapshotState) -> None:
    under_way = replace(DONE, state=state)
    choice = choose([under_way], [LATER], None)
    assert choice.superseded == under_way and choice.go_on is None and not choice.done


def test_a_snapshot_that_has_asked_for_nothing_yet_becomes_the_one_that_is_wanted() -> None:
    waiting = replace(DONE, state="waiting", version=0)
    assert choose([waiting], [], None).go_on == waiting
    wanted = choose([waiting], [LATER], ASKED).go_on
    assert wanted == replace(waiting, covered_from=0.0, had_rows=True, request="r1")


def test_s6_the_rows_of_a_snapshot_must_be_newer_than_those_of_all_before_it() -> None:
    mine = replace(DONE, id="mine", state="waiting", version=0)
    assert version_floor([], mine) == 0
    assert version_floor([DONE, replace(DONE, id="two", version=5, state="failed"), mine], mine) == DONE.version


def test_a_gap_is_a_row_for_every_table_and_position() -> None:
    lost = [LostPosition(ShardId(name), Mark(Position("7"), 900.0), "expired") for name in ("a", "b")]
    gaps = gaps_of(["orders", "accounts"], SourceId("stream@1"), lost, 2_000.0)
    assert [(gap.table, gap.shard, gap.begin, gap.end, gap.position) for gap in gaps] == [
        (table, shard, 900.0, 2_000.0, "7") for table in ("orders", "accounts") for shard in ("a", "b")
    ]
    words = in_words(gaps[0])
    assert words == (
        "changes of orders between 1970-01-01 00:15:00 UTC and 1970-01-01 00:33:20 UTC (after position 7)"
        " may be missing: shard a, expired"
    )


def test_all_unfinished_positions_are_lost_with_their_source() -> None:
    marks = {ShardId("a"): Mark(Position("1"), 5.0), ShardId("b"): Mark(Position("2"), 6.0, finished=True)}
    assert [loss.shard for loss in lost_with_source(marks, "gone")] == ["a"]

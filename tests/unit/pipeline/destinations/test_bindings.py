"""What a table missed while its changes went elsewhere, and which rows are gone that were there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.binding_changes import (
    MADE_ANEW,
    WAS_ELSEWHERE,
    EarlierBindings,
    blocks_of,
    is_bound,
    is_emptied,
    missed_by,
    proven_until,
)
from dyncdc.pipeline.destinations.bindings import Binding, DestinationContents, DestinationState, Partition, Target

SOURCE = SourceId("stream@1")


def target(uuid: str = "u", table_id: str = "one") -> Target:
    return Target("orders", "orders", uuid, "arn", table_id)


def binding(number: int, since: float, uuid: str = "u", table_id: str = "one", pipeline: str = "p") -> Binding:
    return Binding(pipeline, target(uuid, table_id), number, since)


def snapshot(uuid: str) -> Snapshot:
    return Snapshot(f"of {uuid}", "orders", "complete", uuid)


def missed(now: Target, bindings: Sequence[Binding], snapshots: Sequence[Snapshot] = ()) -> tuple[float, str] | None:
    gap = missed_by(now, EarlierBindings(bindings, snapshots), SOURCE, 900.0)
    assert gap is None or gap.end == 900.0
    return None if gap is None else (gap.begin, gap.reason)


def test_a_table_that_no_one_wrote_before_has_missed_nothing() -> None:
    assert missed(target(), []) is None
    assert missed(target("new"), [binding(1, 100.0)]) is None, "a new one is loaded anyway"


def test_the_same_table_again_has_missed_nothing() -> None:
    assert missed(target(), [binding(1, 100.0)], [snapshot("u")]) is None
    assert missed(target(), [], [snapshot("u")]) is None, "as after an upgrade"


@pytest.mark.parametrize("away", [["v"], ["v", "w"]])
def test_a_table_that_comes_back_has_missed_what_was_written_since_it_left(away: list[str]) -> None:
    rows = [binding(1, 100.0), *(binding(2 + n, 200.0 + n, uuid) for n, uuid in enumerate(away))]
    assert missed(target(), rows) == (200.0, WAS_ELSEWHERE)


def test_a_table_that_comes_back_twice_has_missed_what_was_written_since_it_left_last() -> None:
    rows = [binding(1, 100.0), binding(2, 200.0, "v"), binding(3, 300.0), binding(4, 400.0, "v")]
    assert missed(target(), rows) == (400.0, WAS_ELSEWHERE)


def test_a_table_that_was_loaded_before_bindings_were_kept_counts_as_one_that_comes_back() -> None:
    assert missed(target(), [binding(1, 200.0, "v")], [snapshot("u")]) == (200.0, WAS_ELSEWHERE)
    assert missed(target(), [], [snapshot("u"), snapshot("v")]) == (0.0, WAS_ELSEWHERE)


def test_a_source_made_again_is_a_loss_from_when_the_old_one_was_last_begun() -> None:
    assert missed(target(table_id="two"), [binding(1, 100.0)]) == (100.0, MADE_ANEW)
    assert missed(target(table_id=""), [binding(1, 100.0)]) is None, "it does not say"
    assert missed(target(), [binding(1, 100.0, table_id="")]) is None, "it did not say"


def test_a_binding_is_written_again_for_another_destination_another_source_and_after_another_pipeline() -> None:
    mine = [binding(1, 100.0)]
    assert is_bound(target(), mine, mine)
    assert not is_bound(target(), [], [])
    assert not is_bound(target("v"), mine, mine)
    assert not is_bound(target(table_id="two"), mine, mine)
    assert not is_bound(target(), mine, [*mine, binding(2, 200.0, pipeline="other")])


def test_a_destination_surely_has_all_that_every_shard_was_read_up_to() -> None:
    marks = {
        ShardId("a"): Mark(Position("1"), 300.0),
        ShardId("b"): Mark(Position("1"), 200.0),
        ShardId("old"): Mark(Position("1"), 100.0, finished=True),
    }
    assert proven_until(marks, 900.0) == 200.0
    assert proven_until({}, 900.0) == 900.0


def standing(partitions: Mapping[str, tuple[int, int, int]], *, cleaned: bool = False) -> DestinationState:
    return DestinationState("u", 1.0, {id_: Partition(*numbers) for id_, numbers in partitions.items()}, cleaned)


BEFORE = standing({"a": (1, 10, 100), "b": (3, 12, 50)})
HELD = DestinationContents(blocks_of(BEFORE), 150, live=True)


@pytest.mark.parametrize(
    "now",
    [
        {"a": (1, 10, 100), "b": (3, 12, 50)},
        {"a": (1, 30, 40), "b": (3, 12, 50)},  # merged, collapsed
        {"a": (9, 30, 40), "b": (12, 12, 1)},  # older parts were emptied by a person, not all
        {"a": (1, 10, 100), "b": (3, 12, 50), "c": (13, 13, 1)},
        {"a": (1, 9, 90), "b": (3, 8, 45)},  # the newest part held one row, which a person deleted
    ],
)
def test_what_merges_inserts_and_a_few_deletes_leave_is_not_emptied(now: dict[str, tuple[int, int, int]]) -> None:
    assert not is_emptied(HELD, standing(now))


@pytest.mark.parametrize(
    "now",
    [
        {},
        {"a": (13, 13, 1)},  # truncated, and written since
        {"a": (13, 40, 9_000), "b": (14, 50, 9_000)},
        {"a": (1, 10, 100)},  # one partition dropped
        {"a": (1, 2, 2), "b": (3, 4, 2)},  # truncated, and the server has begun to count again
    ],
)
def test_a_destination_without_anything_of_before_is_emptied(now: dict[str, tuple[int, int, int]]) -> None:
    assert is_emptied(HELD, standing(now))


def test_nothing_but_tombstones_may_go() -> None:
    assert not is_emptied(DestinationContents(HELD.blocks, HELD.rows, live=False), standing({}))
    assert not is_emptied(DestinationContents(), standing({}))


@pytest.mark.parametrize(
    ("now", "emptied"), [({}, True), ({"a": (1, 10, 100)}, False), ({"a": (1, 2, 2), "b": (3, 4, 2)}, False)]
)
def test_where_tombstones_are_cleaned_up_only_a_table_without_anything_of_before_is_emptied(
    now: dict[str, tuple[int, int, int]], emptied: bool
) -> None:
    assert is_emptied(HELD, standing(now, cleaned=True)) is emptied

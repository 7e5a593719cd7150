"""Lineage: who may be read now, and which positions are lost."""

from __future__ import annotations

from support.pipeline.pipeline_parts import mark, shard

from dyncdc.model.shards import Shard, ShardId
from dyncdc.pipeline.reading.lineage import lost_positions, ready, unread_parents


def listed(*shards: Shard) -> dict[ShardId, Shard]:
    return {found.id: found for found in shards}


def ids(*names: str) -> set[ShardId]:
    return {ShardId(name) for name in names}


def test_k1_a_child_waits_until_its_parent_is_finished() -> None:
    shards = listed(shard("p"), shard("c", "p"))
    assert [x.id for x in ready(shards, ids(), ids("p"), complete=True)] == []
    assert [x.id for x in ready(shards, ids("p"), ids(), complete=True)] == ["c"]


def test_k2_the_child_of_a_merge_waits_for_both_parents() -> None:
    shards = listed(shard("p"), shard("q"), shard("c", "p", "q"))
    assert [x.id for x in ready(shards, ids("p"), ids("q"), complete=True)] == []
    assert [x.id for x in ready(shards, ids("p", "q"), ids(), complete=True)] == ["c"]


def test_a_parent_that_has_expired_holds_no_one_back() -> None:
    assert [x.id for x in ready(listed(shard("c", "gone")), ids(), ids(), complete=True)] == ["c"]


def test_while_the_list_is_incomplete_an_unknown_parent_may_be_on_the_missing_page() -> None:
    shards = listed(shard("root"), shard("c", "unknown"))
    assert [x.id for x in ready(shards, ids(), ids(), complete=False)] == ["root"]


def test_what_is_finished_or_running_is_not_started_again() -> None:
    assert ready(listed(shard("a"), shard("b")), ids("a"), ids("b"), complete=True) == []


def test_a_position_is_lost_when_it_was_last_read_before_the_retention() -> None:
    saved = {ShardId("s"): mark(5, read_until=1_000.0)}
    assert list(lost_positions(saved, ids("s"), retention_seconds=100.0, now=1_100.0)) == []
    (lost,) = lost_positions(saved, ids("s"), retention_seconds=100.0, now=1_101.0)
    assert lost.shard == "s"


def test_an_unfinished_shard_that_is_no_longer_listed_is_lost_and_a_finished_one_is_not() -> None:
    saved = {ShardId("s"): mark(5, read_until=1_000.0), ShardId("f"): mark(5, read_until=1.0, finished=True)}
    assert [lost.shard for lost in lost_positions(saved, ids(), retention_seconds=1e9, now=1_000.0)] == ["s"]


def test_k3_a_shard_that_came_and_went_unread_is_told_of_by_its_child() -> None:
    listed = {one.id: one for one in (shard("new", "lost"), shard("old", "forgotten"), shard("c", "p"), shard("p"))}
    assert unread_parents(listed, ids("old", "p")) == {"lost": "new"}
    assert unread_parents(listed, ids("old", "p", "lost")) == {}

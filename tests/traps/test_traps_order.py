"""Order, duplicates, deletes: whatever comes, and however often, a key ends in its last state."""

from __future__ import annotations

from .stage import Stage, change, now


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


COLUMNS = {"id": "String", "value": "Nullable(String)"}


def test_o1_the_newest_change_wins_in_one_batch_in_two_and_over_two_shards(stage: Stage) -> None:
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    t = now()
    old, new = t + 100, t + 200
    stage.put(change(table, "INSERT", new, item("one batch", "new")), change(table, "INSERT", old, item("one batch")))
    stage.put(change(table, "INSERT", new, item("two batches", "new")))
    stage.put(change(table, "INSERT", new, item("two shards", "new")), slot=0.0)
    stage.put(change(table, "INSERT", old, item("two shards", "old")), slot=0.9)
    stage.once()
    stage.put(change(table, "MODIFY", old, item("two batches", "old")))
    stage.once()
    assert stage.rows() == [["one batch", "new"], ["two batches", "new"], ["two shards", "new"]]

"""What the judge of replicas calls one truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torture.replicas.judge import differing_tables

ITEMS = ["items", "ReplicatedReplacingMergeTree", "1f"]
VIEW = ["items_current", "View", ""]


def _world(*replicas: list[list[str]]) -> Any:
    servers = [SimpleNamespace(http=SimpleNamespace(rows=lambda sql, rows=rows: rows)) for rows in replicas]
    return SimpleNamespace(cluster=SimpleNamespace(replicas=servers), place=SimpleNamespace(name="torture1"))


def test_the_same_tables_on_all_are_one_truth() -> None:
    assert differing_tables(_world([ITEMS, VIEW], [VIEW, ITEMS], [ITEMS, VIEW])) == []


def test_a_table_of_the_same_name_under_another_uuid_is_another() -> None:
    (found,) = differing_tables(_world([ITEMS], [ITEMS], [[*ITEMS[:2], "2e"]]))
    assert found.startswith("items: ") and "2e" in found


def test_a_table_that_one_replica_lacks_is_named() -> None:
    (found,) = differing_tables(_world([ITEMS, VIEW], [ITEMS], [ITEMS, VIEW]))
    assert found == "items_current: ['View', 'none', 'View']"

"""What the judge of replicas calls one truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torture.replicas.judge import differing_tables, expect_nothing_written_apart

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


def test_rows_in_a_table_that_one_replica_has_to_itself_are_a_failure() -> None:
    def replica(rows: list[list[str]]) -> Any:
        return SimpleNamespace(http=SimpleNamespace(rows=lambda sql: rows), directory=SimpleNamespace(name="r2"))

    expect_nothing_written_apart(replica([]), "torture1")
    with pytest.raises(AssertionError, match=r"r2.*items"):
        expect_nothing_written_apart(replica([["items", "3"]]), "torture1")

"""Engines that no destination or history may have, with what to do."""

from __future__ import annotations

import pytest

from dyncdc.schema.existing.compatibility import incompatibilities
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.sql.history import history_incompatibilities
from dyncdc.schema.table_spec import KeyAttribute, TableSpec

SPEC = TableSpec("orders", "orders", (KeyAttribute("id", "S"),), (), history="orders_history")


def made(engine: str) -> ExistingTable:
    return ExistingTable("t", "u", engine, f"{engine}(x)", "id", "", ())


@pytest.mark.parametrize(
    ("engine", "todo"),
    [
        ("Distributed", "docs/clickhouse.md#clusters-of-several-shards"),
        ("View", "name the table that it reads"),
        ("Null", "use a ReplacingMergeTree"),
        ("SharedMergeTree", "use a ReplacingMergeTree"),
    ],
)
def test_a_destination_of_another_engine_is_refused_with_what_to_do(engine: str, todo: str) -> None:
    (refusal,) = incompatibilities(made(engine), SPEC)
    assert refusal.reason == f"its engine is {engine}"
    assert todo in refusal.todo


@pytest.mark.parametrize("engine", ["Distributed", "View", "Null"])
def test_a_history_of_another_engine_is_refused_by_name(engine: str) -> None:
    (refusal,) = history_incompatibilities(made(engine), SPEC)
    assert f"the engine {engine}" in refusal.reason

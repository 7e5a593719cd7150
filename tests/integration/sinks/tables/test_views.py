"""What stands under a view's name: ours, out of date, or someone else's that must never be replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyncdc.schema.sql.ddl import create_table, create_view
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.views import view_state

SPEC = TableSpec(
    "orders",
    "or.de rs`'",
    (KeyAttribute("id", "S"),),
    (ColumnSpec("id", "String", ("id",), ("S",), key=True), ColumnSpec("n", "Nullable(Int64)", ("n",), ("N",))),
)


async def test_a_view_of_ours_is_recognised_and_left_alone(clickhouse: ClickHouse) -> None:
    assert await view_state(clickhouse, SPEC, None) == "missing"
    await clickhouse.execute(create_table(SPEC))
    await clickhouse.execute(create_view(SPEC))
    assert await view_state(clickhouse, SPEC, await read_table(clickhouse, SPEC.destination)) == "current"


async def test_a_view_is_out_of_date_after_its_table_has_changed(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))
    await clickhouse.execute(create_view(SPEC))
    await clickhouse.execute("ALTER TABLE `or.de rs\\`\\'` ADD COLUMN more String")
    assert await view_state(clickhouse, SPEC, await read_table(clickhouse, SPEC.destination)) == "stale"


async def test_a_view_that_does_not_filter_what_can_be_deleted_is_out_of_date(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))
    await clickhouse.execute(create_view(replace(SPEC, deleted_column="")))
    assert await view_state(clickhouse, SPEC, await read_table(clickhouse, SPEC.destination)) == "stale"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE `or.de rs\\`\\'_current` (id String) ENGINE = MergeTree ORDER BY id",
        "CREATE VIEW `or.de rs\\`\\'_current` AS SELECT 1 AS one",
        "CREATE VIEW `or.de rs\\`\\'_current` AS SELECT * FROM system.one",
    ],
)
async def test_what_is_not_ours_under_the_name_is_foreign(clickhouse: ClickHouse, statement: str) -> None:
    await clickhouse.execute(statement)
    assert await view_state(clickhouse, SPEC, None) == "foreign"

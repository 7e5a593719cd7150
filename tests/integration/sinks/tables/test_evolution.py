"""Columns that several members add at once, and destinations that change under their rows, on a real ClickHouse."""

from __future__ import annotations

import asyncio

import pytest

from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import ColumnConfig, TableConfig
from dyncdc.errors import RejectedRowsError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.tables.evolution import refresh_view, run_add_columns
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.schema_check import SchemaCheck
from dyncdc.sinks.tables.views import view_state

ID = KeyAttribute("id", "S")
SPEC = TableSpec(
    "orders",
    "orders",
    (ID,),
    (
        ColumnSpec("id", "String", ("id",), ("S",), key=True),
        ColumnSpec("size", "Nullable(Int64)", ("size",), ("N",)),
    ),
)
CONFIG = TableConfig(dynamodb="orders", snapshot=SnapshotConfig(method="none"))


async def table_of(clickhouse: ClickHouse) -> ExistingTable:
    table = await read_table(clickhouse, "orders")
    assert table is not None
    return table


async def watched(clickhouse: ClickHouse) -> tuple[ClickHouseSink, list[str]]:
    """A sink over a fresh table, and the news that its watch tells."""
    await clickhouse.execute(create_table(SPEC))
    news: list[str] = []
    watch = SchemaCheck(clickhouse, news.append)
    table = await table_of(clickhouse)
    watch.expect("orders", table.uuid, {column.name: column.type for column in table.columns})
    return ClickHouseSink(clickhouse, watch), news


def block(size: bytes = b'"300"') -> Block:
    columns = ("id", "size", "_spill", "_version", "_deleted")
    return Block("orders", columns, [b'"a"', size, b'""', b"1", b"0"], 1, [b'"a"'], [1])


async def test_two_members_that_add_one_attribute_at_once_end_with_one_column(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))
    kinds = ["Nullable(String)", "Nullable(Int64)"]
    made = [[ColumnSpec("plan", kind, ("plan",), ("S" if "String" in kind else "N",))] for kind in kinds]
    await asyncio.gather(*(run_add_columns(clickhouse, "orders", columns, "_spill") for columns in made))
    specs = [existing_table_spec(CONFIG, (ID,), await table_of(clickhouse)) for _ in made]
    assert specs[0] == specs[1]
    [plan] = [column for column in specs[0].columns if column.name == "plan"]
    assert [plan] in made, "its type and what it takes belong together, whoever was first"


async def test_the_view_shows_what_several_members_have_added_at_once(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))

    async def member(name: str) -> None:
        await run_add_columns(clickhouse, "orders", [ColumnSpec(name, "Nullable(String)", (name,), ("S",))], "_spill")
        await refresh_view(clickhouse, SPEC)

    await asyncio.gather(*(member(name) for name in "pqrs"))
    assert await view_state(clickhouse, SPEC, await table_of(clickhouse)) == "current"


async def test_an_insert_into_what_it_was_made_for_is_durable(clickhouse: ClickHouse) -> None:
    sink, news = await watched(clickhouse)
    await sink.insert(block(), "t1")
    await sink.insert(block(), "t2")
    assert news == []


@pytest.mark.parametrize(
    "changes",
    [
        ["ALTER TABLE orders MODIFY COLUMN size Nullable(Int8)"],
        ["ALTER TABLE orders MODIFY COLUMN size Nullable(String)"],
        ["ALTER TABLE orders DROP COLUMN size"],
        ["ALTER TABLE orders RENAME COLUMN size TO length"],
        ["DROP TABLE orders SYNC"],
        ["DROP TABLE orders SYNC", create_table(SPEC)],
        ["RENAME TABLE orders TO away", create_table(SPEC)],
    ],
    ids=lambda changes: "; ".join(change[:45] for change in changes),
)
async def test_an_insert_into_anything_else_does_not_count(clickhouse: ClickHouse, changes: list[str]) -> None:
    sink, _ = await watched(clickhouse)
    await sink.insert(block(), "t1")
    for change in changes:
        await clickhouse.execute(change)
    with pytest.raises(DestinationChangedError):
        await sink.insert(block(), "t2")


async def test_a_row_that_is_refused_by_an_unchanged_table_is_to_blame(clickhouse: ClickHouse) -> None:
    sink, _ = await watched(clickhouse)
    with pytest.raises(RejectedRowsError):
        await sink.insert(block(b'"12.7"'), "t1")


async def test_columns_that_others_add_are_told_once(clickhouse: ClickHouse) -> None:
    sink, news = await watched(clickhouse)
    await clickhouse.execute("ALTER TABLE orders ADD COLUMN more Int64")
    await sink.insert(block(), "t1")
    await sink.insert(block(), "t2")
    assert news == ["orders"]


async def test_beside_a_configured_list_a_column_of_an_attributes_name_is_filled_and_not_made_twice(
    clickhouse: ClickHouse,
) -> None:
    listed = ColumnConfig(attribute="size", type="Nullable(Int64)")
    await clickhouse.execute(create_table(SPEC))
    await clickhouse.execute("ALTER TABLE orders ADD COLUMN plan Nullable(String)")
    table = await table_of(clickhouse)
    names = {}
    for evolve in ("add_columns", "spill"):
        config = CONFIG.model_copy(update={"columns": (listed,), "evolve": evolve})
        names[evolve] = [column.name for column in existing_table_spec(config, (ID,), table).columns]
    assert names == {"add_columns": ["id", "size", "plan"], "spill": ["id", "size"]}

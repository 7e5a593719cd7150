"""``clickhouse.insert_fsync`` over a real ClickHouse: made so, or told apart and altered."""

from __future__ import annotations

from dyncdc.schema.sql.ddl import create_table, create_view
from dyncdc.schema.sql.history import create_history
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.durability import set_fsync, with_fsync, without_fsync
from dyncdc.sinks.state.tables import own_statements, own_tables

ID = KeyAttribute("id", "S")
COLUMNS = (ColumnSpec("id", "String", ("id",), ("S",), key=True),)
SPEC = TableSpec("orders", "orders", (ID,), COLUMNS, history="orders_history")


async def test_every_table_is_made_with_fsync_where_it_is_asked_for(clickhouse: ClickHouse) -> None:
    statements = [*own_statements(), create_table(SPEC), create_history(SPEC), create_view(SPEC)]
    for statement in with_fsync(statements):
        assert statement.count("fsync_after_insert") == statement.startswith("CREATE TABLE")
        await clickhouse.execute(statement)
    names = [*own_tables(), "orders", "orders_history", "orders_current"]
    assert await without_fsync(clickhouse, [*names, "no one's"]) == []


async def test_own_tables_that_are_written_seldom_are_always_made_with_fsync(clickhouse: ClickHouse) -> None:
    """Catches: a gap that a loss of power takes back, and the settings that it came from stay noted."""
    for statement in own_statements():
        await clickhouse.execute(statement)
    assert await without_fsync(clickhouse, own_tables()) == [
        "dyncdc_checkpoint_history",
        "dyncdc_checkpoints",
        "dyncdc_dead_letters",
        "dyncdc_members",
        "dyncdc_watermarks",
    ]


async def test_a_table_that_was_made_without_is_told_apart_and_altered(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))
    assert await without_fsync(clickhouse, [SPEC.destination]) == [SPEC.destination]
    await clickhouse.execute(set_fsync(SPEC.destination, None))
    assert await without_fsync(clickhouse, [SPEC.destination]) == []
    await clickhouse.execute(f"ALTER TABLE {SPEC.destination} MODIFY SETTING fsync_part_directory = 0")
    assert await without_fsync(clickhouse, [SPEC.destination]) == [SPEC.destination]

"""New attributes become columns that show older rows' values too, without a restart and without a mutation."""

from __future__ import annotations

import pytest
from support.stage.stage import Stage, change, now, until

from dyncdc.schema.sql.default_expressions import default_expression
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.sinks.tables import evolution


def columns(stage: Stage, table: str = "orders") -> dict[str, str]:
    """Types by name of a table's columns; none while it is not there."""
    rows = stage.clickhouse.rows(
        f"SELECT name, type FROM system.columns WHERE database = '{stage.place.name}' AND table = '{table}'"
    )
    return {str(name): str(kind) for name, kind in rows}


def mutations(stage: Stage) -> int:
    """How many mutations the test's database has seen."""
    return stage.clickhouse.number(f"SELECT count() FROM system.mutations WHERE database = '{stage.place.name}'")


async def test_t12_a_new_attribute_becomes_a_column_with_old_and_new_values(stage: Stage) -> None:
    table = stage.table(items=[{"id": {"S": "a"}, "size": {"N": "1"}}])
    async with stage.living():
        await until(lambda: "orders_current" in stage.clickhouse.tables(), what="the table is there")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "old"}, "size": {"N": "2"}, "plan": {"S": "gold"}}))
        await until(lambda: "plan" in columns(stage, "orders_current"), what="the column is there")
        assert stage.rows(columns="id, plan") == [["old", "gold"]], "the row was written before its column"
        stage.put(change(table, "INSERT", now(), {"id": {"S": "new"}, "plan": {"S": "tin"}}))
        await until(lambda: stage.count() == 2, what="the second row is there")
        assert stage.rows(columns="id, plan, size") == [["new", "tin", None], ["old", "gold", "2"]]
        spilled = stage.clickhouse.rows("SELECT id, _spill != '' FROM orders FINAL ORDER BY id")
        assert spilled == [["new", 0], ["old", 1]], "what has a column needs no spill"
    assert columns(stage)["plan"] == "Nullable(String)"
    assert mutations(stage) == 0
    assert stage.merged(columns="id, plan") == [["new", "tin"], ["old", "gold"]]


async def test_t12_someone_elses_column_is_filled_from_the_next_look_on(stage: Stage) -> None:
    table = stage.table(evolve="spill")
    async with stage.living():
        await until(lambda: "orders_current" in stage.clickhouse.tables(), what="the table is there")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "a"}, "plan": {"S": "gold"}}))
        await until(lambda: stage.count() == 1)
        stage.clickhouse.run("ALTER TABLE orders ADD COLUMN plan Nullable(String)")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "b"}, "plan": {"S": "tin"}}))
        await until(lambda: "plan" in columns(stage, "orders_current"), what="the view shows it")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "c"}, "plan": {"S": "zinc"}}))
        await until(lambda: stage.count() == 3)
        assert stage.rows(columns="id, plan")[2] == ["c", "zinc"]


async def test_t12_a_column_narrowed_under_the_daemon_never_wraps_a_value(stage: Stage) -> None:
    table = stage.table(evolve="spill", items=[{"id": {"S": "a"}, "size": {"N": "1"}}])
    async with stage.living():
        await until(lambda: "size" in columns(stage, "orders_current"), what="the table is there")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "a"}, "size": {"N": "1"}}))
        await until(lambda: stage.count() == 1)
        stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN size Nullable(Int8)")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "b"}, "size": {"N": "300"}}))
        wanted = [["a", 1, ""], ["b", None, '{"size":{"N":"300"}}']]
        await until(lambda: stage.clickhouse.rows("SELECT id, size, _spill FROM orders FINAL ORDER BY id") == wanted)
    assert stage.dead_letters() == []


async def test_t12_a_column_dropped_under_the_daemon_rejects_no_row(stage: Stage) -> None:
    table = stage.table(evolve="spill", items=[{"id": {"S": "a"}, "size": {"N": "1"}}])
    async with stage.living():
        stage.put(change(table, "INSERT", now(), {"id": {"S": "a"}, "size": {"N": "1"}}))
        await until(lambda: stage.count() == 1, what="the first row is there")
        stage.clickhouse.run("ALTER TABLE orders DROP COLUMN size")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "b"}, "size": {"N": "2"}}))
        await until(lambda: stage.clickhouse.number("SELECT count() FROM orders FINAL") == 2, what="the row is there")
        assert stage.clickhouse.rows("SELECT _spill FROM orders FINAL WHERE id = 'b'") == [['{"size":{"N":"2"}}']]
        await until(lambda: "size" not in columns(stage, "orders_current"), what="the view goes without it")
    assert stage.dead_letters() == []


async def test_t12_a_table_dropped_under_the_daemon_is_made_and_filled_again(stage: Stage) -> None:
    table = stage.table(
        items=[{"id": {"S": "a"}}], snapshot={"method": "scan", "margin_seconds": 1, "settle_seconds": 0}
    )
    async with stage.living():
        await until(lambda: stage.count() == 1, what="the snapshot is there")
        stage.clickhouse.run("DROP TABLE orders SYNC")
        stage.place.aws.put(table, {"id": {"S": "b"}})
        await until(lambda: "orders" in stage.clickhouse.tables() and stage.count() == 2, 30.0, "both are there again")


async def test_one_column_that_clickhouse_cannot_have_keeps_no_other_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_itself(column: ColumnSpec, spill: str, beside: ColumnSpec | None = None) -> str | None:
        return column.name if column.name == "bad" else default_expression(column, spill, beside)

    monkeypatch.setattr(evolution, "default_expression", of_itself)  # CYCLIC_ALIASES: a code that tells nothing
    table = stage.table()
    async with stage.living():
        await until(lambda: "orders_current" in stage.clickhouse.tables(), what="the table is there")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "a"}, "bad": {"S": "1"}, "good": {"S": "2"}}))
        await until(lambda: "good" in columns(stage, "orders_current"), what="the good column is there")
        stage.put(change(table, "INSERT", now(), {"id": {"S": "b"}, "later": {"S": "3"}, "good": {"S": "4"}}))
        await until(lambda: stage.count() == 2, what="rows go on")
        assert stage.clickhouse.rows("SELECT good, _spill FROM orders FINAL ORDER BY id") == [
            ["2", '{"bad":{"S":"1"},"good":{"S":"2"}}'],
            ["4", '{"later":{"S":"3"}}'],
        ]
    assert "bad" not in columns(stage)

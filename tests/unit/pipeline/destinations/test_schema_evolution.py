"""Which new attributes become columns, and what happens to those that ClickHouse does not let us add."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support.pipeline.pipeline_parts import instruments_of
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError, RetryableError
from dyncdc.pipeline.destinations.schema_evolution import (
    REFUSED_PAUSE_SECONDS,
    DestinationChangedError,
    EvolvingTable,
    SchemaEvolution,
    decide,
)
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.unmapped import UnmappedAttributes
from dyncdc.telemetry.task_health import TaskHealth


def evolved(*columns: ColumnSpec, max_columns: int = 1000, flatten_depth: int = 1) -> EvolvingTable:
    """A table with these columns."""
    unmapped = UnmappedAttributes(nested="flatten", flatten_depth=flatten_depth, on_news=lambda: None)
    unmapped.set_columns(columns)
    return EvolvingTable(unmapped, max_columns, columns, [column.name for column in columns])


def decided(table: EvolvingTable, *items: dict[str, Any]) -> dict[str, str]:
    """Types by name of what becomes a column once these items were spilled."""
    for item in items:
        table.unmapped.observe(item)
    return {column.name: column.type for column in decide(table.unmapped.drain(), table).columns}


def column(name: str, *path: str) -> ColumnSpec:
    return ColumnSpec(name, "Nullable(Int64)", path or (name,), ("N",))


def test_everything_seen_of_an_attribute_decides_its_type() -> None:
    assert decided(evolved(), {"a": {"N": "1"}}, {"a": {"N": "2.5"}, "b": {"S": "x"}}) == {
        "a": "Nullable(Decimal(38, 2))",
        "b": "Nullable(String)",
    }


@pytest.mark.parametrize("value", [{"NULL": True}, {"L": []}, {"M": {}}, {"M": {"x": {"NULL": True}}}])
def test_what_tells_no_type_waits(value: dict[str, Any]) -> None:
    assert decided(evolved(), {"a": value}) == {}


def test_a_value_that_does_not_fit_its_column_makes_no_other_column() -> None:
    assert decided(evolved(column("a")), {"a": {"S": "text"}}) == {}


def test_a_new_key_of_a_known_map_becomes_a_column_and_the_known_ones_do_not() -> None:
    table = evolved(column("m_x", "m", "x"))
    assert decided(table, {"m": {"M": {"x": {"N": "1"}, "y": {"BOOL": True}}}}) == {"m_y": "Nullable(Bool)"}
    assert decided(table, {"m": {"S": "no map"}}) == {"m": "Nullable(String)"}


def test_a_name_that_another_attribute_has_taken_is_not_taken_again() -> None:
    [name] = decided(evolved(column("m_x", "m", "x")), {"m_x": {"S": "v"}})
    assert name.startswith("m_x_")


def test_a_map_that_grows_keys_forever_becomes_one_column() -> None:
    known = [column(f"m_{number}", "m", str(number)) for number in range(12)]
    assert decided(evolved(*known), {"m": {"M": {"new": {"N": "1"}}}}) == {"m": "Nullable(String)"}
    whole = {str(number): {"N": "1"} for number in range(13)}
    assert list(decided(evolved(*known), {"m": {"M": whole}})) == ["m_12"], "one item has them all: no dictionary"


def test_a_full_table_gets_no_more_columns() -> None:
    table = evolved(column("a"), max_columns=3)
    table.unmapped.observe({name: {"S": "x"} for name in "bcdef"})
    decision = decide(table.unmapped.drain(), table)
    assert (len(decision.columns), decision.full) == (2, True)


class Recorded:
    """Columns that fail as they are told to, then work."""

    def __init__(self, table: EvolvingTable, *failures: Exception) -> None:
        self.table = table
        self.failures = list(failures)
        self.added: list[tuple[float, list[str]]] = []
        self.looked: list[str] = []

    async def add(self, table: str, columns: Sequence[ColumnSpec]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.added.append((asyncio.get_running_loop().time(), [column.name for column in columns]))
        self.table.columns += tuple(columns)
        self.table.unmapped.set_columns(self.table.columns)

    async def refresh(self, table: str) -> None:
        self.looked.append(table)


async def run_for(evolving: SchemaEvolution, seconds: float) -> None:
    """Run the task for some seconds, then stop it as the end of a session does."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            evolving.run(instruments_of(health=TaskHealth(clock=asyncio.get_running_loop().time))), name="columns"
        )
        await asyncio.sleep(seconds)
        evolving.stop()


def started(*failures: Exception) -> tuple[SchemaEvolution, EvolvingTable, Recorded]:
    table = evolved()
    columns = Recorded(table, *failures)
    evolving = SchemaEvolution(columns, {"t": table})
    table.unmapped._on_news = evolving.note
    return evolving, table, columns


def test_columns_that_may_not_be_added_are_tried_again_with_what_came_meanwhile() -> None:
    async def live() -> None:
        evolving, table, columns = started(FatalError("missing grant"))
        table.unmapped.observe({"a": {"S": "x"}})
        asyncio.get_running_loop().call_later(5, lambda: table.unmapped.observe({"b": {"S": "x"}}))
        await run_for(evolving, REFUSED_PAUSE_SECONDS + 5)
        assert [names for _, names in columns.added] == [["a", "b"]]

    run(live())


def test_a_session_that_ends_adds_what_is_left_once_and_does_not_wait_for_clickhouse() -> None:
    async def live() -> None:
        evolving, table, columns = started(RetryableError("away"))
        asyncio.get_running_loop().call_later(5, lambda: table.unmapped.observe({"a": {"S": "x"}}))
        await run_for(evolving, 5.1)
        assert columns.added == []

    run(live())


def test_a_table_that_others_have_changed_is_looked_at_again() -> None:
    async def live() -> None:
        evolving, _, columns = started()
        evolving.changed("t")
        await run_for(evolving, 2)
        assert columns.looked == ["t"]

    run(live())


def test_a_table_that_is_another_one_now_ends_the_session() -> None:
    async def live() -> None:
        evolving, table, _ = started(DestinationChangedError("gone"))
        table.unmapped.observe({"a": {"S": "x"}})
        await run_for(evolving, 2)

    with pytest.raises(ExceptionGroup) as group:
        run(live())
    assert isinstance(group.value.exceptions[0], DestinationChangedError)

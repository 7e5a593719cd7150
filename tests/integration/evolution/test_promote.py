"""``dyncdc promote``: an attribute becomes a column by hand, with the daemon running and with it stopped."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.processes.harness import Ended
from support.stage.stage import Stage, change, now, until

from dyncdc.app.context import open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import load_config
from dyncdc.errors import ConfigError
from dyncdc.operations.promote import promote as run_promote

from .test_new_attributes import columns, mutations


def promote(stage: Stage, *arguments: str) -> Ended:
    """Run the command on the stage's configuration."""
    return stage.place.command("promote", *arguments, "-c", stage.configure("promote"))


def spilled(stage: Stage, *values: dict[str, object], **options: object) -> str:
    """A table whose rows hold these values of ``price``, all in the spill."""
    table = stage.table(evolve="spill", **options)
    for number, value in enumerate(values):
        stage.put(change(table, "INSERT", now(), {"id": {"S": str(number)}, "price": value}))  # type: ignore[dict-item]
    stage.once()
    return table


def test_t12_a_promoted_attribute_shows_older_rows_and_the_next_daemon_fills_it(stage: Stage) -> None:
    table = spilled(stage, {"N": "1"}, {"N": "2.5"}, {"NULL": True})
    done = promote(stage, table, "price", "Nullable(Decimal(38, 2))", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "table": table,
        "attribute": "price",
        "column": "price",
        "type": "Nullable(Decimal(38, 2))",
        "added": True,
        "values": 2,
        "left": 0,
    }
    assert stage.rows(columns="id, price") == [["0", "1"], ["1", "2.5"], ["2", None]]
    stage.put(change(table, "INSERT", now(), {"id": {"S": "3"}, "price": {"N": "4"}}))
    stage.once()
    assert stage.clickhouse.rows("SELECT price, _spill FROM orders FINAL WHERE id = '3'") == [["4", ""]]
    assert mutations(stage) == 0
    again = promote(stage, table, "price", "Nullable(Decimal(38,2))")
    assert again.code == 0 and "already" in again.out


def test_numbers_that_can_only_be_milliseconds_are_promoted_as_such(stage: Stage) -> None:
    table = spilled(stage, {"N": "1733000000123"}, {"N": "1733000000000"})
    done = promote(stage, table, "price", "Nullable(DateTime64(3, 'UTC'))")
    assert done.code == 0, done.err
    stage.put(change(table, "INSERT", now(), {"id": {"S": "2"}, "price": {"N": "1733000000456"}}))
    stage.once()
    moments = ["2024-11-30 20:53:20.123", "2024-11-30 20:53:20.000", "2024-11-30 20:53:20.456"]
    assert stage.rows(columns="id, price") == [[str(number), moment] for number, moment in enumerate(moments)]
    assert stage.clickhouse.rows("SELECT _spill FROM orders FINAL WHERE id = '2'") == [[""]]


async def test_t12_a_running_daemon_fills_what_was_promoted(stage: Stage) -> None:
    table = stage.table(evolve="spill")
    async with stage.living():
        await until(lambda: "orders_current" in stage.clickhouse.tables())
        stage.put(change(table, "INSERT", now(), {"id": {"S": "a"}, "m": {"M": {"x.y": {"S": "old"}}}}))
        await until(lambda: stage.count() == 1)
        done = await asyncio.to_thread(promote, stage, table, 'm."x.y"', "LowCardinality(Nullable(String))")
        assert done.code == 0, done.err
        [name] = columns(stage, "orders_current").keys() - {"id"}
        stage.put(change(table, "INSERT", now(), {"id": {"S": "b"}, "m": {"M": {"x.y": {"S": "new"}}}}))
        await until(lambda: stage.count() == 2)
        assert stage.rows(columns=f"id, {name}") == [["a", "old"], ["b", "new"]]


REFUSED = [
    ("price", "Nullable(Int64)", "2 values do not fit Nullable(Int64)"),
    ("price", "Nullable(UUID)", "3 values do not fit Nullable(UUID)"),
    ("price", "Array(Int64)", "cannot hold its values, which are N (2), S (1)"),
    ("price", "Tuple(Int8)", "using the column type"),
    ("price", "JSON", "cannot hold its values"),
    ("id", "String", "of the key"),
    ("price.", "String", "empty name"),
]


def test_what_would_blur_or_cannot_be_is_refused_and_changes_nothing(stage: Stage) -> None:
    table = spilled(stage, {"N": "1"}, {"N": "2.5"}, {"S": "three"})
    before = columns(stage)

    async def try_all() -> list[str]:
        config = load_config(stage.configure("promote"))
        told = []
        with limited(config, "promote") as startup_retry:
            async with open_context(config, startup_retry) as world:
                for attribute, kind, _ in REFUSED:
                    with pytest.raises(ConfigError) as refused:
                        await run_promote(world, table, attribute, kind)
                    told.append(str(refused.value))
        return told

    for text, (attribute, kind, why) in zip(asyncio.run(try_all()), REFUSED, strict=True):
        assert why in text, (attribute, kind)
    assert columns(stage) == before


def test_misfits_stay_in_the_spill_where_that_is_wanted(stage: Stage) -> None:
    table = spilled(stage, {"N": "1"}, {"N": "2.5"}, {"S": "three"})
    done = promote(stage, table, "price", "Nullable(Int64)", "--keep-misfits")
    assert done.code == 0, done.err
    assert "1 values came from the spill, 2 more stay in the spill" in done.out
    assert stage.rows(columns="id, price") == [["0", "1"], ["1", None], ["2", None]]


def test_a_wider_column_beside_a_narrow_one_shows_what_both_hold(stage: Stage) -> None:
    table = spilled(stage, {"N": "1"}, {"N": "2.5"})
    assert promote(stage, table, "price", "Nullable(Int64)", "--keep-misfits").code == 0
    stage.put(change(table, "INSERT", now(), {"id": {"S": "2"}, "price": {"N": "3"}}))
    stage.once()
    done = promote(stage, table, "price", "Nullable(Decimal(38, 2))", "--json")
    assert done.code == 0, done.err
    name = json.loads(done.out)["column"]
    assert stage.rows(columns=f"id, price, {name}") == [["0", "1", "1"], ["1", None, "2.5"], ["2", "3", "3"]]
    stage.put(change(table, "INSERT", now(), {"id": {"S": "3"}, "price": {"N": "4.5"}}))
    stage.once()
    assert stage.rows(columns=f"price, {name}")[-1] == [None, "4.5"]


def test_values_of_another_type_than_the_columns_get_one_of_their_own(stage: Stage) -> None:
    table = spilled(stage, {"N": "1"}, {"S": "three"})
    assert promote(stage, table, "price", "Nullable(Int64)", "--keep-misfits").code == 0
    stage.put(change(table, "INSERT", now(), {"id": {"S": "2"}, "price": {"N": "3"}}))
    stage.once()
    done = promote(stage, table, "price", "Nullable(String)", "--keep-misfits", "--json")
    assert done.code == 0, done.err
    name = json.loads(done.out)["column"]
    stage.put(change(table, "INSERT", now(), {"id": {"S": "3"}, "price": {"S": "four"}}))
    stage.once()
    wanted = [["0", "1", None], ["1", None, "three"], ["2", "3", None], ["3", None, "four"]]
    assert stage.rows(columns=f"id, price, {name}") == wanted


@pytest.mark.parametrize(
    ("has", "wanted", "kind", "holders"),
    [
        ({"m": "String"}, "m.k", "Nullable(Int64)", "m"),
        ({"m.k": "Nullable(Int64)", "m.s": "String"}, "m", "Map(String, Nullable(Int64))", "m_k, m_s"),
    ],
)
def test_what_a_column_of_the_same_map_holds_is_not_shown_as_absent(
    stage: Stage, has: dict[str, str], wanted: str, kind: str, holders: str
) -> None:
    listed = [
        {"attribute": name, "type": type_} | ({"from": "M"} if name == "m" else {}) for name, type_ in has.items()
    ]
    table = stage.table(evolve="spill", columns=listed)
    for number, value in enumerate(({"M": {"k": {"N": "1"}}}, {"NULL": True})):
        stage.put(change(table, "INSERT", now(), {"id": {"S": str(number)}, "m": value}))
    stage.put(change(table, "INSERT", now(), {"id": {"S": "2"}}))
    stage.once()
    before = columns(stage)
    refused = promote(stage, table, wanted, kind)
    assert refused.code == 2 and f"1 items have it in {holders}, and not in the spill" in refused.err
    assert columns(stage) == before
    assert promote(stage, table, wanted, kind, "--keep-misfits").code == 0

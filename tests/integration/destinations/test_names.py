"""Names that people have, long ones and ones with dots: they are replicated, or refused before anything is made."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from support.stage.stage import Stage, change, now, until

from dyncdc.config import load_config
from dyncdc.errors import ConfigError

from .test_destinations import SCAN, checked, item, lived


async def test_a_table_whose_name_has_two_hundred_characters_is_replicated(stage: Stage) -> None:
    """Catches: own tables, dead letters, metrics or files that take shorter names only."""
    label = "x" * (200 - len(stage.place.name) - 1)
    table = stage.table(label, items=[item("a", "first")], snapshot=SCAN)
    assert len(table) == 200
    async with stage.living():
        await until(lambda: stage.count(label) == 1, what="it is loaded")
        stage.put(change(table, "MODIFY", now(), item("a", "second")), change(table, "INSERT", "no time", item("b")))
        await until(lambda: stage.rows(label, "id, text") == [["a", "second"]], what="it is followed")
        assert await stage.await_metric("dyncdc_dead_letters_total", 1, table=table) == 1
        await until(
            lambda: [dead_letter["table"] for dead_letter in stage.dead_letters()] == [table],
            what="the dead letter is there",
        )
    assert await lived(load_config(stage.configure())) == 0


async def test_attributes_of_any_length_are_columns(stage: Stage) -> None:
    """Catches: a column's name that is a file's name too long, or a statement that is too large for the server."""
    loaded = {"id": {"S": "1"}, "a" * 60_000: {"S": "x"}, "é" * 200: {"S": "y"}, "f" * 60_000: {"S": "w"}}
    table = stage.table(items=[loaded], snapshot=SCAN)
    await stage.finish()
    stage.clickhouse.run("ALTER TABLE orders MODIFY SETTING min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0")
    stage.put(
        change(table, "INSERT", now(), {"id": {"S": "2"}} | {dead_letter * 60_000: {"S": "z"} for dead_letter in "bc"})
    )
    await stage.finish()
    await stage.finish()  # with the columns that have come, read back from what the server says of them
    assert stage.rows() == [["1", "x", "w", "y", None, None], ["2", None, None, None, "z", "z"]]
    assert stage.dead_letters() == []


@pytest.mark.parametrize("history", [False, True])
async def test_a_name_that_is_too_long_is_refused_before_anything_is_made(stage: Stage, history: bool) -> None:
    """Catches: a table that is made and a view that cannot be, called safe by ``check``."""
    if history:
        stage.table(history="orders-" * 30, items=[item("a")], snapshot=SCAN)
    else:
        stage.table("x" * 200, items=[item("a")], snapshot=SCAN)
    config = load_config(stage.configure())
    (finding,) = [one for one in await checked(config) if one.level == "error"]
    with pytest.raises(ConfigError, match=r"a file name of \d+ characters; ClickHouse takes \d+ at most") as caught:
        await lived(config)
    assert caught.value.hint == finding.todo == f"give tables.{'history' if history else 'clickhouse'} a shorter name"
    assert stage.clickhouse.tables() == set()


async def test_a_dot_in_a_destinations_name_is_said_to_name_no_database(stage: Stage) -> None:
    """Catches: ``db.table`` in silence, as a table of that literal name."""
    stage.table(items=[item("a")], snapshot=SCAN, clickhouse="shop.orders")
    words = "shop.orders is the name of a table, dot and all; a database is named in clickhouse.url"
    config = load_config(stage.configure())
    assert [one.text for one in await checked(config) if one.level == "warning"] == [words]
    with capture_logs() as logs:
        assert await lived(config) == 0
    assert [line["said"] for line in logs if line["log_level"] == "warning"] == [words]
    assert stage.clickhouse.rows("SELECT id FROM `shop.orders_current`") == [["a"]]
    stage.entries[0]["clickhouse"] = "orders"
    assert not any("dot and all" in one.text for one in await checked(load_config(stage.configure())))


async def test_a_stream_named_by_its_arn_in_one_place_and_by_its_name_in_another_is_read_once(stage: Stage) -> None:
    """Catches: two readers of one stream, of which either saves the other's positions."""
    columns = {"id": "String", "text": "Nullable(String)"}
    by_name = stage.table("orders", columns=columns)
    by_arn = stage.table("users", columns=columns, stream=stage.stream())
    stage.put(change(by_name, "INSERT", now(), item("a")), change(by_arn, "INSERT", now(), item("b")))
    async with stage.living():
        await until(lambda: stage.count("orders") == stage.count("users") == 1, what="both are there")
        assert await stage.metric("dyncdc_records_read_total") == 2
    assert stage.clickhouse.rows("SELECT uniqExact(source) FROM dyncdc_checkpoints") == [["1"]]


def test_attributes_named_as_columns_of_clickhouses_or_our_own_have_others(stage: Stage) -> None:
    """Catches: a column beside a virtual one of its name, with which every ``SELECT *`` ends the server."""
    loaded = {"_part_granule_offset": {"S": "a"}, "_version": {"S": "b"}, "_deleted": {"N": "1"}, "_spill": {"S": "c"}}
    streamed = {"_part_offset": {"S": "d"}, "_row_exists": {"N": "0"}, "_anything": {"S": "e"}}
    table = stage.table(items=[{"id": {"S": "1"}} | loaded], snapshot=SCAN)
    stage.once()
    stage.place.aws.put(table, {"id": {"S": "2"}} | streamed)
    stage.once()
    stage.place.aws.put(table, {"id": {"S": "3"}} | loaded | streamed)
    stage.once()
    names = stage.clickhouse.dicts("SELECT * FROM orders")[0]
    assert [name for name in names if name.startswith("_")] == ["_spill", "_version", "_deleted"]
    assert len(names) == 1 + len(loaded) + len(streamed) + 3
    assert stage.count() == 3 and stage.verify(table).startswith("EQUAL")

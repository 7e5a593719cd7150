"""A table that can not be used is left out alone: its neighbours go on, and it joins again without a loss.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio

import pytest
from support.stage.stage import Stage, until

from dyncdc.app import run_daemon
from dyncdc.app.daemon import startup
from dyncdc.app.run_options import RunOptions
from dyncdc.config import load_config
from dyncdc.errors import ConfigError
from dyncdc.pipeline.destinations import destination_monitor, streaming_monitor

SCAN = {"method": "scan", "margin_seconds": 1, "settle_seconds": 0}
BAD, GOOD = "orders", "others"
TTL = "ALTER TABLE orders MODIFY TTL fromUnixTimestamp64Micro(_version) + INTERVAL 10 YEAR"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come often, so that a test does not wait for them."""
    monkeypatch.setattr(destination_monitor, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(streaming_monitor, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(startup, "REOPEN_SECONDS", 0.2)


def item(key: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": key}}


async def loaded(stage: Stage) -> dict[str, str]:
    """Two tables on one stream of one shard, both loaded. DynamoDB's names of them by those of the destinations."""
    tables = {label: stage.table(label, items=[item("first")], snapshot=SCAN) for label in (BAD, GOOD)}
    await stage.finish()
    assert [stage.count(label) for label in tables] == [1, 1]
    return tables


async def said(stage: Stage, words: str) -> None:
    async with asyncio.timeout(25):
        while words not in (await stage.page("/healthz"))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def ids(stage: Stage, table: str) -> list[object]:
    return [row[0] for row in stage.rows(table, "id")]


async def neighbour_goes_on(stage: Stage, tables: dict[str, str], key: str) -> None:
    """Change both tables: one change arrives, behind one that is held back."""
    stage.place.aws.put(tables[BAD], item(key))
    stage.place.aws.put(tables[GOOD], item(key))
    await until(lambda: key in ids(stage, GOOD), 20.0, "the neighbour's change")


async def left_out(stage: Stage, tables: dict[str, str], words: str) -> None:
    """The table is named, red and not ready, and its metric says so; its neighbour's does not."""
    await said(stage, f"table:{tables[BAD]}")
    await said(stage, words)
    status, text = await stage.page("/readyz")
    assert status == 503 and tables[BAD] in text and tables[GOOD] not in text
    assert await stage.metric("dyncdc_table_usable", table=tables[BAD]) == 0
    assert await stage.metric("dyncdc_table_usable", table=tables[GOOD]) == 1


async def joined(stage: Stage, tables: dict[str, str], keys: set[str]) -> None:
    """Everything is there, without a gap that a snapshot had to close."""
    await until(lambda: BAD in stage.clickhouse.tables() and keys <= set(ids(stage, BAD)), 20.0, "what was held back")
    await until(lambda: keys <= set(ids(stage, GOOD)), 20.0, "the neighbour's changes")
    async with asyncio.timeout(20):
        while (await stage.page("/readyz"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await stage.metric("dyncdc_table_usable", table=tables[BAD]) == 1
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


@pytest.mark.parametrize("when", ["before", "while running"])
async def test_a_ttl_on_one_destination_holds_that_table_alone(stage: Stage, when: str) -> None:
    """Catches: all tables waiting, or exit 2, for the TTL of one; a position that moves past what was held back."""
    tables = await loaded(stage)
    if when == "before":
        stage.clickhouse.run(TTL)
    async with stage.living() as session:
        if when != "before":
            await until(lambda: stage.clickhouse.number("SELECT count() FROM dyncdc_destinations") > 0)
            await until_ready(stage)
            stage.clickhouse.run(TTL)
        await left_out(stage, tables, "TTL removes rows")
        await neighbour_goes_on(stage, tables, "second")
        await neighbour_goes_on(stage, tables, "third")
        stage.clickhouse.run("ALTER TABLE orders REMOVE TTL")
        await joined(stage, tables, {"first", "second", "third"})
        assert not session.done()


async def until_ready(stage: Stage) -> None:
    async with asyncio.timeout(20):
        while (await stage.page("/readyz"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_what_is_held_back_survives_a_process_that_dies_meanwhile(stage: Stage) -> None:
    """Catches: positions saved past the changes of a table that was left out."""
    tables = await loaded(stage)
    stage.clickhouse.run(TTL)
    async with stage.living():
        await left_out(stage, tables, "TTL removes rows")
        await neighbour_goes_on(stage, tables, "second")
        await asyncio.sleep(1.5)  # positions are saved each second
    async with stage.living():
        await left_out(stage, tables, "TTL removes rows")
        await neighbour_goes_on(stage, tables, "third")
    stage.clickhouse.run("ALTER TABLE orders REMOVE TTL")
    async with stage.living():
        await joined(stage, tables, {"first", "second", "third"})


async def test_a_destination_made_again_with_another_sorting_key_holds_that_table_alone(stage: Stage) -> None:
    """Catches: all tables waiting for one whose destination does not fit any more."""
    tables = await loaded(stage)
    made = stage.clickhouse.rows(
        "SELECT create_table_query FROM system.tables WHERE name = 'orders' AND database = currentDatabase()"
    )[0][0]
    wrong = (
        str(made).replace("ORDER BY id", "ORDER BY (id, _version)").replace("ORDER BY (id)", "ORDER BY (id, _version)")
    )
    assert wrong != made
    async with stage.living() as session:
        await until_ready(stage)
        stage.clickhouse.run("DROP TABLE orders SYNC")
        stage.clickhouse.run(wrong.replace(wrong[: wrong.index("(")], "CREATE TABLE orders "))
        await left_out(stage, tables, "ORDER BY")
        await neighbour_goes_on(stage, tables, "second")
        stage.clickhouse.run("DROP TABLE orders SYNC")
        await until(
            lambda: BAD in stage.clickhouse.tables() and {"first", "second"} <= set(ids(stage, BAD)),
            30.0,
            "it is reloaded",
        )
        assert not session.done()


async def test_a_destination_that_is_detached_at_a_start_holds_that_table_alone(stage: Stage) -> None:
    """Catches: a start that waits for ATTACH TABLE with all tables."""
    tables = await loaded(stage)
    stage.clickhouse.run("DETACH TABLE orders")
    async with stage.living() as session:
        await left_out(stage, tables, "ATTACH TABLE")
        await neighbour_goes_on(stage, tables, "second")
        stage.clickhouse.run("ATTACH TABLE orders")
        await joined(stage, tables, {"first", "second"})
        assert not session.done()


async def test_a_streaming_destination_that_is_off_at_a_start_holds_that_table_alone(stage: Stage) -> None:
    """Catches: exit 1 of all tables; changes that were never sent counted as covered."""
    tables = await loaded(stage)
    aws, arn = stage.place.aws, stage.stream()
    aws.dynamodb.disable_kinesis_streaming_destination(TableName=tables[BAD], StreamArn=arn)
    async with stage.living() as session:
        await left_out(stage, tables, "do not go to stream")
        await neighbour_goes_on(stage, tables, "second")
        aws.send_changes(tables[BAD], arn)
        await until(lambda: "second" in ids(stage, BAD), 30.0, "what was not sent is loaded")
        assert not session.done()
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps WHERE `table` = '" + tables[GOOD] + "'") == 0


async def test_a_table_that_is_missing_in_dynamodb_holds_nothing_else(stage: Stage) -> None:
    """Catches: exit 1 of all tables for one that was deleted."""
    tables = await loaded(stage)
    stage.place.aws.dynamodb.delete_table(TableName=tables[BAD])
    stage.place.tables.remove(tables[BAD])
    async with stage.living() as session:
        await left_out(stage, tables, tables[BAD])
        stage.place.aws.put(tables[GOOD], item("second"))
        await until(lambda: "second" in ids(stage, GOOD), 20.0, "the neighbour's change")
        assert not session.done()


async def test_a_configuration_that_is_wrong_by_itself_still_ends_the_process(stage: Stage) -> None:
    """Catches: a spelling mistake taken for a table that may be fixed elsewhere."""
    await loaded(stage)
    stage.entries[0]["columns"] = [{"attribute": "id", "type": "Strin"}]
    with pytest.raises(ConfigError):
        await asyncio.create_task(run_daemon(load_config(stage.configure()), RunOptions(once=False)))


async def test_run_once_names_the_table_that_can_not_be_used(stage: Stage) -> None:
    """Catches: exit 0 of a run that has left a table out."""
    await loaded(stage)
    stage.clickhouse.run(TTL)
    with pytest.raises(ConfigError, match="TTL"):
        await asyncio.create_task(run_daemon(load_config(stage.configure()), RunOptions(once=True)))

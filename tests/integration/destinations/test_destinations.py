"""Destinations that change hands, are emptied or wait: what was acknowledged is there, or is a gap that is made good.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
import base64

import pytest
from support.stage.stage import Stage, until

from dyncdc.app import run_daemon
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config, load_config
from dyncdc.errors import ConfigError
from dyncdc.operations.check.checker import Checker
from dyncdc.operations.check.findings import Finding
from dyncdc.operations.snapshot import accept_deletes, request_snapshot
from dyncdc.pipeline.destinations import destination_monitor, streaming_monitor
from dyncdc.pipeline.snapshot import sweep

SCAN = {"method": "scan", "margin_seconds": 1, "settle_seconds": 0}
OTHER = "CREATE TABLE orders_b AS orders"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come often, so that a test does not wait for them."""
    monkeypatch.setattr(destination_monitor, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(streaming_monitor, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(sweep, "LETTERS_POLL_SECONDS", 0.2)


def item(key: str, text: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "text": {"S": text}}


def delete(stage: Stage, table: str, key: str) -> None:
    stage.place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": key}})


async def loaded(stage: Stage) -> str:
    """A table of ten items that a session has loaded."""
    stage.options["run"] = {"stuck_after_seconds": 3}
    table = stage.table(items=[item(f"k{number}", "first") for number in range(10)], snapshot=SCAN)
    await stage.finish()
    assert stage.count() == 10
    return table


def gaps(stage: Stage) -> list[str]:
    """Why there are gaps, of those that are recovered."""
    rows = stage.clickhouse.rows("SELECT DISTINCT reason FROM dyncdc_gaps WHERE recovered_at IS NOT NULL ORDER BY ALL")
    return [str(reason) for (reason,) in rows]


def open_gaps(stage: Stage) -> int:
    return stage.clickhouse.number(
        "SELECT uniqExact(`table`, `from`) - uniqExactIf((`table`, `from`), recovered_at IS NOT NULL) FROM dyncdc_gaps"
    )


@pytest.mark.parametrize("running", [True, False])
async def test_what_went_to_an_exchanged_table_is_a_gap_of_the_one_that_comes_back(stage: Stage, running: bool) -> None:
    """Catches: a complete snapshot of a table's UUID taken for good, whatever was written elsewhere since."""
    table = await loaded(stage)
    put = stage.place.aws.put
    async with stage.living():
        stage.clickhouse.run(OTHER)
        stage.clickhouse.run("EXCHANGE TABLES orders AND orders_b")
        await until(lambda: stage.count() == 10, 25, "the second table is loaded")
        put(table, item("k1", "meanwhile"))
        delete(stage, table, "k2")
        await until(lambda: stage.count() == 9, what="changes go to the second table")
        if running:
            stage.clickhouse.run("EXCHANGE TABLES orders AND orders_b")
            await until(lambda: gaps(stage) != [], what="the gap is made good")
    if not running:
        stage.clickhouse.run("EXCHANGE TABLES orders AND orders_b")
        await stage.finish()
    assert any("another table" in reason for reason in gaps(stage)) and open_gaps(stage) == 0
    assert stage.rows(columns="id, text")[1:2] == [["k1", "meanwhile"]] and stage.count() == 9


@pytest.mark.parametrize("running", [True, False])
async def test_a_truncated_destination_is_a_gap_and_filled_again(stage: Stage, running: bool) -> None:
    """Catches: rows counted as durable for good."""
    table = await loaded(stage)
    async with stage.living():
        await ready(stage)
        if running:
            stage.clickhouse.run("TRUNCATE TABLE orders")
            stage.place.aws.put(table, item("k1", "after"))
            await until(lambda: gaps(stage) != [], what="the gap is made good")
    if not running:
        stage.clickhouse.run("TRUNCATE TABLE orders")
        stage.place.aws.put(table, item("k1", "after"))
        await stage.finish()
    assert [("TRUNCATE" in reason) for reason in gaps(stage)] == [True] and open_gaps(stage) == 0
    assert stage.count() == 10 and ["k1", "after"] in stage.rows(columns="id, text")


def held(stage: Stage) -> bool:
    return stage.clickhouse.number("SELECT count() FROM dyncdc_destinations WHERE notEmpty(blocks) AND live") > 0


async def test_merges_mutations_and_deleted_items_are_no_gap(stage: Stage) -> None:
    """Catches: a row count, or the names of parts, taken for what was there."""
    table = await loaded(stage)
    async with stage.living():
        await ready(stage)
        for number in range(3):
            for key in range(10):
                stage.place.aws.put(table, item(f"k{key}", f"round {number}"))
            await until(lambda n=number: ["k9", f"round {n}"] in stage.rows(columns="id, text"), what="it is there")
            stage.clickhouse.run("OPTIMIZE TABLE orders FINAL")
        for key in range(9):
            delete(stage, table, f"k{key}")
        await until(lambda: stage.count() == 1, what="nine are deleted")
        stage.clickhouse.run("OPTIMIZE TABLE orders FINAL")
        stage.clickhouse.run("ALTER TABLE orders DELETE WHERE _deleted = 1 SETTINGS mutations_sync = 2")
        stage.clickhouse.run("ALTER TABLE orders UPDATE text = 'x' WHERE 0 SETTINGS mutations_sync = 2")
        stage.place.aws.put(table, item("new"))
        await until(lambda: stage.count() == 2, what="rows go on")
    await stage.finish()
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


async def test_a_detached_destination_is_waited_for_by_name_until_it_is_attached(stage: Stage) -> None:
    """Catches: a table taken for dropped, so that another is made or the process ends."""
    table = await loaded(stage)
    async with stage.living() as session:
        await ready(stage)
        stage.clickhouse.run("DETACH TABLE orders")
        stage.place.aws.put(table, item("k1", "while detached"))
        await said(stage, "ATTACH TABLE")
        stage.clickhouse.run("ATTACH TABLE orders")
        await until(lambda: ["k1", "while detached"] in stage.rows(columns="id, text"), what="it goes on")
        assert not session.done()
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


async def said(stage: Stage, words: str) -> None:
    """Wait until the session's page of health says something."""
    async with asyncio.timeout(25):
        while words not in (await stage.page("/healthz"))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def ready(stage: Stage) -> None:
    """Wait until the session reads, and has written down what the destination holds."""
    async with asyncio.timeout(15):
        while (await stage.page("/readyz"))[0] != 200 or not held(stage):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_source_table_made_again_under_its_name_leaves_nothing_of_the_old_one(stage: Stage) -> None:
    """Catches: DeleteTable, which sends no deletes, taken for nothing."""
    table = await loaded(stage)
    dynamodb = stage.place.aws.dynamodb
    async with stage.living():
        await ready(stage)
        dynamodb.delete_table(TableName=table)
        stage.place.tables.remove(table)
        assert stage.place.make_table("orders", {"id": "S"}) == table
        stage.place.aws.send_changes(table, stage.stream())
        for number in range(5):
            stage.place.aws.put(table, item(f"n{number}", "anew"))
        await until(lambda: gaps(stage) != [] and stage.count() == 5, 30.0, "the old items are gone")
    assert gaps(stage) == ["the table was deleted and created again"]
    assert [row[0] for row in stage.rows(columns="id")] == [f"n{number}" for number in range(5)]


async def test_a_source_table_made_again_with_another_key_is_refused_by_name(stage: Stage) -> None:
    """Catches: items of another key written where they replace each other."""
    table = await loaded(stage)
    async with stage.living() as session:
        await ready(stage)
        stage.place.aws.dynamodb.delete_table(TableName=table)
        stage.place.tables.remove(table)
        assert stage.place.make_table("orders", {"other": "S"}) == table
        stage.place.aws.send_changes(table, stage.stream())
        stage.place.aws.put(table, {"other": {"S": "a"}, "id": {"S": "b"}})
        await said(stage, "key attribute other")
        assert not session.done()


async def test_a_destination_of_another_table_is_refused_with_both_names(stage: Stage) -> None:
    """Catches: the first load of one table marking the rows of another as deleted."""
    first = await loaded(stage)
    second = stage.table("orders2", items=[item("x")], snapshot=SCAN, clickhouse="orders")
    only = [entry for entry in stage.entries if entry["dynamodb"] == second]
    config = load_config(str(stage.place.configure(only, "second", pipeline="another")))
    with pytest.raises(ConfigError) as raised:
        await lived(config)
    assert first in str(raised.value) and second in str(raised.value) and "accept-deletes" in raised.value.hint
    assert stage.count() == 10
    assert any(first in finding.text for finding in await checked(config) if finding.level == "error")
    await accept_deletes(config, second)
    assert await lived(config) == 0
    assert stage.rows(columns="id") == [["x"]], "a person has said so"
    stage.entries = [entry for entry in stage.entries if entry["dynamodb"] == first]
    with pytest.raises(ConfigError, match="orders2"):
        await lived(load_config(stage.configure()))


async def lived(config: Config) -> int:
    """Live until all is done, in a task of its own: one that a session has ended by an error is not used again."""
    return await asyncio.create_task(run_daemon(config, RunOptions(once=True)))


async def checked(config: Config) -> list[Finding]:
    with limited(config, "check") as startup_retry:
        checker = Checker(config, startup_retry)
        await checker.run()
    return checker.findings


async def test_check_counts_rows_that_the_first_load_may_mark_as_deleted(stage: Stage) -> None:
    """Catches: a table with someone else's rows called safe, and no more."""
    stage.table(columns={"id": "String"}, snapshot=SCAN)
    stage.clickhouse.run(
        "CREATE TABLE orders (id String, _version Int64, _deleted UInt8, _spill String)"
        " ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id"
    )
    config = load_config(stage.configure())
    words = "rows are in it that dyncdc has not written"
    assert not any(words in finding.text for finding in await checked(config))
    stage.clickhouse.run("INSERT INTO orders (id, _version) VALUES ('a', 1), ('b', 1)")
    assert any(f"2 {words}" in one.text for one in await checked(config) if one.level == "warning")
    await stage.finish()
    assert not any(words in finding.text for finding in await checked(config)), "they are known now"


async def test_a_pipeline_of_another_name_goes_on_with_the_destination_of_one_that_has_ended(stage: Stage) -> None:
    """Catches: a destination that belongs to the name of a pipeline forever, or to two at a time."""
    table = await loaded(stage)
    stage.place.aws.put(table, item("k1", "second"))
    async with stage.living():
        await ready(stage)
        config = load_config(str(stage.place.configure(stage.entries, "second", pipeline="renamed")))
        with pytest.raises(ConfigError, match=f"pipeline {stage.place.name} writes it now"):
            await lived(config)
    stage.clickhouse.run("ALTER TABLE dyncdc_members DELETE WHERE 1 SETTINGS mutations_sync = 2")  # 15 s later
    assert await lived(config) == 0
    assert ["k1", "second"] in stage.rows(columns="id, text") and stage.count() == 10


async def test_what_went_to_another_destination_of_the_configuration_is_a_gap_when_that_is_taken_back(
    stage: Stage,
) -> None:
    """Catches: a name in the configuration that leads elsewhere for a while."""
    table = await loaded(stage)
    stage.entries[0]["clickhouse"] = "other"
    stage.place.aws.put(table, item("k1", "meanwhile"))
    await stage.finish()
    stage.entries[0]["clickhouse"] = "orders"
    await stage.finish()
    assert ["k1", "meanwhile"] in stage.rows(columns="id, text") and stage.count() == 10
    assert gaps(stage) and open_gaps(stage) == 0


async def test_a_load_that_would_delete_most_items_waits_for_a_word_also_after_a_restart(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: an emptied or mistaken source that empties the destination."""
    monkeypatch.setattr(sweep, "FEW_ITEMS", 2)
    table = await loaded(stage)
    for number in range(9):
        stage.clickhouse.run(f"INSERT INTO orders (id, _version) VALUES ('orphan row{number}', 1)")
    for number in range(9):
        stage.clickhouse.run(f"INSERT INTO orders (id, _version) VALUES ('more{number}', 1)")
    path = stage.configure()
    await request_snapshot(load_config(path), table)
    for _ in range(2):
        async with stage.living():
            await said(stage, "--accept-deletes")
            assert stage.count() == 28
    async with stage.living():
        await said(stage, "--accept-deletes")
        asked = await accept_deletes(load_config(path), table)
        assert asked.going_on
        await until(lambda: stage.count() == 10, what="the sweep goes on")


@pytest.mark.parametrize(
    ("change", "words", "mended"),
    [
        (
            "ALTER TABLE orders MODIFY TTL toDateTime(intDiv(_version, 1000000)) + INTERVAL 9 YEAR",
            "its TTL removes rows",
            "ALTER TABLE orders REMOVE TTL",
        ),
        (
            "ALTER TABLE orders MODIFY COLUMN text TTL toDateTime(intDiv(_version, 1000000)) + INTERVAL 9 YEAR",
            "the TTL of its column text",
            "ALTER TABLE orders MODIFY COLUMN text REMOVE TTL",
        ),
        ("EXCHANGE TABLES orders AND nothing", "its engine is Null", "EXCHANGE TABLES orders AND nothing"),
    ],
)
async def test_what_would_take_rows_away_is_refused_by_name_while_running_until_it_is_taken_back(
    stage: Stage, change: str, words: str, mended: str
) -> None:
    """Catches: a definition that is looked at as a session begins only."""
    table = await loaded(stage)
    stage.clickhouse.run("CREATE TABLE nothing (id String, text String, _version Int64) ENGINE = Null")
    async with stage.living() as session:
        await ready(stage)
        stage.clickhouse.run(change)
        stage.place.aws.put(table, item("k1", "meanwhile"))
        await said(stage, words)
        stage.clickhouse.run(mended)
        await until(lambda: ["k1", "meanwhile"] in stage.rows(columns="id, text"), what="it goes on")
        assert not session.done() and stage.count() == 10
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


@pytest.mark.parametrize(("mode", "safe"), [("ignore", False), ("rebuild", True)])
async def test_a_projection_added_in_flight_is_refused_by_name_unless_it_follows_the_rows(
    stage: Stage, mode: str, safe: bool
) -> None:
    """Catches: readers that are answered out of a projection with the rows that were replaced."""
    table = await loaded(stage)
    async with stage.living() as session:
        await ready(stage)
        stage.clickhouse.run(f"ALTER TABLE orders MODIFY SETTING deduplicate_merge_projection_mode = '{mode}'")
        stage.clickhouse.run("ALTER TABLE orders ADD PROJECTION by_text (SELECT * ORDER BY text)")
        stage.place.aws.put(table, item("k1", "meanwhile"))
        if not safe:
            await said(stage, "its projection by_text may show rows that were replaced")
            stage.clickhouse.run("ALTER TABLE orders DROP PROJECTION by_text")
        await until(lambda: ["k1", "meanwhile"] in stage.rows(columns="id, text"), what="it goes on")
        assert not session.done() and stage.count() == 10
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


async def test_a_constraint_added_in_flight_makes_letters_of_what_violates_it_and_of_nothing_else(stage: Stage) -> None:
    """Catches: a delete, whose row has no attributes, that holds its table forever or is lost without a word."""
    table = await loaded(stage)
    async with stage.living() as session:
        await ready(stage)
        stage.clickhouse.run("ALTER TABLE orders ADD CONSTRAINT has_text CHECK notEmpty(ifNull(text, ''))")
        delete(stage, table, "k2")
        for number in range(3, 6):
            stage.place.aws.put(table, item(f"k{number}", "meanwhile"))
        await until(lambda: stage.dead_letters() != [], what="the delete is a dead letter")
        await until(lambda: sum("meanwhile" in row for row in stage.rows()) == 3, what="the others have arrived")
        assert not session.done()
    (dead_letter,) = stage.dead_letters()
    assert "has_text" in str(dead_letter["error"]) and "REMOVE" in base64.b64decode(str(dead_letter["raw"])).decode(), (
        dead_letter
    )
    assert stage.count() == 10 and stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


async def test_a_stuck_mutation_keeps_nothing_from_the_destination(stage: Stage) -> None:
    """Catches: a look or an insert that waits for mutations."""
    table = await loaded(stage)
    async with stage.living():
        await ready(stage)
        stage.clickhouse.run("SYSTEM STOP MERGES orders")
        stage.clickhouse.run("ALTER TABLE orders UPDATE text = 'mutated' WHERE 1 SETTINGS mutations_sync = 0")
        stage.place.aws.put(table, item("k1", "meanwhile"))
        await until(lambda: ["k1", "meanwhile"] in stage.rows(columns="id, text"), what="rows go on")
    undone = "SELECT countIf(is_done = 0) FROM system.mutations WHERE database = currentDatabase()"
    assert stage.clickhouse.number(undone) == 1
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0


async def test_a_destination_detached_before_the_start_is_waited_for_too(stage: Stage) -> None:
    """Catches: CREATE TABLE IF NOT EXISTS, which does nothing while the name belongs to a detached table."""
    table = await loaded(stage)
    stage.clickhouse.run("DETACH TABLE orders")
    async with stage.living():
        await said(stage, "ATTACH TABLE")
        stage.place.aws.put(table, item("k1", "while detached"))
        stage.clickhouse.run("ATTACH TABLE orders")
        await until(lambda: ["k1", "while detached"] in stage.rows(columns="id, text"), what="it goes on")
    assert stage.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0

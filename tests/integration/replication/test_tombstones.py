"""O6: tombstones are cleaned up, and nothing brings back what they held down."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from support.stage.stage import Stage, change, now, until

from dyncdc.pipeline.checkpoint import tombstone_cleanup

COLUMNS = {"id": "String", "n": "Nullable(Int8)"}
SECOND = 1_000_000
DAY = 86_400 * SECOND


def item(key: str, n: str = "1") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "n": {"N": n}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come quickly."""
    monkeypatch.setattr(tombstone_cleanup, "FIRST_SECONDS", 0.2)


def stored(stage: Stage) -> list[object]:
    """Keys of which anything is left."""
    return [key for (key,) in stage.clickhouse.rows("SELECT DISTINCT id FROM orders ORDER BY id")]


async def clean(stage: Stage) -> None:
    """Live until tombstones have been cleaned up once more."""
    query = "SELECT count() FROM dyncdc_tombstones WHERE keys > 0"
    before = stage.clickhouse.number(query) if "dyncdc_tombstones" in stage.clickhouse.tables() else 0
    async with stage.living():
        await until(
            lambda: "dyncdc_tombstones" in stage.clickhouse.tables() and stage.clickhouse.number(query) > before,
            20,
            "tombstones are cleaned up",
        )


def deleted(table: str, key: str, at: int) -> list[bytes]:
    return [change(table, "INSERT", at, item(key)), change(table, "REMOVE", at + 1, item(key))]


def test_o6_old_tombstones_go_key_and_all_and_what_is_read_again_stays_deleted(stage: Stage) -> None:
    """Catches: tombstones that a replay still needs; older rows left behind; live items that go with them."""
    table = stage.table(columns=COLUMNS, clean_tombstones=True)
    old, young = now() - 3 * DAY, now() - 3600 * SECOND
    stage.put_all([*deleted(table, "old", old), change(table, "INSERT", old, item("alive"))])
    stage.put_all([*deleted(table, "again", old), change(table, "INSERT", young, item("again"))])
    stage.put_all(deleted(table, "young", young))
    stage.once()
    asyncio.run(clean(stage))
    assert stored(stage) == ["again", "alive", "young"]
    stage.put(change(table, "INSERT", young, item("young")))
    stage.once()
    assert stage.rows(columns="id") == [["again"], ["alive"]]
    status = stage.place.command("status", "--json", "-c", stage.configure())
    (shown,) = json.loads(status.out)["tables"]
    assert shown["tombstones"] >= 1
    assert 25 * 3600 - 5 < time.time() - shown["cleaned_before"] < 25 * 3600 + 120


def test_o6_with_the_present_as_limit_a_replay_brings_a_deleted_item_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted mistake that the test above must notice."""
    monkeypatch.setattr(tombstone_cleanup, "clean_before", lambda *_, **__: now())
    table = stage.table(columns=COLUMNS, clean_tombstones=True)
    young = now() - 3600 * SECOND
    stage.put_all(deleted(table, "young", young))
    stage.once()
    asyncio.run(clean(stage))
    stage.put(change(table, "INSERT", young, item("young")))
    stage.once()
    assert stage.rows(columns="id") == [["young"]]


def test_o6_letters_keep_tombstones_and_replaying_a_closed_one_reads_the_item_again(stage: Stage) -> None:
    """Catches: a replay below what was cleaned up, which nothing holds down any more."""
    table = stage.table(columns=COLUMNS, clean_tombstones=True, metadata={"spill": ""})
    old = now() - 3 * DAY
    stage.put(change(table, "INSERT", old, item("a", "300")), change(table, "REMOVE", old + 1, item("a")))
    stage.once()
    (dead_letter,) = stage.dead_letters()
    asyncio.run(live(stage, 1.0))
    assert stored(stage) == ["a"], "the dead letter might be replayed"
    commands: list[list[str]] = [["drop", str(dead_letter["id"])], ["replay", str(dead_letter["id"])]]
    config = stage.configure()
    assert stage.place.command("dead-letters", *commands[0], "-c", config).code == 0
    asyncio.run(clean(stage))
    assert stored(stage) == []
    stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN n Nullable(Int64)")
    stage.entries[0]["columns"] = [{"attribute": "id", "type": "String"}, {"attribute": "n", "type": "Nullable(Int64)"}]
    replayed = stage.place.command("dead-letters", *commands[1], "-c", stage.configure())
    assert replayed.code == 0, replayed
    assert stage.rows() == []


async def live(stage: Stage, seconds: float) -> None:
    async with stage.living():
        await asyncio.sleep(seconds)


def test_o6_an_export_older_than_the_last_clean_up_is_refused(stage: Stage) -> None:
    """Catches: an export that still shows what is not even a tombstone any more."""
    name = stage.place.make_table("orders", {"id": "S"})
    stage.place.aws.put_all(name, [item("gone")])
    arn = stage.place.aws.dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
    given = stage.place.aws.export(arn, stage.place.bucket)["ExportArn"]
    stage.place.aws.send_changes(name, stage.stream())
    columns = [{"attribute": attribute, "type": kind} for attribute, kind in COLUMNS.items()]
    entry: dict[str, Any] = {"columns": columns, "clean_tombstones": True}
    stage.entries.append(stage.place.entry(name, **entry, snapshot={"method": "none"}))
    stage.once()
    where = "database = currentDatabase() AND name = 'orders'"
    uuid = stage.clickhouse.value(f"SELECT uuid FROM system.tables WHERE {where}")
    stage.clickhouse.run(
        "INSERT INTO dyncdc_tombstones (destination_uuid, pipeline, table, cleaned_before)"
        f" VALUES ('{uuid}', '{stage.place.name}', '{name}', {now() - 120 * SECOND})"
    )
    taken = {"method": "export", "export_arn": given, "accept_gap": True}
    stage.entries[0] = stage.place.entry(name, **entry, snapshot=taken)
    ended = stage.place.command("run", "--once", "-c", stage.configure())
    assert ended.code == 2, ended
    assert "older than the tombstones that were cleaned up" in ended.err
    assert stage.rows() == []

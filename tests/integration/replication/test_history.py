"""The history: every change once, whatever comes again; the table as of any instant; deletes told apart.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.processes.harness import ClickHouseHttp
from support.stage.stage import Event, Item, Stage, change, now, until

from dyncdc.schema.types.dynamodb_values import canonical_item, spill_text

COLUMNS = {"id": "String", "value": "Nullable(String)"}
SECOND = 1_000_000
TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
PAGE = Path(__file__).parents[3] / "docs" / "history.md"


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


def modify(table: str, at: int, before: Item, after: Item, **fields: Any) -> bytes:
    """A MODIFY with both images, as Kinesis Data Streams for DynamoDB always has them."""
    record = json.loads(change(table, "MODIFY", at, after, **fields))
    record["dynamodb"]["OldImage"] = dict(before)
    return json.dumps(record).encode()


def history(stage: Stage, columns: str) -> list[list[object]]:
    return stage.clickhouse.rows(f"SELECT {columns} FROM orders_history FINAL ORDER BY version, sequence_number")


def as_of(clickhouse: ClickHouseHttp, instant: int) -> dict[object, object]:
    """The items at an instant in microseconds, by the query that the documentation has."""
    (query,) = re.findall(r"```sql\n(SELECT id, argMax.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    asked, replaced = re.subn(r"toDateTime64\('[^']*', 6, 'UTC'\)", f"fromUnixTimestamp64Micro({instant})", query)
    assert replaced == 1
    return {key: orjson.loads(str(image)) for key, image in clickhouse.rows(asked)}


def test_o2_a_change_that_comes_again_in_other_batches_is_one_row_of_the_history(stage: Stage) -> None:
    """Catches: a MergeTree without identity; an identity that holds the sequence number; images as floats."""
    table = stage.table(columns=COLUMNS, history="orders_history")
    t = now()
    exact = item("a", "1") | {"n": {"N": "-1234567890.1234567890123456789012345678"}, "tags": {"SS": ["b", "a"]}}
    records = [
        change(table, "INSERT", t, item("a", "0"), event_id="e0"),
        modify(table, t + 1, item("a", "0"), exact, event_id="e1"),
        change(table, "REMOVE", t + 2, exact, event_id="e2", userIdentity=None),
    ]
    stage.put_all([*records, records[0], *records])
    stage.once()
    stage.put_all(records[::-1])
    stage.once(batch={"max_rows": 1})
    text = spill_text(canonical_item(exact))
    assert '{"N":"-1234567890.1234567890123456789012345678"}' in text
    assert history(stage, "id, event_name, old_image, new_image, version, deleted_by, event_id") == [
        ["a", "INSERT", "", spill_text(canonical_item(item("a", "0"))), str(t), "", "e0"],
        ["a", "MODIFY", spill_text(canonical_item(item("a", "0"))), text, str(t + 1), "", "e1"],
        ["a", "REMOVE", text, "", str(t + 2), "user", "e2"],
    ]
    assert stage.clickhouse.number("SELECT countIf(toUnixTimestamp64Micro(time) != version) FROM orders_history") == 0
    assert stage.clickhouse.number("SELECT countIf(shard = '' OR sequence_number = 0) FROM orders_history") == 0
    assert stage.rows() == []


def test_o2_events_without_an_id_are_told_apart_by_their_place(stage: Stage) -> None:
    """Catches: an empty event id that makes two changes of one item and time one row."""
    table = stage.table(columns=COLUMNS, history="orders_history")
    t = now()
    for event, value in (("INSERT", "0"), ("MODIFY", "1")):
        record = json.loads(change(table, event, t, item("a", value)))  # type: ignore[arg-type]
        del record["eventID"]
        stage.put(json.dumps(record).encode())
    stage.once()
    assert history(stage, "event_name") == [["INSERT"], ["MODIFY"]]


def test_o9_changes_that_change_nothing_are_each_in_the_history(stage: Stage) -> None:
    """Catches: a history that collapses a batch as the mirror does, or leaves out what looks alike."""
    table = stage.table(columns=COLUMNS, history="orders_history")
    t = now()
    same = item("a", "same")
    stage.put_all([modify(table, t + number, same, same) for number in range(1000)])
    stage.once()
    assert stage.clickhouse.number("SELECT countIf(old_image = new_image) FROM orders_history FINAL") == 1000
    assert stage.rows() == [["a", "same"]]


@pytest.mark.parametrize("deletes", ["tombstone", "ignore"])
def test_o10_expired_items_are_kept_and_told_from_deleted_ones(stage: Stage, deletes: str) -> None:
    """Catches: a TTL delete taken for a user's; a kept item that a replay, a put or a policy gets wrong."""
    columns = COLUMNS | {"n": "Nullable(Int64)"}
    options = {"history": "orders_history", "ttl_deletes": "keep", "deletes": deletes, "evolve": "spill"}
    table = stage.table(columns=columns, items=[item("alive", "again")], **options)
    t = now()
    records = []
    for key, identity in (("by ttl", TTL), ("by a user", None), ("alive", TTL)):
        old = item(key, "v") | {"n": {"N": "7"}, "more": {"BOOL": True}}
        records.append(change(table, "INSERT", t, old))
        records.append(change(table, "REMOVE", t + 1, old, userIdentity=identity))
    records.append(change(table, "INSERT", t + 2, item("alive", "again")))
    stage.put_all(records)
    stage.once()
    stage.put_all(records)
    stage.once()
    kept = [["by a user", "v", "7", 0]] if deletes == "ignore" else []
    assert stage.rows(columns="id, value, n, _expired") == [
        ["alive", "again", None, 0],
        *kept,
        ["by ttl", "v", "7", 1],
    ]
    assert stage.clickhouse.value("SELECT _spill FROM orders FINAL WHERE id = 'by ttl'") == '{"more":{"BOOL":true}}'
    removed = "SELECT id, deleted_by FROM orders_history FINAL WHERE event_name = 'REMOVE' ORDER BY id"
    assert stage.clickhouse.rows(removed) == [["alive", "ttl"], ["by a user", "user"], ["by ttl", "ttl"]]
    assert stage.verify(table) == "EQUAL items=1"


def test_o10_a_snapshot_that_is_loaded_again_leaves_expired_items_alone(stage: Stage) -> None:
    """Catches: orphan rows that take what expired for deleted; a sweep that forgets its history."""
    place = stage.place
    export = {"method": "export", "bucket": place.bucket, "settle_seconds": 0.5}
    settings = {"history": "orders_history", "ttl_deletes": "keep", "snapshot": export | {"margin_seconds": 0}}
    table = stage.table(columns=COLUMNS, items=[item("a", "1"), item("lost", "1")], **settings)
    t = now() - 3600 * SECOND
    stage.put(change(table, "REMOVE", t, item("expired", "1"), userIdentity=TTL))
    stage.once()
    place.aws.dynamodb.update_item(  # the stream's record of it is lost: DynamoDB does not send it
        TableName=table,
        Key={"id": {"S": "a"}},
        UpdateExpression="SET #v = :v",
        ExpressionAttributeNames={"#v": "value"},
        ExpressionAttributeValues={":v": {"S": "2"}},
    )
    stage.clickhouse.run(  # a delete of this one was lost
        f"INSERT INTO orders (id, value, _version) VALUES ('orphan row', 'x', {t})"
    )
    assert place.command("snapshot", table, "-c", stage.configure()).code == 0
    stage.once()
    assert stage.rows(columns="id, value, _expired") == [["a", "2", 0], ["expired", "1", 1], ["lost", "1", 0]]
    found = "SELECT id, deleted_by, version < toUnixTimestamp64Micro(time) FROM orders_history FINAL"
    assert stage.clickhouse.rows(f"{found} WHERE event_name = 'REMOVE' ORDER BY id") == [
        ["expired", "ttl", 0],
        ["orphan row", "", 1],
    ]


def test_o10_a_ttl_delete_without_the_old_image_is_a_dead_letter_and_loses_nothing(stage: Stage) -> None:
    """Catches: an expired row of defaults over the item's own; a record that vanishes."""
    table = stage.table(columns=COLUMNS, ttl_deletes="keep", history="orders_history")
    t = now()
    record = json.loads(change(table, "REMOVE", t + 1, item("a", "v"), userIdentity=TTL))
    del record["dynamodb"]["OldImage"]
    stage.put(change(table, "INSERT", t, item("a", "v")), json.dumps(record).encode())
    stage.once()
    assert stage.rows(columns="id, value, _expired") == [["a", "v", 0]]
    assert [dead_letter["reason"] for dead_letter in stage.dead_letters()] == ["bad_envelope"]
    assert history(stage, "event_name") == [["INSERT"]]


def test_o2_a_dead_letter_is_in_the_history_once_it_is_replayed(stage: Stage) -> None:
    """Catches: a history row of a record that is not in the table; a replay that writes the item alone."""
    columns = {"id": "String", "n": "Nullable(Int8)"}
    metadata = {"spill": ""}
    table = stage.table(columns=columns, history="orders_history", metadata=metadata)
    t = now()
    stage.put(change(table, "INSERT", t, {"id": {"S": "a"}, "n": {"N": "300"}}, event_id="e0"))
    stage.once()
    assert history(stage, "id") == []
    stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN n Nullable(Int64)")
    stage.entries[0]["columns"] = [{"attribute": "id", "type": "String"}, {"attribute": "n", "type": "Nullable(Int64)"}]
    replay = stage.place.command("dead-letters", "replay", "-c", stage.configure())
    assert replay.code == 0, replay
    assert stage.rows() == [["a", "300"]]
    assert history(stage, "id, event_name, event_id, new_image") == [
        ["a", "INSERT", "e0", '{"id":{"S":"a"},"n":{"N":"300"}}']
    ]


def test_what_is_left_out_or_masked_is_in_no_image(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a history that keeps what the destination may not."""
    monkeypatch.setenv("MASK", "sixteen bytes or more")
    hidden = {"exclude": ["secret"], "mask": ["mail"], "mask_key_env": "MASK"}
    loaded = item("loaded", "v") | {"secret": {"S": "HIDDEN"}, "mail": {"S": "HIDDEN"}}
    export = {"method": "export", "bucket": stage.place.bucket, "settle_seconds": 0.5}
    table = stage.table(columns=COLUMNS, items=[loaded], history="orders_history", snapshot=export, **hidden)
    t = now()
    old = loaded | {"id": {"S": "a"}}
    stage.put(change(table, "INSERT", t, old), modify(table, t + 1, old, old), change(table, "REMOVE", t + 2, old))
    stage.once()
    assert stage.clickhouse.number("SELECT count() FROM orders_history FINAL") == 4
    images = "SELECT arrayJoin([old_image, new_image]) AS i FROM orders_history WHERE i != ''"
    for image in (str(row[0]) for row in stage.clickhouse.rows(images)):
        assert "HIDDEN" not in image and "secret" not in image
        assert len(json.loads(image)["mail"]["S"]) == 64


def test_k1_the_history_has_an_items_changes_in_their_order_over_a_reshard(stage: Stage) -> None:
    """Catches: an order by arrival, or by the text of sequence numbers; children read beside their parents."""
    table = stage.table(columns=COLUMNS, history="orders_history", precision="MILLISECOND")
    at = now() // 1000
    keys = [f"k{number}" for number in range(10)]
    events: list[tuple[Event, str]] = [("INSERT", "0"), ("MODIFY", "1"), ("MODIFY", "2")]
    for event, value in events:
        stage.put_all([change(table, event, at, item(key, value), unit="MILLISECOND") for key in keys])
    stage.place.aws.split_first(stage.place.name)
    for number, key in enumerate(keys):
        slot = number / len(keys)
        stage.put(change(table, "REMOVE", at, item(key, "2"), unit="MILLISECOND"), slot=slot)
        stage.put(change(table, "INSERT", at, item(key, "3"), unit="MILLISECOND"), slot=slot)
    stage.once()
    order = "groupArray(event_name) FROM (SELECT * FROM orders_history FINAL ORDER BY version, sequence_number)"
    found = stage.clickhouse.rows(f"SELECT id, {order} GROUP BY id ORDER BY id")
    assert found == [[key, ["INSERT", "MODIFY", "MODIFY", "REMOVE", "INSERT"]] for key in keys]
    assert stage.rows() == [[key, "3"] for key in keys]


def test_the_table_as_of_an_instant_is_what_it_was(stage: Stage) -> None:
    """Catches: base rows that hide changes, or hold before they may; replays, deletes and ties that change the past."""
    rng = random.Random(7)
    export = {"method": "export", "bucket": stage.place.bucket, "settle_seconds": 0.5}
    loaded = {key: item(key, f"{key} loaded") for key in ("a", "b", "c", "d")}
    table = stage.table(columns=COLUMNS, items=list(loaded.values()), history="orders_history", snapshot=export)
    stage.once()
    begun = now() + 120 * SECOND  # behind the minute within which an export's time is exact
    state: dict[str, Item] = dict(loaded)
    states: list[tuple[int, Mapping[str, Item]]] = [(begun, dict(state))]
    records: list[bytes] = []
    at = begun
    for number in range(200):
        at += rng.choice((1, 7, SECOND))
        key = rng.choice("abcdefgh")
        records.append(_one_change(rng, table, at, key, number, state))
        states.append((at, dict(state)))
    again = rng.sample(records, 60)
    for first in range(0, len(records), 50):
        stage.put_all([*records[first : first + 50], *rng.sample(again, 20)])
        stage.once(batch={"max_rows": rng.choice((3, 1000))})
    assert as_of(stage.clickhouse, begun - 60 * SECOND + 1) == loaded
    for instant, wanted in rng.sample(states, 25):
        assert as_of(stage.clickhouse, instant) == wanted
    assert stage.rows() == sorted([key, value["value"]["S"]] for key, value in state.items())


def _one_change(rng: random.Random, table: str, at: int, key: str, number: int, state: dict[str, Item]) -> bytes:
    old, new = state.get(key), item(key, f"{key} {number}")
    if old is None:
        state[key] = new
        return change(table, "INSERT", at, new)
    if rng.random() < 0.3:
        del state[key]
        return change(table, "REMOVE", at, old)
    state[key] = new
    return modify(table, at, old, new)


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """What was logged since the last look."""
    return "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["TRUNCATE TABLE orders_history"], "taken out"),
        (["DROP TABLE orders_history SYNC"], "another table"),
        (
            ["CREATE TABLE other AS orders_history", "EXCHANGE TABLES other AND orders_history"],
            "another table",
        ),
    ],
    ids=["truncated", "dropped", "exchanged"],
)
def test_that_a_history_has_lost_its_changes_is_told_once_and_kept(
    stage: Stage, capfd: pytest.CaptureFixture[str], statements: list[str], reason: str
) -> None:
    """Catches: a history that starts over, without a word, where an audit looks for what was before."""
    table = stage.table(columns=COLUMNS, history="orders_history")
    stage.put(change(table, "INSERT", now(), item("a", "0")))
    stage.once()
    stage.once()
    assert "history lost changes" not in said(capfd)
    for statement in statements:
        stage.clickhouse.run(statement)
    stage.put(change(table, "INSERT", now(), item("b", "0")))
    stage.once()
    assert said(capfd).count("history lost changes") == 1
    stage.once()
    assert "history lost changes" not in said(capfd), "it is said once"
    kept = "SELECT number, reason FROM dyncdc_histories FINAL ORDER BY number"
    assert [int(str(number)) for number, _ in stage.clickhouse.rows(kept)] == [1, 2]
    assert reason in str(stage.clickhouse.rows(kept)[-1][1])
    assert [key for (key,) in history(stage, "id")] == ["b"]


async def test_a_history_that_is_exchanged_under_the_daemon_for_one_that_would_lose_changes_is_refused(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches: rows of changes that replace each other from then on."""
    table = stage.table(columns=COLUMNS, history="orders_history")
    stage.put(change(table, "INSERT", now(), item("a", "0")))
    async with stage.living() as session:
        await until(lambda: stage.count() == 1)
        stage.clickhouse.run("CREATE TABLE other AS orders_history ENGINE = ReplacingMergeTree ORDER BY id")
        stage.clickhouse.run("EXCHANGE TABLES other AND orders_history")
        await until(lambda: "changes would replace each other" in said(capfd), seconds=30.0)
        assert not session.done(), "it waits for someone to fix it"

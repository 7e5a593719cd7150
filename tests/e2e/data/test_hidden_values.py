"""What is left out or masked is nowhere in ClickHouse and in no log, while rows by snapshot and by stream are equal."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from support.processes.harness import running, wait_until
from support.servers.place import Place

KEY = "a masking key of the end-to-end tests"
SECRET = "s3cr3t"
SCAN = {"method": "scan", "settle_seconds": 0.5, "segments": 1}
USAGE = 2
HIDING = {
    "exclude": ["notes", "card.cvc"],
    "mask": ["email", "card.number", "people.name"],
    "mask_key_env": "TEST_MASK_KEY",
}


def person(number: int, **more: Any) -> dict[str, Any]:
    """An item whose hidden places hold the secret; 0 is the one that everything else about is equal."""
    return {
        "id": {"S": f"p{number}"},
        "email": {"S": f"{SECRET}@example.com"},
        "notes": {"L": [{"S": SECRET}]},
        "card": {"M": {"number": {"S": f"{SECRET}-4000"}, "cvc": {"S": SECRET}, "year": {"N": "2030"}}},
        "people": {"L": [{"M": {"name": {"S": SECRET}, "age": {"N": "4"}}}]},
    } | more


def everything(place: Place) -> str:
    """All that ClickHouse holds of the test, dead letters in the clear."""
    found = []
    for table in place.clickhouse.tables():
        for row in place.clickhouse.dicts(f"SELECT * FROM {table}"):
            found.append(json.dumps(row))
            found += [base64.b64decode(str(row["raw"])).decode(errors="replace")] if "raw" in row else []
    return "\n".join(found)


def change(table: str, item: dict[str, Any], **fields: Any) -> bytes:
    body = {"ApproximateCreationDateTime": 0, "Keys": {"id": item["id"]}, "NewImage": item}
    return json.dumps({"eventName": "INSERT", "tableName": table, "dynamodb": body, **fields}).encode()


def test_hidden_values_are_nowhere_in_the_destination(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_MASK_KEY", KEY)
    stream = place.make_stream()
    table = place.make_table("people", {"id": "S"}, stream)
    place.aws.put_all(table, [person(number) for number in range(5)])
    entry = place.entry(table, snapshot=SCAN, history="people_history", **HIDING)
    config = place.configure([entry])
    with running(place.daemon(config)) as daemon:
        wait_until(lambda: _count(place) == 5, 20, f"the snapshot is there: {daemon.tail()}")
        place.aws.put(table, person(5))
        place.aws.put(table, person(6, email={"N": "12.50"}, notes={"M": {"a": {"S": SECRET}}}))
        place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "p1"}})
        bad = [change(table, person(7)), change(table, person(8), tableName=7), SECRET.encode()]
        for record in bad:
            place.aws.kinesis.put_record(StreamName=place.name, Data=record, PartitionKey="k")
        wait_until(lambda: _count(place) == 6, 20, "changes have arrived")
        wait_until(lambda: _letters(place) == 3, 20, "the dead letters, too")
        assert daemon.terminate() == 0, daemon.tail()
    assert SECRET not in everything(place) and SECRET not in daemon.log.read_text()
    rows = place.clickhouse.rows("SELECT * EXCEPT (id) FROM people_current WHERE id IN ('p0', 'p5') ORDER BY id")
    assert rows[0] == rows[1], "by snapshot and by stream"
    expected = hmac.new(KEY.encode(), f'{{"S":"{SECRET}@example.com"}}'.encode(), hashlib.sha256).hexdigest()
    assert place.clickhouse.value("SELECT email FROM people_current WHERE id = 'p5'") == expected
    verified = place.command("verify", table, "-c", str(config))
    assert verified.code == 0, verified.out
    _replay(place, config, table)


def _replay(place: Place, config: Path, table: str) -> None:
    """A record with a fixed time, kept as a dead letter keeps it, becomes the row that it would have been."""
    dead_letter = place.clickhouse.dicts("SELECT id, raw FROM dyncdc_dead_letters WHERE reason = 'bad_version'")[0]
    mended = base64.b64decode(str(dead_letter["raw"])).replace(b'DateTime":0,', b'DateTime":1700000000000000,')
    raw = base64.b64encode(mended).decode()
    place.clickhouse.run(
        "INSERT INTO dyncdc_dead_letters (id, pipeline, table, reason, column, error, source, shard, position, raw)"
        f" SELECT 'fixed', pipeline, table, reason, column, error, source, shard, position, '{raw}'"
        f" FROM dyncdc_dead_letters WHERE id = '{dead_letter['id']}'"
    )
    replayed = place.command("dead-letters", "replay", "fixed", "-c", str(config))
    assert replayed.code == 0, replayed.out + replayed.err
    rows = place.clickhouse.rows("SELECT email, card_number FROM people_current WHERE id IN ('p5', 'p7') ORDER BY id")
    assert len(rows) == 2 and rows[0] == rows[1], "hashed once"
    assert SECRET not in everything(place)


def _count(place: Place) -> int:
    there = "people_current" in place.clickhouse.tables()
    return place.clickhouse.number("SELECT count() FROM people_current") if there else 0


def _letters(place: Place) -> int:
    return place.clickhouse.number("SELECT uniqExact(id) FROM dyncdc_dead_letters")


def test_a_key_attribute_cannot_be_hidden(place: Place) -> None:
    table = place.make_table("people", {"id": "S"}, place.make_stream())
    ended = place.command("run", "--once", "-c", str(place.configure([place.entry(table, exclude=["id"])])))
    assert ended.code == USAGE
    assert "the key attribute 'id' can be neither left out nor masked" in "".join(ended.complaints)

"""The table of the ClickPipes guide works as it is, and a stream may carry more tables than are configured."""

from __future__ import annotations

from typing import Any

import pytest
from support.data.oracle import assert_equal_within
from support.processes.harness import Daemon, running, wait_until
from support.servers.place import Place

GUIDE = "id String, first_name String, age Int8, version Int64"
PLAIN: dict[str, Any] = {
    "deletes": "ignore",
    "metadata": {"version": "version", "deleted": "", "spill": ""},
}


def person(number: int, age: str, **more: Any) -> dict[str, Any]:
    """An item of the guide."""
    return {"id": {"S": f"p{number}"}, "first_name": {"S": f"name {number}"}, "age": {"N": age}, **more}


def make_guide_table(place: Place, columns: str = GUIDE, engine: str = "ReplacingMergeTree(version)") -> str:
    """The source, and the destination as the guide makes it."""
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    place.clickhouse.run(f"CREATE TABLE users ({columns}) ENGINE = {engine} ORDER BY id")
    return table


def ages(place: Place) -> dict[object, object]:
    """Age by id, as a reader of the guide's table sees it."""
    return {row["id"]: row["age"] for row in place.clickhouse.dicts("SELECT id, age FROM users FINAL")}


def test_the_guides_table_works_unchanged(place: Place) -> None:
    table = make_guide_table(place)
    before = place.clickhouse.value("SHOW CREATE TABLE users")
    place.aws.put_all(table, [person(number, str(number)) for number in range(50)])
    with running(place.daemon(place.configure([place.entry(table, **PLAIN)]))) as daemon:
        wait_until(lambda: len(ages(place)) == 50, 20, f"the snapshot is there: {daemon.tail()}")
        place.aws.put(table, person(1, "101", nickname={"S": "no column for it"}))
        place.aws.put(table, {"id": {"S": "young"}})
        place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "p2"}})
        wait_until(lambda: ages(place).get("young") == 0, 20, "an absent attribute takes the default")
        there = ages(place)
        assert there["p1"] == 101
        assert there["p2"] == 2, "a delete is ignored, as configured"
        assert daemon.terminate() == 0, daemon.tail()
    assert place.clickhouse.value("SHOW CREATE TABLE users") == before


def test_check_tries_a_sample_of_items_on_the_mapping(place: Place) -> None:
    table = make_guide_table(place, "id UUID, first_name String, age Int8, version Int64")
    item = {"id": {"S": "61F0C404-5CB3-11E7-907B-A6006AD3DBA0"}, "firstName": {"S": "x"}, "age": {"N": "300"}}
    place.aws.put(table, item)
    listed = [
        {"attribute": "id", "type": "UUID"},
        {"attribute": "firstname", "name": "first_name", "type": "String"},
        {"attribute": "age", "type": "Int8"},
    ]
    found = place.command("check", "-c", str(place.configure([place.entry(table, columns=listed, **PLAIN)])))
    assert found.code == 0, found.out
    for words in (
        "columns names firstname, which none of 1 sampled items has; did you mean firstName?",
        "1 of 1 sampled values of id do not fit column id UUID exactly: items with such a key become dead letters",
        "1 of 1 sampled values of age do not fit column age Int8 exactly: such items become dead letters",
        "show a default where a value is missing or does not fit: age (0)",
    ):
        assert words in found.out, found.out
    assert "61F0" not in found.out and "300" not in found.out


def test_t2_an_age_of_300_is_a_dead_letter_and_never_44(place: Place) -> None:
    table = make_guide_table(place)
    place.aws.put(table, person(1, "300"))
    with running(place.daemon(place.configure([place.entry(table, **PLAIN)]))) as daemon:
        wait_for_letters(place, 1, daemon)
        place.aws.put(table, person(2, "300"))
        place.aws.put(table, person(3, "7"))
        wait_for_letters(place, 2, daemon)
        wait_until(lambda: ages(place) == {"p3": 7}, 20, "the others arrive")
        dead_letters = place.clickhouse.dicts('SELECT "table", "column", raw FROM dyncdc_dead_letters FINAL')
        assert {(dead_letter["table"], dead_letter["column"]) for dead_letter in dead_letters} == {(table, "age")}
        assert all(dead_letter["raw"] for dead_letter in dead_letters)
        assert daemon.metric("dyncdc_dead_letters_total", table=table) == 2
        assert daemon.terminate() == 0, daemon.tail()


def wait_for_letters(place: Place, count: int, daemon: Daemon) -> None:
    """Wait until so many dead letters are there."""
    sql = "SELECT uniqExact(id) FROM dyncdc_dead_letters"
    wait_until(lambda: place.clickhouse.number(sql) == count, 20, f"{count} dead letters are there: {daemon.tail()}")


@pytest.mark.parametrize("engine", ["ReplacingMergeTree(version)", "ReplacingMergeTree(version, _deleted)"])
def test_deletes_work_with_a_deleted_column(place: Place, engine: str) -> None:
    table = make_guide_table(place, f"{GUIDE}, _deleted UInt8", engine)
    place.aws.put_all(table, [person(number, str(number)) for number in range(10)])
    metadata = {"version": "version", "deleted": "_deleted", "spill": ""}
    with running(place.daemon(place.configure([place.entry(table, metadata=metadata)]))) as daemon:
        wait_until(lambda: len(ages(place)) == 10, 20, f"the snapshot is there: {daemon.tail()}")
        place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "p2"}})
        place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "p3"}})
        place.aws.put(table, person(3, "33"))
        gone = "SELECT groupArray(id) FROM (SELECT id FROM users FINAL WHERE _deleted ORDER BY id)"
        shown = "SELECT groupArray((id, age)) FROM (SELECT id, age FROM users_current WHERE id IN ('p2', 'p3'))"
        wait_until(lambda: place.clickhouse.value(shown) == [["p3", 33]], 20, f"p2 is gone: {daemon.tail()}")
        assert place.clickhouse.value(gone) in ([], ["p2"])
        assert daemon.terminate() == 0, daemon.tail()


def test_a_table_whose_versions_nothing_would_win_over_is_refused(place: Place) -> None:
    table = make_guide_table(place)
    place.clickhouse.run("INSERT INTO users VALUES ('a', 'x', 1, 1767225600000000000)")
    ended = place.command("run", "--once", "-c", str(place.configure([place.entry(table, **PLAIN)])))
    assert ended.code == 2
    (line,) = ended.complaints
    assert "they look like nanoseconds" in line
    assert place.clickhouse.tables() == {"users"}, "nothing was made"


def test_o12_tables_share_a_stream_and_an_unconfigured_one_is_ignored(place: Place) -> None:
    stream = place.make_stream(shards=2)
    one, two, stranger = (place.make_table(label, {"id": "S"}, stream) for label in ("one", "two", "stranger"))
    entries = [place.entry(one), place.entry(two, clickhouse="zwei", nested="json")]
    for table in (one, two, stranger):
        place.aws.put_all(table, [person(number, "1", of={"M": {"table": {"S": table}}}) for number in range(10)])
    with running(place.daemon(place.configure(entries))) as daemon:
        for table in (one, two, stranger):
            place.aws.put_all(
                table, [person(number, "2", of={"M": {"table": {"S": table}}}) for number in range(5, 15)]
            )
        assert_equal_within(20, place.aws, place.clickhouse, one)
        assert_equal_within(10, place.aws, place.clickhouse, two, "zwei")
        assert "stranger" not in place.clickhouse.tables()
        assert place.clickhouse.number("SELECT count() FROM dyncdc_dead_letters") == 0
        assert daemon.terminate() == 0, daemon.tail()

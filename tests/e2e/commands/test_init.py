"""``dyncdc init`` by its user: its output, unchanged, is a configuration that replicates; and it changes nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from support.processes.harness import Ended, command, environment
from support.servers.place import Place

from dyncdc.operations.demo.workload.sample_data import OrderSystem

NOBODY = "clickhouse://nobody@127.0.0.1:1/none"

HOSTILE_NAMES = [
    "a.b",
    "a",
    '"quoted"',
    "it's `odd` \\ \"",
    "emoji 😀",
    "line\nfeed",
    "tab\tnul\x00del\x7f\x85\u2028",
    "Name",
    "name",
    "_version",
    "_part",
    "1st",
    "# no comment",
    "]]",
    "n" * 60_000,
]


def init(place: Place, table: str, *arguments: str) -> Ended:
    return place.command("init", table, "--endpoint-url", place.aws.endpoint_url, "--region", "us-east-1", *arguments)


def run_once(file: Path) -> None:
    """Run with the file as it is; the port of the pages is the machine's, not the table's."""
    ended = command(
        "run", "-c", str(file), "--once", environment=environment() | {"DYNCDC_HTTP__LISTEN": "127.0.0.1:0"}
    )
    assert ended.code == 0, ended.err[-3000:]


def verified(place: Place, table: str, file: Path) -> None:
    ended = place.command("verify", table, "-c", str(file))
    assert ended.code == 0, ended.out + ended.err


def allowed_actions(policy: Any, *, with_optional: bool = False) -> set[str]:
    found = {action for each in policy["Statement"] if each["Sid"] != "CompareItems" for action in each["Action"]}
    return {action.partition(":")[2] for action in found}


def called(place: Place) -> dict[str, int]:
    return {name: int(count) for name, count in place.aws.control("GET", "calls").items()}


def test_what_init_proposes_replicates_unchanged(place: Place) -> None:
    system = OrderSystem(7)
    table = place.make_table("orders", {"customer_id": "S", "order_number": "N"}, place.make_stream())
    place.aws.put_all(table, [system.order(number % 20, number) for number in range(120)])
    file = place.directory / "proposed.toml"
    before = place.clickhouse.tables()
    ended = init(place, table, "--clickhouse", place.url, "--bucket", place.bucket, "--into", "orders", "-o", str(file))
    assert ended.code == 0, ended.err
    assert place.clickhouse.tables() == before, "it changes nothing"
    assert "CREATE TABLE IF NOT EXISTS `orders`" in ended.out
    text = file.read_text()
    assert '{ attribute = "order_number", type = "Int64", from = "N" }' in text
    assert "in 120 of 120 items: N 120; a key; all sampled ones are whole numbers of 64 bits" in text
    assert place.command("check", "-c", str(file)).code == 0
    printed = [line for line in ended.out.splitlines() if line.startswith(("CREATE", ")", "  "))]
    for line in place.command("ddl", "-c", str(file)).out.splitlines():
        assert not line.startswith(("CREATE", ")", "  `")) or line in printed, "ddl says what init has said"
    calls = called(place)
    run_once(file)
    verified(place, table, file)
    place.aws.put_all(table, [system.order(number % 20, number, revision=1) for number in range(0, 120, 3)])
    run_once(file)
    verified(place, table, file)
    policy = json.loads(ended.out[ended.out.index("\n{\n") :])
    made = {name for name, count in called(place).items() if count > calls.get(name, 0)}
    of_policy = allowed_actions(policy) | {"HeadBucket"}  # which ListBucket allows
    assert {name for name in made if name not in ("PutItem", "BatchWriteItem", "Scan")} <= of_policy
    assert init(place, table, "-o", str(file)).code == 2, "it writes over nothing"


def test_hostile_names_and_a_clickhouse_that_is_not_there(place: Place) -> None:
    table = place.make_table("odd", {"a.b": "S", "na`me": "N"}, place.make_stream())
    number = "123456789012345678901234567890.5"
    items = [
        {
            "a.b": {"S": f"k{index}"},
            "na`me": {"N": number},
            **{name: {"S": str(index)} for name in HOSTILE_NAMES if name != "a.b"},
            "m": {"M": {name: {"N": "1.25"} for name in HOSTILE_NAMES[:8]}},
            "deep": {"M": {"x": {"M": {"y": {"L": [{"S": "z"}, {"N": "1"}]}}}}},
            "null": {"NULL": True},
        }
        for index in range(3)
    ]
    place.aws.put_all(table, items)
    ended = init(place, table, "--clickhouse", NOBODY, "--into", "odd")
    assert ended.code == 0, ended.err
    document = tomllib.loads(ended.out)
    names = [column["attribute"] for column in document["tables"][0]["columns"]]
    assert '"a.b"' in names
    assert "n" * 60_000 in names
    assert "ClickHouse was not looked at" in ended.out
    assert '{ attribute = "na`me", name = ' in ended.out and 'type = "String", from = "N" }' in ended.out
    file = place.directory / "odd.toml"
    file.write_text(ended.out.replace(NOBODY, place.url))
    run_once(file)
    verified(place, table, file)


def test_a_table_without_stream_or_items_is_told_what_to_do(place: Place) -> None:
    table = place.make_table("fresh", {"id": "S"})
    several = "clickhouse://me:s3cret@127.0.0.1:1,127.0.0.1:2/none"
    ended = init(place, table, "--clickhouse", several, "--cluster", "main", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert "s3cret" not in ended.out + ended.err
    (todo,) = found["todo"]
    assert "aws dynamodb enable-kinesis-streaming-destination" in todo
    document = tomllib.loads(found["config"])
    assert document["tables"][0]["columns"] == "infer"
    assert document["clickhouse"] == {
        "url": several.replace(":s3cret", ""),
        "cluster": "main",
        "password_env": "CLICKHOUSE_PASSWORD",
    }
    assert all(" ON CLUSTER `main`" in each for each in found["statements"] if each.startswith("CREATE TABLE"))
    alone = init(place, table, "--clickhouse", several)
    assert alone.code == 2
    assert "--cluster" in alone.err and "s3cret" not in alone.out + alone.err
    assert init(place, "no-such-table").code == 2


def test_a_table_that_clickpipes_filled_is_adopted(place: Place) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    for statement in (
        "CREATE TABLE snapshot (item String) ENGINE = MergeTree ORDER BY tuple()",
        "CREATE TABLE users (id String, first_name String, age Int8, version Int64)"
        " ENGINE = ReplacingMergeTree(version) ORDER BY id",
        "CREATE MATERIALIZED VIEW snapshot_mv TO users AS SELECT JSONExtractString(item, 'id', 'S') AS id,"
        " JSONExtractInt(item, 'age', 'N') AS age, JSONExtractString(item, 'first_name', 'S') AS first_name"
        " FROM snapshot",
        "CREATE TABLE snapshot_clickpipes_error (error String) ENGINE = MergeTree ORDER BY tuple()",
        """INSERT INTO snapshot VALUES ('{"id":{"S":"a"},"age":{"N":"26"},"first_name":{"S":"stale"}}')""",
        "INSERT INTO users VALUES ('b', 'stale', 44, 1767225600000), ('gone', 'stale', 1, 1767225600001)",
    ):
        place.clickhouse.run(statement)
    for key, age in (("a", "27"), ("b", "28")):
        place.aws.put(table, {"id": {"S": key}, "first_name": {"S": "fresh"}, "age": {"N": age}, "more": {"S": "x"}})
    before = place.clickhouse.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    file = place.directory / "adopted.toml"
    ended = init(place, table, "--clickhouse", place.url, "--into", "users", "-o", str(file))
    assert ended.code == 0, ended.err
    for words in (
        "1 of its 3 rows have version 0",
        "milliseconds, 2026-01-01 00:00:00Z",
        "DROP VIEW IF EXISTS `snapshot_mv`",
        "DROP TABLE IF EXISTS `snapshot`",
        "DROP TABLE IF EXISTS `snapshot_clickpipes_error`",
        "rows of items that were deleted meanwhile stay",
        "ADD COLUMN IF NOT EXISTS `_deleted` UInt8",
    ):
        assert words in ended.out, words
    assert "more: in 2 of 2 items" in file.read_text()
    run_once(file)
    rows = "SELECT id, first_name, age FROM users FINAL ORDER BY id"
    assert place.clickhouse.rows(rows) == [["a", "fresh", 27], ["b", "fresh", 28], ["gone", "stale", 1]]
    after = place.clickhouse.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    assert [row for row in after if row in before] == before, "it drops and alters nothing"
    # with the column on offer, deletes arrive too
    place.clickhouse.run("ALTER TABLE users ADD COLUMN IF NOT EXISTS `_deleted` UInt8")
    again = place.directory / "again.toml"
    assert init(place, table, "--clickhouse", place.url, "--into", "users", "-o", str(again)).code == 0
    assert "are marked as deleted" in again.read_text()
    again.write_text(again.read_text().replace('users"\n\n[aws]', 'again"\n\n[aws]'))
    run_once(again)
    assert place.clickhouse.rows("SELECT id FROM users_current ORDER BY id") == [["a"], ["b"]]


def test_a_table_that_cannot_be_used_gets_one_beside_it(place: Place) -> None:
    table = place.make_table("lines", {"order": "S", "line": "N"}, place.make_stream())
    place.clickhouse.run(
        "CREATE TABLE lines (order String, line Int64, version Int64)"
        " ENGINE = ReplacingMergeTree(version) ORDER BY order"
    )
    place.aws.put_all(table, [{"order": {"S": "a"}, "line": {"N": str(number)}} for number in range(3)])
    file = place.directory / "beside.toml"
    ended = init(place, table, "--clickhouse", place.url, "--into", "lines", "-o", str(file))
    assert ended.code == 0, ended.err
    assert "not exactly the key (order, line)" in ended.out
    run_once(file)
    assert place.clickhouse.rows("SELECT line FROM lines_dyncdc_current ORDER BY line") == [["0"], ["1"], ["2"]]

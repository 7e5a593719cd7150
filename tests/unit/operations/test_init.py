"""What ``init`` writes, apart from what it looks at: TOML that no name can break, mappings, the policy."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from dyncdc.config import Config, TableConfig, parse_config
from dyncdc.config.urls import parse_clickhouse_url
from dyncdc.decode.table_plan import compile_table
from dyncdc.operations.init.column_matching import Match, match_columns
from dyncdc.operations.init.document import column_text, comment_lines, shown_name, toml_text, url_text
from dyncdc.operations.permissions.iam_policy import Resources, policy_document, required_statements
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.inference import infer
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute

KEYS = (KeyAttribute("id", "S"),)
NASTY = ['"', "\\", "a.b", "\n# x", "\x00\x1f\x7f\x85\u2028", "😀", "'''", '"""', "]", "é" * 300]


@pytest.mark.parametrize("text", NASTY)
def test_a_name_is_the_same_after_toml(text: str) -> None:
    assert tomllib.loads(f"x = {toml_text(text)}") == {"x": text}
    column = ColumnSpec("c", "String", (text, "b"), ("S", "N"), lossy=True)
    (found,) = tomllib.loads(f"columns = [ {column_text(column)} ]")["columns"]
    table = {"dynamodb": "tab", "snapshot": {"method": "none"}, "columns": [found]}
    (parsed,) = TableConfig.model_validate(table).column_list
    assert (parsed.path, parsed.column, parsed.takes, parsed.lossy) == (column.path, "c", ("S", "N"), True)


@pytest.mark.parametrize("text", NASTY)
def test_a_comment_stays_one(text: str) -> None:
    lines = comment_lines(f"{shown_name((text,))} and {text}")
    assert tomllib.loads("\n".join([*lines, "x = 1"])) == {"x": 1}


@pytest.mark.parametrize(
    "url",
    [
        "clickhouse://a%40b@h:1/d%2Fe",
        "clickhouses://default@[::1]:9440/default",
        "local:///a%20b/c",
        "clickhouse://u@a:9000,[::1]:9001,c:9002/d",
    ],
)
def test_a_url_is_the_same_without_its_password(url: str) -> None:
    assert parse_clickhouse_url(url_text(parse_clickhouse_url(url))) == parse_clickhouse_url(url)
    assert "s3cret" not in url_text(parse_clickhouse_url("clickhouse://u:s3cret@h/d"))


def matched(items: list[dict[str, Any]], *columns: tuple[str, str], keys: tuple[KeyAttribute, ...] = KEYS) -> Match:
    existing = tuple(ExistingColumn(name, kind) for name, kind in (*columns, ("v", "Int64")))
    table = ExistingTable(
        "t", "u", "ReplacingMergeTree", "ReplacingMergeTree(v) ORDER BY x", columns[0][0], "", existing
    )
    config = TableConfig.model_validate({"dynamodb": "tab", "snapshot": {"method": "none"}, "deletes": "ignore"})
    return match_columns(config, keys, table, infer(keys, items), items)


def test_columns_are_found_by_name_by_path_and_by_names_that_are_alike() -> None:
    items = [
        {"id": {"S": "a"}, "firstName": {"S": "x"}, "age": {"N": "300"}, "address": {"M": {"city": {"S": "y"}}}},
        {"id": {"S": "b"}, "age": {"N": "7"}, "extra": {"S": "z"}, "doc": {"L": [{"S": "q"}, {"N": "1"}]}},
    ]
    columns = [("id", "String"), ("first_name", "String"), ("age", "Int8"), ("address_city", "String")]
    found = matched(items, *columns, ("doc", "String"), ("other", "String"))
    by_name = {each.column.name: each for each in found.columns}
    assert {name: each.column.path for name, each in by_name.items()} == {
        "id": ("id",),
        "first_name": ("firstName",),
        "age": ("age",),
        "address_city": ("address", "city"),
        "doc": ("doc",),
    }
    assert "only alike" in by_name["first_name"].why
    assert (by_name["age"].misfits, by_name["age"].better) == (1, "Int64")
    assert by_name["doc"].column.takes == ("L",)
    assert found.unfilled == ("other",)
    assert ("extra",) in {observed.path for observed in found.outside}


def test_a_json_column_for_a_map_is_proposed_as_lossy_where_nothing_else_keeps_the_map() -> None:
    items = [{"id": {"S": "a"}, "meta": {"M": {"a": {"N": "1"}}}}]
    found = matched(items, ("id", "String"), ("meta", "JSON(a UInt8)"))
    [meta] = [each for each in found.columns if each.column.name == "meta"]
    assert (meta.column.lossy, meta.misfits) == (True, 0) and "lossy" in meta.why
    assert "lossy = true" in column_text(meta.column)
    assert compile_table(found.spec).upsert(items[0], 1).cells[1] == b'{"a":"1"}'
    [kept] = [each for each in matched(items, ("id", "String"), ("meta", "JSON"), ("_spill", "String")).columns][1:]
    assert not kept.column.lossy


def test_numbers_that_can_only_be_milliseconds_are_proposed_as_such() -> None:
    items = [{"id": {"S": str(n)}, "ms": {"N": f"173300000012{n}"}, "s": {"N": f"173300000{n}"}} for n in range(3)]
    found = matched(items, ("id", "String"), ("ms", "DateTime64(3)"), ("s", "DateTime"))
    ms, s = (each for each in found.columns if not each.column.key)
    assert (ms.column.encoding, ms.misfits, s.column.encoding, s.misfits) == ("epoch_ms", 0, "", 0)
    assert 'encoding = "epoch_ms"' in column_text(ms.column)


def test_names_that_are_alike_twice_are_not_guessed() -> None:
    items = [{"id": {"S": "a"}, "userId": {"S": "1"}, "USERID": {"S": "2"}}]
    assert matched(items, ("id", "String"), ("user_id", "String")).unfilled == ("user_id",)


def test_the_only_sorted_column_takes_the_only_key() -> None:
    found = matched([{"id": {"S": "a"}}], ("primary", "String"))
    assert [(each.column.name, each.column.path, each.column.key) for each in found.columns] == [
        ("primary", ("id",), True)
    ]


def config(snapshot: str, more: str = "") -> Config:
    text = f"""pipeline = "p"
[clickhouse]
url = "clickhouse://h/d"
[kinesis]
stream = "s"
{more}
[[tables]]
dynamodb = "orders"
columns = [ {{ attribute = "id", type = "String" }} ]
snapshot = {snapshot}
"""
    return parse_config(text, {})


TABLE_ARN = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/orders"
STREAM_ARN = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/s"
RESOURCES = Resources({"orders": TABLE_ARN}, {"s": STREAM_ARN}, ["arn:aws-cn:kms:cn-north-1:1:key/k"])


def policy(snapshot: str) -> dict[str, dict[str, Any]]:
    document: Any = policy_document(required_statements(config(snapshot), RESOURCES))
    return {statement["Sid"]: statement for statement in document["Statement"]}


@pytest.mark.parametrize(
    ("snapshot", "sids"),
    [
        ('{ method = "none" }', set()),
        ('{ method = "scan" }', {"ScanTables"}),
        (
            '{ method = "export", bucket = "b" }',
            {"StartExports", "FollowExports", "FindBucket", "WriteExports", "ReadExports"},
        ),
        (
            '{ method = "export", bucket = "b", kms_key = "arn:aws-cn:kms:cn-north-1:123456789012:key/x" }',
            {"StartExports", "FollowExports", "FindBucket", "WriteExports", "ReadExports", "UseExportKeys"},
        ),
    ],
)
def test_a_policy_has_what_the_snapshot_needs_and_no_more(snapshot: str, sids: set[str]) -> None:
    always = {"ReadChanges", "DecryptChanges", "DescribeTables", "CompareItems"}
    assert policy(snapshot).keys() == always | sids


def test_every_statement_names_its_resources() -> None:
    found = policy('{ method = "export", bucket = "b", prefix = "a/b/" }')
    assert found["ReadChanges"]["Resource"] == [STREAM_ARN]
    assert found["ReadExports"]["Resource"] == ["arn:aws-cn:s3:::b/a/b/AWSDynamoDB/*"]
    assert found["FollowExports"]["Resource"] == [f"{TABLE_ARN}/export/*"]
    assert not any("*" in action for statement in found.values() for action in statement["Action"])
    assert not any(resource == "*" for statement in found.values() for resource in statement["Resource"])

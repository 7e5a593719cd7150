"""The comparison of a table against the local AWS and a real ClickHouse: what it must see, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.data.shop_tables import SPEC, Shop, for_sdk, item, json_text

from dyncdc.operations.verify.compare import compare_table
from dyncdc.operations.verify.destination import Destination
from dyncdc.operations.verify.result import Verification
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sources.dynamodb import Tables

pytestmark = pytest.mark.asyncio(loop_scope="session")


RICH = item(
    'it\'s \\ "quoted" 🫖',
    7,
    status={"S": ""},
    total={"N": "12.50"},
    tags={"SS": ["b", "a", "ü"]},
    ship={"M": {"city": {"S": "Malmö"}, "geo": {"M": {"lat": {"N": "1"}}}}},
    raw={"B": "AAH/"},
    big={"N": "12345678901234567890123456789012345678"},
    nothing={"NULL": True},
    shots={"BS": ["AAH/", "Zg=="]},
)


async def test_t4_equal_tables_are_equal_whatever_the_order_of_sets_and_the_text_of_numbers(shop: Shop) -> None:
    await shop.put_source(RICH, item("a", 1, tags={"SS": ["y", "x"]}, total={"N": "1.50"}, n={"NS": ["2", "1E+1"]}))
    await shop.put_destination(RICH)
    await shop.put_destination(item("a", 1, tags={"SS": ["x", "y"]}, total={"N": "1.5"}, n={"NS": ["10", "2.0"]}))
    result = await shop.verify()
    assert result.verdict == "EQUAL items=2"
    assert list(result.lines()) == []


async def test_empty_tables_are_equal(shop: Shop) -> None:
    assert (await shop.verify()).verdict == "EQUAL items=0"


async def test_corrupted_row_names_its_key_and_attributes_but_no_value(shop: Shop) -> None:
    await shop.put(item("a", 1, status={"S": "paid"}, total={"N": "1"}), item("b", 2, status={"S": "paid"}))
    await shop.put_destination(item("a", 1, status={"S": "lost"}, total={"N": "2"}))
    result = await shop.verify()
    assert result.verdict == "DIFFERENT items=2 differing=1"
    assert list(result.lines()) == ["""shop {"pk":{"S":"a"},"sk":{"N":"1"}}: differs in 'status', 'total'"""]


async def test_row_whose_spill_is_not_json_is_a_difference_and_not_an_error(shop: Shop) -> None:
    await shop.put(item("a", 1, status={"S": "paid"}))
    await shop.run("INSERT INTO shop (pk, sk, status, _spill, _version) VALUES ('a', 1, 'paid', '{oops', 99)")
    assert (await shop.verify()).verdict == "DIFFERENT items=1 differing=1"


async def test_missing_row_is_found(shop: Shop) -> None:
    await shop.put(item("a", 1))
    await shop.put_source(item("a", 2))
    result = await shop.verify()
    assert [difference.kind for difference in result.differences] == ["missing"]
    assert result.differences[0].key == '{"pk":{"S":"a"},"sk":{"N":"2"}}'


async def test_extra_row_is_found(shop: Shop) -> None:
    await shop.put(*(item("a", number) for number in range(20)))
    await shop.put_destination(item("a", 99), item("ghost", 1))
    result = await shop.verify()
    assert result.verdict == "DIFFERENT items=20 differing=2"
    assert [(each.kind, each.key) for each in result.differences] == [
        ("extra", '{"pk":{"S":"a"},"sk":{"N":"99"}}'),
        ("extra", '{"pk":{"S":"ghost"},"sk":{"N":"1"}}'),
    ]


async def test_missing_row_does_not_hide_an_extra_one(shop: Shop) -> None:
    await shop.put_source(item("a", 1))
    await shop.put_destination(item("a", 2))
    result = await shop.verify()
    assert sorted(difference.kind for difference in result.differences) == ["extra", "missing"]


async def test_deleted_row_is_no_extra_row(shop: Shop) -> None:
    await shop.put(item("a", 1), item("a", 2))
    await shop.dynamodb.delete_item(TableName="shop", Key=item("a", 2))
    await shop.run("INSERT INTO shop (pk, sk, _version, _deleted) VALUES ('a', 2, 99, 1)")
    assert (await shop.verify()).verdict == "EQUAL items=1"


async def test_deleted_row_of_a_live_item_is_missing(shop: Shop) -> None:
    await shop.put(item("a", 1))
    await shop.run("INSERT INTO shop (pk, sk, _version, _deleted) VALUES ('a', 1, 99, 1)")
    assert [difference.kind for difference in (await shop.verify()).differences] == ["missing"]


async def test_thousands_of_items_are_compared_page_by_page(shop: Shop) -> None:
    keys = range(2_500)
    for first in range(0, len(keys), 25):
        requests = [{"PutRequest": {"Item": item("k", number)}} for number in keys[first : first + 25]]
        await shop.dynamodb.batch_write_item(RequestItems={"shop": requests})
    await shop.run("INSERT INTO shop (pk, sk, _version) SELECT 'k', number, 1 FROM numbers(2500) WHERE number != 1234")
    await shop.run("INSERT INTO shop (pk, sk, _version) SELECT 'x', number, 1 FROM numbers(1500)")
    result = await shop.verify()
    assert result.verdict == "DIFFERENT items=2500 differing=1501"
    assert len(result.differences) == 100
    assert list(result.lines())[-1] == "shop: and 1401 more"


async def test_change_that_arrives_while_keys_are_read_again_is_no_difference(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.put_source(item("a", 1))
    reads = 0
    fetch = shop.fetch

    async def late(query: str) -> Sequence[Sequence[object]]:
        nonlocal reads
        reads += "toString" in query
        if reads == 2:
            await shop.put_destination(item("a", 1))
        return await fetch(query)

    monkeypatch.setattr(shop, "fetch", late)
    assert (await shop.verify()).verdict == "EQUAL items=1"


@pytest.mark.parametrize(
    ("kind", "column", "one", "other"),
    [
        ("B", "String", "AAH/", "Zg=="),
        ("N", "String", "12345678901234567890.5", "-7"),
        ("N", "Decimal(38, 2)", "1.5", "-7"),
        ("S", "String", "a\nb", ""),
    ],
)
async def test_keys_of_every_kind_are_found_again(shop: Shop, kind: str, column: str, one: str, other: str) -> None:
    other = other or "it's"
    tag: Any = kind
    shop.spec = TableSpec(
        "keyed", "keyed", (KeyAttribute("id", tag),), (ColumnSpec("id", column, ("id",), (tag,), key=True),)
    )
    await shop.dynamodb.create_table(
        TableName="keyed",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": kind}],
        BillingMode="PAY_PER_REQUEST",
    )
    await shop.run(
        f"CREATE TABLE keyed (id {column}, _spill String, _version Int64, _deleted UInt8) "
        "ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id"
    )
    try:
        for text in (one, other):
            await shop.put({"id": {kind: text}, "n": {"N": "1"}}, table="keyed")
        assert (await shop.verify("keyed")).verdict == "EQUAL items=2"
        await shop.dynamodb.delete_item(TableName="keyed", Key=for_sdk({"id": {kind: one}}))
        extra = await shop.verify("keyed")
        assert [(each.kind, each.key) for each in extra.differences] == [
            ("extra", f'{{"id":{{"{kind}":"{json_text(one)}"}}}}')
        ]
    finally:
        await shop.run("DROP TABLE keyed")
        await shop.dynamodb.delete_table(TableName="keyed")


async def test_without_a_spill_column_only_what_has_a_column_is_compared_and_this_is_said(shop: Shop) -> None:
    shop.spec = TableSpec("shop", "shop", SPEC.keys, SPEC.columns, spill_column="")
    await shop.put(item("a", 1, status={"S": "paid"}, other={"S": "x"}))
    await shop.put_source(item("a", 1, status={"S": "paid"}, other={"S": "y"}))
    result = Verification("shop", "shop", not_compared=Destination(shop, shop.spec).not_compared)
    await compare_table(Tables(shop.dynamodb), Destination(shop, shop.spec), result, finds_extra_rows=True)
    assert result.verdict == "EQUAL items=1"
    assert list(result.lines()) == ["shop: not compared: attributes without a column (the table has no spill column)"]


async def test_lossy_columns_that_show_a_document_or_a_further_type_are_no_difference(shop: Shop) -> None:
    extra = (
        ColumnSpec("doc", "JSON", ("doc",), ("M",), lossy=True),
        ColumnSpec("typed", "JSON(a UInt32)", ("typed",), ("M",)),
        ColumnSpec("either", "Nullable(String)", ("either",), ("M", "L"), lossy=True),
        ColumnSpec("at", "Nullable(DateTime64(3))", ("at",), ("S",), lossy=True),
        ColumnSpec("id", "Nullable(UUID)", ("id",), ("S",), lossy=True),
    )
    for column in extra:
        await shop.run(f"ALTER TABLE shop ADD COLUMN {column.name} {column.type}")
    shop.spec = replace(SPEC, columns=(*SPEC.columns, *extra))
    loose = {
        "doc": {"M": {"a": {"N": "1"}, "b": {"BOOL": True}, "c": {"NULL": True}}},
        "either": {"L": [{"N": "1"}]},
        "at": {"S": "2026-11-30T12:00:00.123456+02:00"},
        "id": {"S": "61F0C404-5CB3-11E7-907B-A6006AD3DBA0"},
    }
    await shop.put(
        item("a", 1, **loose, typed={"M": {"a": {"N": "5000000000"}}}),
        item("a", 3),
        item("a", 2, either={"M": {"a": {"N": "1"}}}, typed={"M": {"a": {"N": "1"}}}),
    )
    result = await shop.verify()
    assert (result.verdict, result.differing) == ("EQUAL items=3", 0)
    rows = await shop.fetch(
        "SELECT toString(toTimeZone(at, 'UTC')), toString(id), _spill FROM shop ORDER BY sk LIMIT 1"
    )
    spill = '{"typed":{"M":{"a":{"N":"5000000000"}}}}'
    assert rows == [("2026-11-30 10:00:00.123", "61f0c404-5cb3-11e7-907b-a6006ad3dba0", spill)]
    await shop.run("INSERT INTO shop (pk, sk, doc, _spill, _version) VALUES ('a', 2, '{}', '', 99)")
    assert (await shop.verify()).verdict == "DIFFERENT items=3 differing=1"

"""Items: values stay exact, expressions, batches, transactions, pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.servers.aws_calls import Json, make_table

Switch = Callable[..., Awaitable[None]]
DIGITS = "12345678901234567890123456789012345678"


def nested(depth: int) -> Json:
    value: Json = {"S": "deep"}
    for level in range(depth):
        value = {"L": [value]} if level % 2 else {"M": {"m": value}}
    return value


async def read(dynamodb: Any, name: str, key: Json) -> Json:
    item: Json = (await dynamodb.get_item(TableName=name, Key=key, ConsistentRead=True)).get("Item", {})
    return item


async def error_code(call: Awaitable[Any]) -> str:
    with pytest.raises(ClientError) as error:
        await call
    return str(error.value.response["Error"]["Code"])


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (DIGITS, DIGITS),
        (f"-0.{DIGITS}", f"-0.{DIGITS}"),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        ("-0", "0"),
        ("1.500", "1.5"),
        ("0012", "12"),
        ("1e3", "1000"),
    ],
)
async def test_numbers_are_exact_and_canonical(clients: Any, name: str, given: str, stored: str) -> None:
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}, "n": {"N": given}, "ns": {"NS": [given]}})
    item = await read(clients.dynamodb, name, {"pk": {"S": "a"}})
    assert (item["n"], item["ns"]) == ({"N": stored}, {"NS": [stored]})


@pytest.mark.parametrize("number", [DIGITS + "9", "1E126", "1E-131", "NaN", "Infinity", "1_0", " 1", ""])
async def test_what_is_no_number_of_38_digits_is_refused(clients: Any, name: str, number: str) -> None:
    await make_table(clients.dynamodb, name)
    item = {"pk": {"S": "a"}, "n": {"N": number}}
    assert await error_code(clients.dynamodb.put_item(TableName=name, Item=item)) == "ValidationException"


async def test_every_type_comes_back_as_it_was(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    item = {
        "pk": {"S": "a"},
        "empty": {"S": ""},
        "emoji \U0001f600 `\"'": {"S": "\u0000\ud7ff\U0001f600\n"},
        "b": {"B": b"\x00\xff\xfe"},
        "none": {"B": b""},
        "bs": {"BS": [b"\x00", b"\xff"]},
        "ss": {"SS": ["a", "b"]},
        "ns": {"NS": ["-1", "2", "10"]},
        "flag": {"BOOL": False},
        "null": {"NULL": True},
        "list": {"L": []},
        "map": {"M": {}},
        "mixed": {"L": [{"N": "1"}, {"S": "1"}, {"M": {"x": {"B": b"\x01"}}}]},
        "deep": nested(32),
    }
    await clients.dynamodb.put_item(TableName=name, Item=item)
    assert await read(clients.dynamodb, name, {"pk": {"S": "a"}}) == item


async def test_limits_of_items_hold(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)

    async def refused(**attributes: Json) -> bool:
        item = {"pk": {"S": "a"}, **attributes}
        return await error_code(clients.dynamodb.put_item(TableName=name, Item=item)) == "ValidationException"

    assert await refused(deep=nested(33))
    assert await refused(large={"S": "x" * 410_000})
    assert await refused(twice={"SS": ["a", "a"]})
    assert await refused(pk={"S": ""})
    assert await refused(pk={"N": "1"})


async def test_number_keys_are_one_item_however_they_are_written(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name, "N", "B")
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"N": "1.0"}, "sk": {"B": b"\xff"}, "v": {"N": "1"}})
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"N": "1"}, "sk": {"B": b"\xff"}, "v": {"N": "2"}})
    scan = await clients.dynamodb.scan(TableName=name)
    assert scan["Items"] == [{"pk": {"N": "1"}, "sk": {"B": b"\xff"}, "v": {"N": "2"}}]
    description = (await clients.dynamodb.describe_table(TableName=name))["Table"]
    assert description["ItemCount"] == 1
    assert len(description["TableId"]) == 36


async def test_updates_set_add_remove_and_delete(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    key = {"pk": {"S": "a"}}
    await clients.dynamodb.put_item(
        TableName=name,
        Item={
            **key,
            "n": {"N": "1"},
            "tags": {"SS": ["x", "y"]},
            "m": {"M": {"list": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}]}, "gone": {"S": "-"}}},
        },
    )
    answer = await clients.dynamodb.update_item(
        TableName=name,
        Key=key,
        UpdateExpression="SET #n = #n + :big, m.#l[0] = :s, fresh = if_not_exists(fresh, :s),"
        " both = list_append(m.#l, :l) ADD tags :tag, seen :one REMOVE m.#l[1], m.gone DELETE other :tag",
        ExpressionAttributeNames={"#n": "n", "#l": "list"},
        ExpressionAttributeValues={
            ":big": {"N": "0." + DIGITS[:37]},
            ":s": {"S": "s"},
            ":l": {"L": [{"N": "9"}]},
            ":tag": {"SS": ["z"]},
            ":one": {"N": "1"},
        },
        ReturnValues="ALL_NEW",
    )
    expected = {
        **key,
        "n": {"N": "1." + DIGITS[:37]},
        "tags": {"SS": ["x", "y", "z"]},
        "m": {"M": {"list": {"L": [{"S": "s"}, {"N": "2"}]}}},
        "fresh": {"S": "s"},
        "both": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}, {"N": "9"}]},
        "seen": {"N": "1"},
    }
    assert answer["Attributes"] == expected
    assert await read(clients.dynamodb, name, key) == expected


async def test_an_update_creates_the_item_and_never_touches_the_key(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    key = {"pk": {"S": "a"}}
    values = {":v": {"S": "v"}}
    answer = await clients.dynamodb.update_item(
        TableName=name,
        Key=key,
        UpdateExpression="SET a = :v",
        ExpressionAttributeValues=values,
        ReturnValues="UPDATED_NEW",
    )
    assert answer["Attributes"] == {"a": {"S": "v"}}
    touching = clients.dynamodb.update_item(
        TableName=name, Key=key, UpdateExpression="SET pk = :v", ExpressionAttributeValues=values
    )
    assert await error_code(touching) == "ValidationException"


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("attribute_exists(s) AND attribute_not_exists(x)", True),
        ("n > :five AND n <= :ten", True),
        ("n BETWEEN :five AND :ten", True),
        ("n IN (:five, :ten)", True),
        ("NOT begins_with(s, :he) OR x = :five", False),
        ("begins_with(s, :he) and contains(tags, :t)", True),
        ("contains(s, :he)", True),
        ("attribute_type(s, :type)", True),
        ("size(s) = :five", True),
        ("m.k[1] = :ten", True),
        ("s = :five", False),
        ("x <> :five", True),
        ("(n = :ten OR s = :he) AND (n = :five OR s <> :he)", True),
    ],
)
async def test_conditions_decide_about_writes(clients: Any, name: str, expression: str, holds: bool) -> None:
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.put_item(
        TableName=name,
        Item={
            "pk": {"S": "a"},
            "n": {"N": "10"},
            "s": {"S": "hello"},
            "tags": {"SS": ["t"]},
            "m": {"M": {"k": {"L": [{"N": "1"}, {"N": "10"}]}}},
        },
    )
    values = {
        ":five": {"N": "5"},
        ":ten": {"N": "10"},
        ":he": {"S": "he"},
        ":t": {"S": "t"},
        ":type": {"S": "S"},
    }
    call = clients.dynamodb.delete_item(
        TableName=name,
        Key={"pk": {"S": "a"}},
        ConditionExpression=expression,
        ExpressionAttributeValues={one: value for one, value in values.items() if one in expression}
        or {":t": {"S": ""}},
    )
    if holds:
        await call
    else:
        assert await error_code(call) == "ConditionalCheckFailedException"


async def test_batches_write_read_and_refuse_duplicates(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    puts = [{"PutRequest": {"Item": {"pk": {"S": str(i)}}}} for i in range(25)]
    await clients.dynamodb.batch_write_item(RequestItems={name: puts})
    keys = [{"pk": {"S": str(i)}} for i in range(30)]
    answer = await clients.dynamodb.batch_get_item(RequestItems={name: {"Keys": keys}})
    assert len(answer["Responses"][name]) == 25
    delete = {"DeleteRequest": {"Key": {"pk": {"S": "0"}}}}
    assert (
        await error_code(clients.dynamodb.batch_write_item(RequestItems={name: [delete, delete]}))
        == "ValidationException"
    )
    await clients.dynamodb.batch_write_item(RequestItems={name: [delete]})
    assert await read(clients.dynamodb, name, {"pk": {"S": "0"}}) == {}


async def test_a_transaction_happens_whole_or_not_at_all(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    put = {"Put": {"TableName": name, "Item": {"pk": {"S": "a"}}}}
    check = {
        "ConditionCheck": {
            "TableName": name,
            "Key": {"pk": {"S": "b"}},
            "ConditionExpression": "attribute_exists(pk)",
        }
    }
    with pytest.raises(ClientError) as error:
        await clients.dynamodb.transact_write_items(TransactItems=[put, check])
    reasons = error.value.response["CancellationReasons"]
    assert [one["Code"] for one in reasons] == ["None", "ConditionalCheckFailed"]
    assert await read(clients.dynamodb, name, {"pk": {"S": "a"}}) == {}
    increment = {
        "Update": {
            "TableName": name,
            "Key": {"pk": {"S": "c"}},
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }
    for _ in range(2):
        await clients.dynamodb.transact_write_items(TransactItems=[put, increment], ClientRequestToken=name)
    got = await clients.dynamodb.transact_get_items(
        TransactItems=[{"Get": {"TableName": name, "Key": {"pk": {"S": key}}}} for key in "ac"]
    )
    assert [one["Item"] for one in got["Responses"]] == [{"pk": {"S": "a"}}, {"pk": {"S": "c"}, "n": {"N": "1"}}]


async def test_parallel_segments_find_each_item_once_page_by_page(clients: Any, name: str, settings: Switch) -> None:
    await make_table(clients.dynamodb, name, "S", "N")
    await settings(page_bytes=2000)
    items = [{"pk": {"S": f"k{i % 40}"}, "sk": {"N": str(i)}, "pad": {"S": "x" * 100}} for i in range(200)]
    for start in range(0, 200, 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        await clients.dynamodb.batch_write_item(RequestItems={name: puts})

    async def segment(number: int) -> list[Json]:
        found: list[Json] = []
        pages = clients.dynamodb.get_paginator("scan").paginate(TableName=name, Segment=number, TotalSegments=3)
        async for page in pages:
            found += page["Items"]
        return found

    segments = await asyncio.gather(*map(segment, range(3)))
    assert all(segments)
    found = sorted(int(item["sk"]["N"]) for one in segments for item in one)
    assert found == list(range(200))


async def test_a_page_that_ends_at_its_limit_names_its_last_key(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}, "v": {"S": "x" * 5000}})
    page = await clients.dynamodb.scan(TableName=name, Limit=1, ReturnConsumedCapacity="TOTAL")
    assert page["LastEvaluatedKey"] == {"pk": {"S": "a"}}
    assert page["ConsumedCapacity"]["CapacityUnits"] == 1.0
    rest = await clients.dynamodb.scan(TableName=name, ExclusiveStartKey=page["LastEvaluatedKey"])
    assert rest["Items"] == []
    assert "LastEvaluatedKey" not in rest


async def test_queries_go_by_range_forward_backward_and_over_indexes(clients: Any, name: str) -> None:
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    await clients.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": one, "KeyType": role} for one, role in keys],
        AttributeDefinitions=[
            {"AttributeName": one, "AttributeType": "N" if one == "sk" else "S"} for one in ("pk", "sk", "g")
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_g",
                "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    for i in range(12):
        item = {"pk": {"S": "a"}, "sk": {"N": str(i)}, "g": {"S": f"g{i % 2}"}, "even": {"BOOL": i % 2 == 0}}
        await clients.dynamodb.put_item(TableName=name, Item=item)

    async def query(**request: Any) -> list[int]:
        found: list[int] = []
        async for page in clients.dynamodb.get_paginator("query").paginate(TableName=name, **request):
            found += [int(item["sk"]["N"]) for item in page["Items"]]
        return found

    condition = "pk = :a AND sk BETWEEN :low AND :high"
    values = {":a": {"S": "a"}, ":low": {"N": "2"}, ":high": {"N": "10"}}
    request = {"KeyConditionExpression": condition, "ExpressionAttributeValues": values, "Limit": 4}
    assert await query(**request) == list(range(2, 11))
    assert await query(**request, ScanIndexForward=False) == list(range(10, 1, -1))
    filtered = {**request, "ExpressionAttributeValues": {**values, ":t": {"BOOL": True}}}
    assert await query(**filtered, FilterExpression="even = :t") == [2, 4, 6, 8, 10]
    by_index = {
        "IndexName": "by_g",
        "KeyConditionExpression": "g = :g",
        "ExpressionAttributeValues": {":g": {"S": "g1"}},
    }
    assert sorted(await query(**by_index, Limit=2)) == [1, 3, 5, 7, 9, 11]


async def test_projections_give_only_what_they_name(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    item = {"pk": {"S": "a"}, "m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}, "l": {"L": [{"S": "0"}, {"S": "1"}]}}
    await clients.dynamodb.put_item(TableName=name, Item=item)
    got = await clients.dynamodb.get_item(
        TableName=name,
        Key={"pk": {"S": "a"}},
        ProjectionExpression="m.#x, l[1]",
        ExpressionAttributeNames={"#x": "x"},
    )
    assert got["Item"] == {"m": {"M": {"x": {"N": "1"}}}, "l": {"L": [{"S": "1"}]}}


async def test_a_recreated_table_is_empty_and_another_one(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}})
    before = (await clients.dynamodb.describe_table(TableName=name))["Table"]["TableId"]
    await clients.dynamodb.delete_table(TableName=name)
    assert await error_code(clients.dynamodb.scan(TableName=name)) == "ResourceNotFoundException"
    await make_table(clients.dynamodb, name)
    assert (await clients.dynamodb.scan(TableName=name))["Count"] == 0
    assert (await clients.dynamodb.describe_table(TableName=name))["Table"]["TableId"] != before

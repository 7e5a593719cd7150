"""Streaming destinations: every change, in the real envelope, in the order of the writes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.servers.aws_calls import Json, changes, make_table, read_shard, shard_ids, stream_table, until_destination

from dyncdc.emulator.aws import LocalAws

Switch = Callable[..., Awaitable[None]]
KEY = {"pk": {"S": "a"}}


async def test_insert_modify_and_remove_have_the_real_envelope(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    started = time.time()
    item = {**KEY, "n": {"N": "1"}, "b": {"B": b"\x00\xff"}}
    await clients.dynamodb.put_item(TableName=name, Item=item)
    await clients.dynamodb.update_item(
        TableName=name, Key=KEY, UpdateExpression="SET n = :two", ExpressionAttributeValues={":two": {"N": "2"}}
    )
    await clients.dynamodb.delete_item(TableName=name, Key=KEY)
    insert, modify, remove = await changes(clients.kinesis, name)
    first = {**KEY, "n": {"N": "1"}, "b": {"B": "AP8="}}
    second = {**first, "n": {"N": "2"}}
    assert [one["eventName"] for one in (insert, modify, remove)] == ["INSERT", "MODIFY", "REMOVE"]
    assert (insert["dynamodb"]["NewImage"], "OldImage" in insert["dynamodb"]) == (first, False)
    assert (modify["dynamodb"]["OldImage"], modify["dynamodb"]["NewImage"]) == (first, second)
    assert (remove["dynamodb"]["OldImage"], "NewImage" in remove["dynamodb"]) == (second, False)
    stamps = [one["dynamodb"]["ApproximateCreationDateTime"] for one in (insert, modify, remove)]
    assert stamps == sorted(set(stamps))
    assert abs(stamps[0] / 1e6 - started) < 5
    assert set(insert) == {
        "awsRegion",
        "eventID",
        "eventName",
        "userIdentity",
        "recordFormat",
        "tableName",
        "dynamodb",
        "eventSource",
    }
    assert (insert["tableName"], insert["userIdentity"], insert["recordFormat"]) == (name, None, "application/json")
    assert insert["dynamodb"]["Keys"] == KEY
    assert insert["dynamodb"]["SizeBytes"] > 0
    assert len({one["eventID"] for one in (insert, modify, remove)}) == 3


async def test_every_kind_of_write_reaches_the_stream(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    await clients.dynamodb.batch_write_item(
        RequestItems={name: [{"PutRequest": {"Item": {"pk": {"S": one}}}} for one in "ab"]}
    )
    await clients.dynamodb.batch_write_item(RequestItems={name: [{"DeleteRequest": {"Key": {"pk": {"S": "a"}}}}]})
    await clients.dynamodb.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": name, "Item": {"pk": {"S": "c"}}}},
            {"Delete": {"TableName": name, "Key": {"pk": {"S": "b"}}}},
        ]
    )
    seen = [(one["eventName"], one["dynamodb"]["Keys"]["pk"]["S"]) for one in await changes(clients.kinesis, name)]
    assert seen == [("INSERT", "a"), ("INSERT", "b"), ("REMOVE", "a"), ("INSERT", "c"), ("REMOVE", "b")]


async def test_a_write_that_changes_nothing_emits_nothing(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    for members in (["x", "y"], ["y", "x"]):
        await clients.dynamodb.put_item(TableName=name, Item={**KEY, "n": {"N": "1.0"}, "s": {"SS": members}})
    await clients.dynamodb.delete_item(TableName=name, Key={"pk": {"S": "never"}})
    with pytest.raises(ClientError):
        await clients.dynamodb.put_item(
            TableName=name, Item={**KEY, "n": {"N": "2"}}, ConditionExpression="attribute_not_exists(pk)"
        )
    assert [one["eventName"] for one in await changes(clients.kinesis, name)] == ["INSERT"]


async def test_changes_of_an_item_stay_in_order_on_one_shard(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name, "S", "N")
    await stream_table(clients, name, shards=4)

    async def write(item: int) -> None:
        for count in range(10):
            await clients.dynamodb.put_item(
                TableName=name, Item={"pk": {"S": "p"}, "sk": {"N": str(item)}, "count": {"N": str(count)}}
            )

    await asyncio.gather(*map(write, range(12)))
    homes: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, list[int]] = defaultdict(list)
    for shard_id in await shard_ids(clients.kinesis, name):
        for record in await read_shard(clients.kinesis, name, shard_id):
            homes[record["PartitionKey"]].add(shard_id)
    for change in await changes(clients.kinesis, name):
        image: Json = change["dynamodb"]["NewImage"]
        counts[image["sk"]["N"]].append(int(image["count"]["N"]))
    assert len(homes) == 12
    assert all(len(home) == 1 for home in homes.values())
    assert len(set.union(*homes.values())) > 1
    assert all(one == list(range(10)) for one in counts.values())


async def test_a_destination_is_enabling_first_and_then_delivers(clients: Any, name: str, settings: Switch) -> None:
    await settings(enabling_delay_seconds=0.15)
    await make_table(clients.dynamodb, name)
    await clients.kinesis.create_stream(StreamName=name, ShardCount=1)
    summary = await clients.kinesis.describe_stream_summary(StreamName=name)
    arn = summary["StreamDescriptionSummary"]["StreamARN"]
    answer = await clients.dynamodb.enable_kinesis_streaming_destination(TableName=name, StreamArn=arn)
    assert answer["DestinationStatus"] == "ENABLING"
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "early"}})
    destination = await until_destination(clients.dynamodb, name, "ACTIVE")
    assert destination["StreamArn"] == arn
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "late"}})
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in await changes(clients.kinesis, name)] == ["late"]


async def test_the_precision_can_change_on_a_live_stream(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    arn = await stream_table(clients, name, "MILLISECOND")
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "ms"}})
    answer = await clients.dynamodb.update_kinesis_streaming_destination(
        TableName=name,
        StreamArn=arn,
        UpdateKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
    )
    assert answer["DestinationStatus"] == "UPDATING"
    destination = await until_destination(clients.dynamodb, name, "ACTIVE")
    assert destination["ApproximateCreationDateTimePrecision"] == "MICROSECOND"
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "us"}})
    found = [one["dynamodb"] for one in await changes(clients.kinesis, name)]
    assert [one["ApproximateCreationDateTimePrecision"] for one in found] == ["MILLISECOND", "MICROSECOND"]
    assert [len(str(one["ApproximateCreationDateTime"])) for one in found] == [13, 16]


async def test_a_disabled_destination_gets_nothing_more(clients: Any, name: str) -> None:
    await make_table(clients.dynamodb, name)
    arn = await stream_table(clients, name)
    await clients.dynamodb.disable_kinesis_streaming_destination(TableName=name, StreamArn=arn)
    await clients.dynamodb.put_item(TableName=name, Item=KEY)
    await until_destination(clients.dynamodb, name, "DISABLED")
    assert await changes(clients.kinesis, name) == []
    await clients.dynamodb.enable_kinesis_streaming_destination(TableName=name, StreamArn=arn)
    await until_destination(clients.dynamodb, name, "ACTIVE")


async def test_expired_items_are_deleted_by_the_service(
    clients: Any, name: str, local_aws: LocalAws, settings: Switch
) -> None:
    await settings(ttl_sweep_seconds=0.0)
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    now = int(time.time())
    for key, expires in (("past", now - 5), ("future", now + 60), ("ancient", now - 6 * 365 * 86400)):
        await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": key}, "ttl": {"N": str(expires)}})
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "text"}, "ttl": {"S": str(now - 5)}})
    await clients.dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    assert await local_aws.sweep() == 1
    removed = [one for one in await changes(clients.kinesis, name) if one["eventName"] == "REMOVE"]
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in removed] == ["past"]
    assert removed[0]["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert removed[0]["dynamodb"]["OldImage"]["ttl"] == {"N": str(now - 5)}


async def test_the_sweep_also_runs_by_itself(clients: Any, name: str, settings: Switch) -> None:
    await settings(ttl_sweep_seconds=0.05)
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    await clients.dynamodb.put_item(TableName=name, Item={**KEY, "ttl": {"N": str(int(time.time()) - 1)}})
    async with asyncio.timeout(3):
        while "Item" in await clients.dynamodb.get_item(TableName=name, Key=KEY):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_duplicates_and_delays_can_be_asked_for(clients: Any, name: str, settings: Switch) -> None:
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    await settings(duplicate_probability=0.5, seed=3, streaming_delay_seconds=0.1)
    puts = [{"PutRequest": {"Item": {"pk": {"S": str(i)}}}} for i in range(100)]
    for start in range(0, 100, 25):
        await clients.dynamodb.batch_write_item(RequestItems={name: puts[start : start + 25]})
    await asyncio.sleep(0.2)
    events = [one["eventID"] for one in await changes(clients.kinesis, name)]
    assert len(set(events)) == 100
    assert len(events) > 110


async def test_a_change_too_large_for_kinesis_vanishes(clients: Any, name: str, settings: Switch) -> None:
    await make_table(clients.dynamodb, name)
    await stream_table(clients, name)
    await settings(max_record_bytes=2000)
    await clients.dynamodb.put_item(TableName=name, Item={**KEY, "v": {"S": "x" * 3000}})
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "b"}})
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in await changes(clients.kinesis, name)] == ["b"]

"""Streams, pages, iterators, GetRecords."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.servers.aws_calls import iterator, make_stream, put, read_shard, shard_ids

HIGHEST_HASH_KEY = 2**128 - 1
Switch = Callable[..., Awaitable[None]]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


async def test_records_come_back_in_order_with_large_sequence_numbers(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    sequences = await put(clients.kinesis, name, b"a", b"b", b"c")
    records = await read_shard(clients.kinesis, name)
    assert [one["Data"] for one in records] == [b"a", b"b", b"c"]
    assert [one["SequenceNumber"] for one in records] == sequences
    assert [one["PartitionKey"] for one in records] == ["a", "b", "c"]
    assert sorted(map(int, sequences)) == list(map(int, sequences))
    assert int(sequences[0]).bit_length() > 180


async def test_a_partition_key_always_goes_to_the_same_shard(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name, 4)
    homes = [
        {(await clients.kinesis.put_record(StreamName=name, Data=b"x", PartitionKey=key))["ShardId"] for _ in range(3)}
        for key in map(str, range(20))
    ]
    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) == 4


async def test_each_iterator_type_starts_where_it_says(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    sequences = await put(clients.kinesis, name, b"a", b"b")
    await asyncio.sleep(1.02)  # botocore sends whole seconds, rounded down
    between = datetime.now(UTC)
    sequences += await put(clients.kinesis, name, b"c")

    async def read(kind: str, **rest: Any) -> list[bytes]:
        return [one["Data"] for one in await read_shard(clients.kinesis, name, ShardIteratorType=kind, **rest)]

    assert await read("TRIM_HORIZON") == [b"a", b"b", b"c"]
    assert await read("LATEST") == []
    assert await read("AT_SEQUENCE_NUMBER", StartingSequenceNumber=sequences[1]) == [b"b", b"c"]
    assert await read("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=sequences[1]) == [b"c"]
    assert await read("AT_TIMESTAMP", Timestamp=between) == [b"c"]


async def test_a_position_of_another_stream_or_the_future_is_refused(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    later = datetime.now(UTC) + timedelta(hours=1)
    for position in (
        {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "49" + "0" * 54},
        {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": later},
    ):
        with pytest.raises(ClientError) as error:
            await iterator(clients.kinesis, name, **position)
        assert code(error) == "InvalidArgumentException"


async def test_limit_and_millis_behind_say_how_far_the_tip_is(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"a", b"b", b"c")
    first = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name), Limit=2)
    assert [one["Data"] for one in first["Records"]] == [b"a", b"b"]
    assert first["MillisBehindLatest"] > 0
    rest = await clients.kinesis.get_records(ShardIterator=first["NextShardIterator"])
    assert [one["Data"] for one in rest["Records"]] == [b"c"]
    assert rest["MillisBehindLatest"] == 0
    assert rest["NextShardIterator"]


async def test_an_answer_is_at_most_ten_mebibytes(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    for i in range(16):
        await put(clients.kinesis, name, b"%d" % i + b"x" * 700_000)
    first = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name))
    assert 9 * 2**20 < sum(len(one["Data"]) for one in first["Records"]) <= 10 * 2**20
    rest = await clients.kinesis.get_records(ShardIterator=first["NextShardIterator"])
    assert len(first["Records"]) + len(rest["Records"]) == 16


async def test_records_that_are_too_large_are_refused(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name)
    await settings(max_record_bytes=1000)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.put_record(StreamName=name, Data=b"x" * 1001, PartitionKey="a")
    assert code(error) == "ValidationException"


async def test_list_shards_gives_pages_of_at_most_a_thousand(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name, 1200)
    first = await clients.kinesis.list_shards(StreamName=name)
    rest = await clients.kinesis.list_shards(NextToken=first["NextToken"])
    assert (len(first["Shards"]), len(rest["Shards"])) == (1000, 200)
    assert "NextToken" not in rest
    ids = [one["ShardId"] for one in first["Shards"] + rest["Shards"]]
    assert len(set(ids)) == 1200
    tail = await clients.kinesis.list_shards(StreamName=name, ExclusiveStartShardId=ids[1195], MaxResults=3)
    assert [one["ShardId"] for one in tail["Shards"]] == ids[1196:1199]
    with pytest.raises(ClientError) as error:
        await clients.kinesis.list_shards(StreamName=name, NextToken=first["NextToken"])
    assert code(error) == "InvalidArgumentException"


async def test_page_tokens_and_iterators_expire(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name, 2)
    token = (await clients.kinesis.list_shards(StreamName=name, MaxResults=1))["NextToken"]
    held = await iterator(clients.kinesis, name)
    await settings(iterator_ttl_seconds=0.01, token_ttl_seconds=0.01)
    await asyncio.sleep(0.02)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.list_shards(NextToken=token)
    assert code(error) == "ExpiredNextTokenException"
    with pytest.raises(ClientError) as error:
        await clients.kinesis.get_records(ShardIterator=held)
    assert code(error) == "ExpiredIteratorException"


async def test_streams_are_listed_and_described(clients: Any, name: str) -> None:
    arn = await make_stream(clients.kinesis, name, 3)
    listed = await clients.kinesis.list_streams(ExclusiveStartStreamName=name[:-1], Limit=1)
    assert listed["StreamNames"] == [name]
    description = (await clients.kinesis.describe_stream(StreamARN=arn, Limit=2))["StreamDescription"]
    assert (len(description["Shards"]), description["HasMoreShards"]) == (2, True)
    ranges = [one["HashKeyRange"] for one in (await clients.kinesis.list_shards(StreamName=name))["Shards"]]
    assert ranges[0]["StartingHashKey"] == "0"
    assert ranges[-1]["EndingHashKey"] == str(HIGHEST_HASH_KEY)
    for one, following in pairwise(ranges):
        assert int(one["EndingHashKey"]) + 1 == int(following["StartingHashKey"])


async def test_a_recreated_stream_has_another_creation_time_and_no_old_positions(clients: Any, name: str) -> None:
    async def created() -> datetime:
        summary = await clients.kinesis.describe_stream_summary(StreamName=name)
        time: datetime = summary["StreamDescriptionSummary"]["StreamCreationTimestamp"]
        return time

    await make_stream(clients.kinesis, name)
    sequence = (await put(clients.kinesis, name, b"a"))[0]
    before, held = await created(), await iterator(clients.kinesis, name)
    await clients.kinesis.delete_stream(StreamName=name)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.describe_stream_summary(StreamName=name)
    assert code(error) == "ResourceNotFoundException"
    await asyncio.sleep(0.01)
    await make_stream(clients.kinesis, name)
    assert await created() > before
    assert await shard_ids(clients.kinesis, name) == ["shardId-000000000000"]
    with pytest.raises(ClientError) as error:
        await clients.kinesis.get_records(ShardIterator=held)
    assert code(error) == "ResourceNotFoundException"
    position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence}
    with pytest.raises(ClientError) as error:
        await iterator(clients.kinesis, name, **position)
    assert code(error) == "InvalidArgumentException"


async def test_a_new_stream_is_creating_for_as_long_as_asked(clients: Any, name: str, settings: Switch) -> None:
    await settings(stream_delay_seconds=0.1)
    await clients.kinesis.create_stream(StreamName=name, ShardCount=1)

    async def status() -> str:
        summary = await clients.kinesis.describe_stream_summary(StreamName=name)
        return str(summary["StreamDescriptionSummary"]["StreamStatus"])

    assert await status() == "CREATING"
    with pytest.raises(ClientError) as error:
        await clients.kinesis.update_shard_count(StreamName=name, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    assert code(error) == "ResourceInUseException"
    await asyncio.sleep(0.12)
    assert await status() == "ACTIVE"

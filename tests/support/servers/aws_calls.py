"""Short forms of what these tests do over and over: make a stream or a table, read a shard to its tip."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

Json = dict[str, Any]


async def make_stream(kinesis: Any, name: str, shards: int = 1) -> str:
    """Create a stream and return its ARN."""
    await kinesis.create_stream(StreamName=name, ShardCount=shards)
    summary = await kinesis.describe_stream_summary(StreamName=name)
    return str(summary["StreamDescriptionSummary"]["StreamARN"])


async def shard_ids(kinesis: Any, name: str) -> list[str]:
    """Return the ids of all shards that are listed."""
    return [one["ShardId"] for one in (await kinesis.list_shards(StreamName=name))["Shards"]]


async def iterator(kinesis: Any, name: str, shard_id: str = "shardId-000000000000", **position: Any) -> str:
    """Return an iterator, from TRIM_HORIZON unless told otherwise."""
    position = position or {"ShardIteratorType": "TRIM_HORIZON"}
    answer = await kinesis.get_shard_iterator(StreamName=name, ShardId=shard_id, **position)
    return str(answer["ShardIterator"])


async def read_shard(kinesis: Any, name: str, shard_id: str = "shardId-000000000000", **position: Any) -> list[Json]:
    """Return all records of a shard up to its tip or end."""
    following: str | None = await iterator(kinesis, name, shard_id, **position)
    records: list[Json] = []
    while following:
        answer = await kinesis.get_records(ShardIterator=following)
        records += answer["Records"]
        if answer["MillisBehindLatest"] == 0:
            break
        following = answer.get("NextShardIterator")
    return records


async def put(kinesis: Any, name: str, *data: bytes, hash_key: int | None = None) -> list[str]:
    """Write records with their data as partition key; return the sequence numbers."""
    explicit = {} if hash_key is None else {"ExplicitHashKey": str(hash_key)}
    records = [{"Data": one, "PartitionKey": one.decode()[:200], **explicit} for one in data]
    answer = await kinesis.put_records(StreamName=name, Records=records)
    return [one["SequenceNumber"] for one in answer["Records"]]


async def make_table(dynamodb: Any, name: str, hash_type: str = "S", range_type: str | None = None) -> str:
    """Create a table with the key ``pk`` and perhaps ``sk``; return its ARN."""
    keys = [("pk", "HASH", hash_type)] + ([("sk", "RANGE", range_type)] if range_type else [])
    answer = await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": one, "KeyType": role} for one, role, _ in keys],
        AttributeDefinitions=[{"AttributeName": one, "AttributeType": kind} for one, _, kind in keys],
    )
    return str(answer["TableDescription"]["TableArn"])


async def stream_table(clients: Any, name: str, precision: str = "MICROSECOND", shards: int = 1) -> str:
    """Make a stream of the same name and send the changes of a table there; return once that is ACTIVE."""
    arn = await make_stream(clients.kinesis, name, shards)
    await clients.dynamodb.enable_kinesis_streaming_destination(
        TableName=name,
        StreamArn=arn,
        EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": precision},
    )
    await until_destination(clients.dynamodb, name, "ACTIVE")
    return arn


async def until_destination(dynamodb: Any, name: str, status: str) -> Json:
    """Wait until the only destination of a table has a status."""
    while True:
        answer = await dynamodb.describe_kinesis_streaming_destination(TableName=name)
        destination: Json = answer["KinesisDataStreamDestinations"][0]
        if destination["DestinationStatus"] == status:
            return destination
        await asyncio.sleep(0.01)


async def changes(kinesis: Any, name: str) -> list[Json]:
    """Return all change records of a stream, shard by shard."""
    found: list[Json] = []
    for shard_id in await shard_ids(kinesis, name):
        found += [orjson.loads(one["Data"]) for one in await read_shard(kinesis, name, shard_id)]
    return found

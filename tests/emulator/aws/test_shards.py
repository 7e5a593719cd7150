"""Resharding, retention, and the limits of a shard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.servers.aws_calls import iterator, make_stream, put, read_shard, shard_ids

MIDDLE = 2**127
Switch = Callable[..., Awaitable[None]]
ZERO, ONE, TWO, THREE = (f"shardId-{number:012d}" for number in range(4))


async def test_a_split_names_its_children_with_the_last_records(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"a")
    await clients.kinesis.split_shard(StreamName=name, ShardToSplit=ZERO, NewStartingHashKey=str(MIDDLE))
    last = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name, ZERO))
    assert [one["Data"] for one in last["Records"]] == [b"a"]
    assert "NextShardIterator" not in last
    assert [(one["ShardId"], one["ParentShards"]) for one in last["ChildShards"]] == [(ONE, [ZERO]), (TWO, [ZERO])]
    await put(clients.kinesis, name, b"low", hash_key=0)
    await put(clients.kinesis, name, b"high", hash_key=MIDDLE)
    assert [one["Data"] for one in await read_shard(clients.kinesis, name, ONE)] == [b"low"]
    assert [one["Data"] for one in await read_shard(clients.kinesis, name, TWO)] == [b"high"]


async def test_a_closed_shard_is_read_page_by_page_before_it_ends(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"a", b"b")
    await clients.kinesis.split_shard(StreamName=name, ShardToSplit=ZERO, NewStartingHashKey=str(MIDDLE))
    first = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name), Limit=1)
    assert "ChildShards" not in first
    last = await clients.kinesis.get_records(ShardIterator=first["NextShardIterator"], Limit=1)
    assert [one["Data"] for one in last["Records"]] == [b"b"]
    assert "NextShardIterator" not in last


async def test_a_merge_child_has_two_parents(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name, 2)
    await clients.kinesis.merge_shards(StreamName=name, ShardToMerge=ZERO, AdjacentShardToMerge=ONE)
    shards = {one["ShardId"]: one for one in (await clients.kinesis.list_shards(StreamName=name))["Shards"]}
    assert (shards[TWO]["ParentShardId"], shards[TWO]["AdjacentParentShardId"]) == (ZERO, ONE)
    assert "EndingSequenceNumber" in shards[ZERO]["SequenceNumberRange"]
    assert "EndingSequenceNumber" not in shards[TWO]["SequenceNumberRange"]
    for parent in (ZERO, ONE):
        last = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name, parent))
        assert last["ChildShards"][0]["ParentShards"] == [ZERO, ONE]


async def test_closed_or_distant_shards_cannot_be_resharded(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name, 3)
    with pytest.raises(ClientError, match="not adjacent"):
        await clients.kinesis.merge_shards(StreamName=name, ShardToMerge=ZERO, AdjacentShardToMerge=TWO)
    await clients.kinesis.merge_shards(StreamName=name, ShardToMerge=ZERO, AdjacentShardToMerge=ONE)
    with pytest.raises(ClientError, match="already been merged or split"):
        await clients.kinesis.split_shard(StreamName=name, ShardToSplit=ZERO, NewStartingHashKey="5")


@pytest.mark.parametrize("target", [1, 5])
async def test_update_shard_count_reaches_its_target(clients: Any, name: str, target: int) -> None:
    await make_stream(clients.kinesis, name, 3)
    await clients.kinesis.update_shard_count(StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
    summary = (await clients.kinesis.describe_stream_summary(StreamName=name))["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == target
    latest = await clients.kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})
    assert len(latest["Shards"]) == target
    assert len(await shard_ids(clients.kinesis, name)) > target


async def test_filters_choose_by_time_and_horizon(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    await asyncio.sleep(1.02)  # botocore sends whole seconds, rounded down
    at = time.time()
    await clients.kinesis.split_shard(StreamName=name, ShardToSplit=ZERO, NewStartingHashKey=str(MIDDLE))

    async def chosen(**shard_filter: Any) -> list[str]:
        answer = await clients.kinesis.list_shards(StreamName=name, ShardFilter=shard_filter)
        return [one["ShardId"] for one in answer["Shards"]]

    assert await chosen(Type="AT_TRIM_HORIZON") == [ZERO]
    assert await chosen(Type="FROM_TRIM_HORIZON") == [ZERO, ONE, TWO]
    assert await chosen(Type="AFTER_SHARD_ID", ShardId=ONE) == [TWO]
    assert await chosen(Type="AT_TIMESTAMP", Timestamp=at) == [ZERO]
    assert await chosen(Type="FROM_TIMESTAMP", Timestamp=at) == [ZERO, ONE, TWO]


async def test_trimmed_records_are_gone_and_old_positions_start_at_the_horizon(
    clients: Any, name: str, settings: Switch
) -> None:
    await make_stream(clients.kinesis, name)
    old = (await put(clients.kinesis, name, b"old"))[0]
    await asyncio.sleep(0.3)
    await put(clients.kinesis, name, b"new")
    await settings(retention_seconds=0.25)
    position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": old}
    assert [one["Data"] for one in await read_shard(clients.kinesis, name, **position)] == [b"new"]
    assert [one["Data"] for one in await read_shard(clients.kinesis, name)] == [b"new"]


async def test_closed_shards_disappear_once_their_data_is_trimmed(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"old")
    held = await iterator(clients.kinesis, name)
    await clients.kinesis.split_shard(StreamName=name, ShardToSplit=ZERO, NewStartingHashKey=str(MIDDLE))
    assert await shard_ids(clients.kinesis, name) == [ZERO, ONE, TWO]
    await settings(retention_seconds=0.1)
    await asyncio.sleep(0.15)
    assert await shard_ids(clients.kinesis, name) == [ONE, TWO]
    for call in (clients.kinesis.get_records(ShardIterator=held), iterator(clients.kinesis, name, ZERO)):
        with pytest.raises(ClientError) as error:
            await call
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


async def test_the_retention_period_only_moves_the_way_it_is_asked_to(clients: Any, name: str) -> None:
    await make_stream(clients.kinesis, name)
    await clients.kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    summary = (await clients.kinesis.describe_stream_summary(StreamName=name))["StreamDescriptionSummary"]
    assert summary["RetentionPeriodHours"] == 48
    with pytest.raises(ClientError):
        await clients.kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
    await clients.kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)


async def test_limits_allow_five_reads_a_second(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name)
    await settings(limits=True)
    held = await iterator(clients.kinesis, name)
    for _ in range(5):
        await clients.kinesis.get_records(ShardIterator=held)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.get_records(ShardIterator=held)
    assert error.value.response["Error"]["Code"] == "ProvisionedThroughputExceededException"


async def test_limits_block_a_shard_after_a_full_answer(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name)
    for i in range(16):
        await put(clients.kinesis, name, b"%d" % i + b"x" * 700_000)
    await settings(limits=True)
    first = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name))
    await asyncio.sleep(1.1)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.get_records(ShardIterator=first["NextShardIterator"])
    assert error.value.response["Error"]["Code"] == "ProvisionedThroughputExceededException"


async def test_limits_refuse_single_records_of_a_full_second(clients: Any, name: str, settings: Switch) -> None:
    await make_stream(clients.kinesis, name)
    await settings(limits=True)
    records = [{"Data": b"x", "PartitionKey": str(i)} for i in range(500)]
    results = []
    for _ in range(5):
        results += (await clients.kinesis.put_records(StreamName=name, Records=records))["Records"]
    failed = [one for one in results if "ErrorCode" in one]
    assert {one["ErrorCode"] for one in failed} == {"ProvisionedThroughputExceededException"}
    assert len(await read_shard(clients.kinesis, name)) == len(results) - len(failed) < len(results)

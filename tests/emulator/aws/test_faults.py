"""The control API: scripted and random faults on every service, counters, settings; and the chaos proxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from support.servers.aws_calls import iterator, make_stream, make_table, put, read_shard
from support.servers.chaos import ChaosProxy

from dyncdc.emulator.aws import LocalAws, LocalAwsError

Switch = Callable[..., Awaitable[None]]


async def test_scripted_faults_come_in_order_and_then_stop(clients: Any, name: str, faults: Switch) -> None:
    await make_stream(clients.kinesis, name)
    held = await iterator(clients.kinesis, name)
    await faults("GetRecords", [None, {"error": "InternalFailure", "status": 500}, "drop", {"sleep": 0.1}])
    await clients.kinesis.get_records(ShardIterator=held)
    with pytest.raises(ClientError) as error:
        await clients.kinesis.get_records(ShardIterator=held)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    with pytest.raises(ConnectionClosedError):
        await clients.kinesis.get_records(ShardIterator=held)
    started = time.monotonic()
    await clients.kinesis.get_records(ShardIterator=held)
    assert time.monotonic() - started >= 0.1


async def test_a_modelled_error_reaches_the_client_as_its_class(clients: Any, name: str, faults: Switch) -> None:
    await make_table(clients.dynamodb, name)
    await faults("GetItem", [{"error": "ProvisionedThroughputExceededException"}])
    with pytest.raises(clients.dynamodb.exceptions.ProvisionedThroughputExceededException):
        await clients.dynamodb.get_item(TableName=name, Key={"pk": {"S": "a"}})


async def test_an_empty_answer_keeps_its_place(clients: Any, name: str, faults: Switch) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"a")
    await faults("GetRecords", [{"empty": True}])
    answer = await clients.kinesis.get_records(ShardIterator=await iterator(clients.kinesis, name))
    assert answer["Records"] == []
    assert answer["MillisBehindLatest"] > 0
    following = await clients.kinesis.get_records(ShardIterator=answer["NextShardIterator"])
    assert [one["Data"] for one in following["Records"]] == [b"a"]


async def test_an_empty_page_of_a_scan_has_a_key_to_go_on_from(clients: Any, name: str, faults: Switch) -> None:
    await make_table(clients.dynamodb, name, "B", "N")
    for number in range(4):
        await clients.dynamodb.put_item(TableName=name, Item={"pk": {"B": b"a"}, "sk": {"N": str(number)}})
    await faults("Scan", [{"empty": True}, None, {"empty": True}, {"empty": True}])
    found, key, pages = [], None, 0
    while pages == 0 or key:
        start = {"ExclusiveStartKey": key} if key else {}
        page = await clients.dynamodb.scan(TableName=name, Limit=2, Segment=0, TotalSegments=1, **start)
        found += [item["sk"]["N"] for item in page["Items"]]
        key, pages = page.get("LastEvaluatedKey"), pages + 1
    assert (found, pages) == (["0", "1", "2", "3"], 6)


async def test_an_answer_can_be_held_until_it_is_old(clients: Any, name: str, faults: Switch) -> None:
    await make_table(clients.dynamodb, name)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}, "n": {"N": "1"}})
    await faults("Scan", [{"hold": 0.4}])
    reading = asyncio.ensure_future(clients.dynamodb.scan(TableName=name))
    await asyncio.sleep(0.2)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}, "n": {"N": "2"}})
    assert (await reading)["Items"][0]["n"] == {"N": "1"}


async def test_a_fault_can_be_for_one_shard_only(clients: Any, name: str, faults: Switch) -> None:
    await make_stream(clients.kinesis, name, 2)
    await faults("GetRecords", [{"error": "InternalFailure", "status": 500}], contains="shardId-000000000001")
    assert await read_shard(clients.kinesis, name, "shardId-000000000000") == []
    with pytest.raises(ClientError):
        await read_shard(clients.kinesis, name, "shardId-000000000001")


async def test_random_faults_repeat_with_their_seed(clients: Any, local_aws: LocalAws, faults: Switch) -> None:
    async def outcomes() -> list[bool]:
        await local_aws.clear_faults()
        await faults("ListStreams", [{"error": "LimitExceededException"}], probability=0.5, seed=7)
        found = []
        for _ in range(20):
            try:
                await clients.kinesis.list_streams(Limit=1)
                found.append(True)
            except ClientError:
                found.append(False)
        return found

    first = await outcomes()
    assert len(set(first)) == 2
    assert await outcomes() == first


async def test_an_applied_write_can_lose_its_answer(clients: Any, name: str, faults: Switch) -> None:
    await make_table(clients.dynamodb, name)
    await faults("PutItem", [{"drop": True, "apply": True}])
    with pytest.raises(ConnectionClosedError):
        await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "a"}})
    assert "Item" in await clients.dynamodb.get_item(TableName=name, Key={"pk": {"S": "a"}})


async def test_a_bucket_can_fail_and_stop_in_the_middle(clients: Any, name: str, faults: Switch) -> None:
    await clients.s3.create_bucket(Bucket=name)
    await clients.s3.put_object(Bucket=name, Key="a/b c.gz", Body=b"0123456789" * 100)
    await faults("GetObject", [{"error": "SlowDown", "status": 503}, {"cut": 100}], contains=name)
    with pytest.raises(ClientError) as error:
        await clients.s3.get_object(Bucket=name, Key="a/b c.gz")
    assert error.value.response["Error"]["Code"] == "SlowDown"
    with pytest.raises(Exception, match="payload is not completed"):
        async with (await clients.s3.get_object(Bucket=name, Key="a/b c.gz"))["Body"] as stream:
            await stream.read()
    body = await (await clients.s3.get_object(Bucket=name, Key="a/b c.gz"))["Body"].read()
    assert body == b"0123456789" * 100
    head = await clients.s3.head_object(Bucket=name, Key="a/b c.gz")
    assert head["ContentLength"] == 1000


async def test_calls_are_counted_by_operation(clients: Any, local_aws: LocalAws) -> None:
    before = (await local_aws.calls()).get("ListTables", 0)
    await clients.dynamodb.list_tables()
    await clients.dynamodb.list_tables()
    assert (await local_aws.calls())["ListTables"] == before + 2


async def test_a_wrong_setting_or_fault_is_refused(local_aws: LocalAws) -> None:
    with pytest.raises(LocalAwsError, match="no setting 'retention'"):
        await local_aws.set(retention=5)
    with pytest.raises(LocalAwsError, match="takes a bool"):
        await local_aws.set(limits="yes")
    with pytest.raises(LocalAwsError, match="a fault is"):
        await local_aws.inject("GetRecords", [{"explode": True}])


async def test_what_is_not_served_is_refused_by_name(clients: Any, name: str) -> None:
    for call in (
        clients.dynamodb.execute_statement(Statement="SELECT * FROM t"),
        clients.kinesis.list_tags_for_stream(StreamName=name),
    ):
        with pytest.raises(ClientError) as error:
            await call
        assert error.value.response["Error"]["Code"] == "UnknownOperationException"


async def test_the_chaos_proxy_delays_cuts_and_holds(clients: Any, name: str, local_aws: LocalAws) -> None:
    await make_stream(clients.kinesis, name)
    await put(clients.kinesis, name, b"x" * 100_000)
    held = await iterator(clients.kinesis, name)
    proxy = ChaosProxy("127.0.0.1", int(local_aws.endpoint_url.rpartition(":")[2]))
    import aioboto3  # the fixture's clients know only the direct way

    config = AioConfig(retries={"total_max_attempts": 1}, read_timeout=2, connect_timeout=1)
    session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    async with proxy.running(), session.client("kinesis", endpoint_url=proxy.url, config=config) as kinesis:

        async def seconds() -> float:
            started = time.monotonic()
            await kinesis.get_records(ShardIterator=held)
            return time.monotonic() - started

        await seconds()
        proxy.latency_seconds = 0.1
        assert await seconds() >= 0.1
        proxy.heal()
        for broken in ({"cut_after_bytes": 50_000}, {"blackhole": True}, {"refuse": True}):
            for switch, value in broken.items():
                setattr(proxy, switch, value)
            if proxy.refuse:
                proxy.reset_connections()
                await asyncio.sleep(0.05)
            with pytest.raises(BotoCoreError):
                await seconds()
            proxy.heal()
        await seconds()
        assert proxy.connections >= 4

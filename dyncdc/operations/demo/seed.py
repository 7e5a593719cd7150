"""The source side of the demo: tables, stream, streaming destinations and bucket, as a user would have made them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from dyncdc.errors import FatalError
from dyncdc.operations.demo.workload.dynamodb import DynamoDBWriter
from dyncdc.operations.demo.workload.sample_data import CUSTOMERS_TABLE, ORDERS_TABLE, TTL_ATTRIBUTE, OrderSystem
from dyncdc.schema.types.dynamodb_values import Item
from dyncdc.sources.aws_errors import aws_call
from dyncdc.sources.clients import AwsClients

STREAM: Final = "shop-changes"
BUCKET: Final = "shop-exports"
SHARDS: Final = 2
CUSTOMERS_SHARE: Final = 10
"""One item in so many is a customer, the others are orders."""
READY_SECONDS = 15.0
POLL_SECONDS = 0.05

_KEYS: Final = {
    CUSTOMERS_TABLE: [("customer_id", "HASH", "S")],
    ORDERS_TABLE: [("customer_id", "HASH", "S"), ("order_number", "RANGE", "N")],
}
TABLES: Final = tuple(_KEYS)


async def make_tables(aws: AwsClients) -> None:
    """Create both tables, with point-in-time recovery and, for orders, a TTL attribute."""
    for table, keys in _KEYS.items():
        async with aws_call(f"creating table {table}"):
            await aws.dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind, _ in keys],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": type_} for name, _, type_ in keys],
                BillingMode="PAY_PER_REQUEST",
            )
            await aws.dynamodb.get_waiter("table_exists").wait(TableName=table)
            await aws.dynamodb.update_continuous_backups(
                TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
    async with aws_call(f"setting the TTL of table {ORDERS_TABLE}"):
        await aws.dynamodb.update_time_to_live(
            TableName=ORDERS_TABLE, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        )


async def fill(system: OrderSystem, writer: DynamoDBWriter, items: int, written: list[int]) -> list[tuple[int, int]]:
    """Write ``items`` items, counting along in ``written[0]``; return the (customer, number) of the orders."""
    customers = items // CUSTOMERS_SHARE
    orders = [(number % customers, number) for number in range(1, items - customers + 1)]
    await writer.put_all(CUSTOMERS_TABLE, (system.customer(number) for number in range(customers)), written)
    await writer.put_all(ORDERS_TABLE, _each(system, orders), written)
    return orders


async def start_streaming(aws: AwsClients) -> None:
    """Create the stream and the bucket and let both tables send their changes, stamped in microseconds."""
    async with aws_call(f"creating stream {STREAM}"):
        await aws.kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
        await aws.kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
        description = await aws.kinesis.describe_stream_summary(StreamName=STREAM)
    arn = description["StreamDescriptionSummary"]["StreamARN"]
    for table in TABLES:
        async with aws_call(f"enabling the streaming destination of table {table}"):
            await aws.dynamodb.enable_kinesis_streaming_destination(
                TableName=table,
                StreamArn=arn,
                EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
            )
    async with aws_call(f"creating bucket {BUCKET}"):
        await aws.s3.create_bucket(Bucket=BUCKET)
    for table in TABLES:
        await _until_streaming(aws.dynamodb, table)


async def _until_streaming(dynamodb: Any, table: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                async with aws_call(f"describing the streaming destinations of table {table}"):
                    answer = await dynamodb.describe_kinesis_streaming_destination(TableName=table)
                states = {each["DestinationStatus"] for each in answer["KinesisDataStreamDestinations"]}
                if states == {"ACTIVE"}:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise FatalError(f"enabling the streaming destination of table {table}: not active in time") from None


def _each(system: OrderSystem, orders: list[tuple[int, int]]) -> Iterator[Item]:
    return (system.order(customer, number) for customer, number in orders)

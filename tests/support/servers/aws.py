"""The AWS of the end-to-end tests: clients as localstack-client makes them, and the control API of the local one."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from botocore.config import Config
from localstack_client.session import Session  # type: ignore[import-untyped]

from support.processes.harness import wait_until

REGION = "us-east-1"
Item = Mapping[str, Mapping[str, Any]]
"""An item as DynamoDB types it."""

BATCH_WRITE_ITEMS = 25


class Aws:
    """Kinesis, DynamoDB and S3 behind one endpoint. ``local``: it is our own, with faults and counters."""

    def __init__(self, endpoint_url: str, *, local: bool) -> None:
        self.endpoint_url = endpoint_url
        self.local = local
        session = Session(region_name=REGION)  # reads AWS_ENDPOINT_URL
        config = Config(retries={"mode": "standard", "total_max_attempts": 8}, s3={"addressing_style": "path"})
        self.kinesis = session.client("kinesis", config=config)
        self.dynamodb = session.client("dynamodb", config=config)
        self.s3 = session.client("s3", config=config)

    def close(self) -> None:
        """Close the connections."""
        for client in (self.kinesis, self.dynamodb, self.s3):
            client.close()

    def make_stream(self, name: str, shards: int = 1) -> str:
        """Create a stream and return its ARN."""
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        summary = self.kinesis.describe_stream_summary(StreamName=name)
        return str(summary["StreamDescriptionSummary"]["StreamARN"])

    def make_table(self, name: str, keys: Mapping[str, str]) -> str:
        """Create a table with point-in-time recovery and return its ARN. ``keys``: HASH, then RANGE, name to type."""
        roles = ("HASH", "RANGE")
        answer = self.dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in zip(keys, roles, strict=False)],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in keys.items()],
        )
        self.dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        self.dynamodb.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        return str(answer["TableDescription"]["TableArn"])

    def send_changes(self, table: str, stream_arn: str, precision: str = "MICROSECOND") -> None:
        """Send the changes of a table to a stream; return once that is ACTIVE."""
        self.dynamodb.enable_kinesis_streaming_destination(
            TableName=table,
            StreamArn=stream_arn,
            EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": precision},
        )

        def active() -> bool:
            answer = self.dynamodb.describe_kinesis_streaming_destination(TableName=table)
            return any(one["DestinationStatus"] == "ACTIVE" for one in answer["KinesisDataStreamDestinations"])

        wait_until(active, 20, f"changes of {table} go to {stream_arn}")

    def put(self, table: str, item: Item) -> None:
        """Write one item."""
        self.dynamodb.put_item(TableName=table, Item=item)

    def put_all(self, table: str, items: Sequence[Item]) -> None:
        """Write many items with different keys."""
        for first in range(0, len(items), BATCH_WRITE_ITEMS):
            pending = {table: [{"PutRequest": {"Item": item}} for item in items[first : first + BATCH_WRITE_ITEMS]]}
            while pending:
                pending = self.dynamodb.batch_write_item(RequestItems=pending).get("UnprocessedItems") or {}

    def scan(self, table: str) -> list[dict[str, dict[str, Any]]]:
        """Every item of a table."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def export(self, table_arn: str, bucket: str) -> dict[str, Any]:
        """Export a table and return the finished export's description."""
        asked = self.dynamodb.export_table_to_point_in_time(TableArn=table_arn, S3Bucket=bucket, S3Prefix="made/before")
        arn = asked["ExportDescription"]["ExportArn"]

        def finished() -> dict[str, Any] | None:
            found: dict[str, Any] = self.dynamodb.describe_export(ExportArn=arn)["ExportDescription"]
            assert found["ExportStatus"] != "FAILED", found
            return found if found["ExportStatus"] == "COMPLETED" else None

        return wait_until(finished, 30, f"export {arn} is complete") or {}

    def read_object(self, bucket: str, key: str) -> bytes:
        """The content of an S3 object."""
        with self.s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
            return bytes(body.read())

    def write_object(self, bucket: str, key: str, content: bytes) -> None:
        """Replace the content of an S3 object."""
        self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def open_shards(self, stream: str) -> list[dict[str, Any]]:
        """The open shards of a stream by hash key."""
        shards = self.kinesis.list_shards(StreamName=stream, ShardFilter={"Type": "AT_LATEST"})["Shards"]
        return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def split_first(self, stream: str) -> None:
        """Split the first shard of a stream in the middle."""
        shard = self.open_shards(stream)[0]
        bounds = [int(shard["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey")]
        self.kinesis.split_shard(
            StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((sum(bounds) + 1) // 2)
        )

    def merge_last(self, stream: str) -> None:
        """Merge the last two shards of a stream."""
        *_, left, right = self.open_shards(stream)
        self.kinesis.merge_shards(
            StreamName=stream, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
        )

    def control(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the control API; skips the test where the AWS is not our own."""
        if not self.local:
            pytest.skip("this AWS has no control API")
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.endpoint_url}/_dyncdc/{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def set(self, **settings: Any) -> None:
        """Change settings of the local AWS; they are put back after the test."""
        self.control("POST", "settings", settings)

    def inject(self, operation: str, *faults: Any, **rules: Any) -> None:
        """Script faults, or random ones with ``probability``; what is left of them is dropped after the test."""
        self.control("POST", "faults", {"operation": operation, "faults": list(faults), **rules})

    def clear_faults(self) -> None:
        """Drop all faults."""
        self.control("DELETE", "faults")

    def calls(self, operation: str) -> int:
        """How often an operation was called."""
        return int(self.control("GET", "calls").get(operation, 0))

    def injected(self) -> int:
        """How many faults were injected."""
        return sum(self.control("GET", "injected").values())

    def await_quiet(self, operation: str, seconds: float, within_seconds: float) -> None:
        """Wait until an operation has not been called for so long."""
        end = time.monotonic() + within_seconds
        while time.monotonic() < end:
            before = self.calls(operation)
            time.sleep(seconds)
            if self.calls(operation) == before:
                return
        raise AssertionError(f"{operation} is still called after {within_seconds:g} s")

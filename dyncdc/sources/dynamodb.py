"""What DynamoDB says about tables and holds in them: descriptions, streaming destinations, scans, single items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from dyncdc.errors import ConfigError, RetryableError
from dyncdc.schema.table_spec import KeyAttribute

from .aws_errors import Verdict, aws_call, server_time
from .item_json import Item, items_of, sdk_key

BATCH_GET_KEYS = 100
"""Source: AWS BatchGetItem: 100 keys a call."""

UNPROCESSED_ROUNDS = 8
UNPROCESSED_PAUSE_SECONDS = 0.05

DELIVERING = frozenset({"ACTIVE", "UPDATING"})
"""States of a streaming destination in which every change reaches the stream."""

TABLE_UNKNOWN: Mapping[str, Verdict] = dict.fromkeys(
    ("ResourceNotFoundException", "TableNotFoundException"),
    (ConfigError, "correct tables.dynamodb and aws.region; `aws dynamodb list-tables` shows what there is"),
)
_TABLE: Mapping[str, Verdict] = {
    **TABLE_UNKNOWN,
    "ValidationException": (ConfigError, "tables.dynamodb is the name of a table"),
}


@dataclass(frozen=True, slots=True)
class TableDescription:
    """One DynamoDB table. ``item_count`` is DynamoDB's own estimate, hours old."""

    name: str
    arn: str
    status: str
    keys: tuple[KeyAttribute, ...]
    """HASH, then RANGE."""
    item_count: int
    size_bytes: int
    created: float = 0.0
    """Seconds since the epoch; a table recreated under its name has another time. 0 when DynamoDB does not say."""
    id: str = ""
    """What tells the table from any other of its name; "" when DynamoDB says nothing of the kind."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A stream that a table sends its changes to. ``precision`` is "" where DynamoDB does not say: MILLISECOND."""

    stream_arn: str
    status: str
    precision: str


class _Key(msgspec.Struct):
    AttributeName: str
    KeyType: Literal["HASH", "RANGE"]


class _Definition(msgspec.Struct):
    AttributeName: str
    AttributeType: Literal["S", "N", "B"]


class _Table(msgspec.Struct):
    TableName: str
    TableArn: str
    TableStatus: str
    KeySchema: list[_Key]
    AttributeDefinitions: list[_Definition]
    ItemCount: int = 0
    TableSizeBytes: int = 0
    CreationDateTime: datetime | None = None
    TableId: str = ""


class _Identity(msgspec.Struct):
    TableId: str = ""


class _Destination(msgspec.Struct):
    StreamArn: str
    DestinationStatus: str
    ApproximateCreationDateTimePrecision: str = ""


Page = Mapping[str, Any]
Retry = Callable[[Callable[[], Awaitable[Page]]], Awaitable[Page]]


async def _once(call: Callable[[], Awaitable[Page]]) -> Page:
    return await call()


class Tables:
    """Reads of tables through one DynamoDB client."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb

    async def describe(self, table: str) -> TableDescription:
        """Describe a table. Raises ConfigError when there is none of that name."""
        async with aws_call(f"describing table {table}", _TABLE):
            response = await self._dynamodb.describe_table(TableName=table)
            found = msgspec.convert(response.get("Table"), _Table)
        types = {definition.AttributeName: definition.AttributeType for definition in found.AttributeDefinitions}
        ordered = sorted(found.KeySchema, key=lambda key: key.KeyType)  # HASH sorts before RANGE
        if not ordered or any(key.AttributeName not in types for key in ordered):
            raise RetryableError(f"describing table {table}: the answer does not define its key")
        keys = tuple(KeyAttribute(key.AttributeName, types[key.AttributeName]) for key in ordered)
        created = found.CreationDateTime.timestamp() if found.CreationDateTime else 0.0
        return TableDescription(
            found.TableName,
            found.TableArn,
            found.TableStatus,
            keys,
            found.ItemCount,
            found.TableSizeBytes,
            created,
            found.TableId or (f"created {created}" if created else ""),
        )

    async def destinations(self, table: str) -> tuple[Sequence[Destination], float]:
        """The table's streaming destinations, and the server's time when it said so."""
        async with aws_call(f"describing the streaming destinations of table {table}", _TABLE):
            response = await self._dynamodb.describe_kinesis_streaming_destination(TableName=table)
            found = msgspec.convert(response.get("KinesisDataStreamDestinations", []), list[_Destination])
        destinations = [
            Destination(x.StreamArn, x.DestinationStatus, x.ApproximateCreationDateTimePrecision) for x in found
        ]
        return destinations, server_time(response)

    async def covered_at(self, table: str, stream_arn: str) -> float | None:
        """Server time of an answer that showed the table's destination on that stream ACTIVE, else None.

        UPDATING counts as ACTIVE: the precision of the times changes, and the changes flow all the while.
        """
        destinations, now = await self.destinations(table)
        active = [found for found in destinations if found.stream_arn == stream_arn and found.status in DELIVERING]
        return now if active else None

    async def identity(self, table: str) -> tuple[str, float]:
        """What tells the table from another one of its name ("" if DynamoDB does not say), and the server's time."""
        async with aws_call(f"describing table {table}", _TABLE):
            response = await self._dynamodb.describe_table(TableName=table)
            found = msgspec.convert(response.get("Table"), _Identity)
        return found.TableId, server_time(response)

    async def point_in_time_recovery(self, table: str) -> bool:
        """Whether point-in-time recovery is on, without which there is no export."""
        async with aws_call(f"describing the backups of table {table}", _TABLE):
            response = await self._dynamodb.describe_continuous_backups(TableName=table)
        description = response.get("ContinuousBackupsDescription", {}).get("PointInTimeRecoveryDescription", {})
        return bool(description.get("PointInTimeRecoveryStatus") == "ENABLED")

    async def sample(self, table: str, limit: int) -> Sequence[Item]:
        """Some items, ``limit`` at most, for inferring columns. Consumes read capacity for so many."""
        found: list[Item] = []
        async for page in self.scan(table, page_items=limit):
            found += page
            if len(found) >= limit:
                break
        return found[:limit]

    async def scan(
        self,
        table: str,
        *,
        page_items: int | None = None,
        consistent: bool = False,
        segment: int = 0,
        segments: int = 1,
        startup_retry: Retry = _once,
    ) -> AsyncIterator[Sequence[Item]]:
        """Yield pages of the whole table, or of one segment; a page may be empty. The caller sets the pace.

        ``startup_retry`` makes the call for each page, and may repeat it.
        """
        request: dict[str, Any] = {"TableName": table, "ConsistentRead": consistent}
        if page_items is not None:
            request["Limit"] = page_items
        if segments > 1:
            request |= {"Segment": segment, "TotalSegments": segments}
        while True:
            response = await startup_retry(lambda: self._scan_page(table, request))
            yield items_of(response)
            if not response.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    async def _scan_page(self, table: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        async with aws_call(f"scanning table {table}", _TABLE):
            response: Mapping[str, Any] = await self._dynamodb.scan(**request)
            return response

    async def get_items(self, table: str, keys: Sequence[Item], *, consistent: bool = True) -> Sequence[Item]:
        """The items of these keys, in no order; absent ones are left out. Keys must differ from each other.

        Raises RetryableError when DynamoDB leaves keys unprocessed for too long.
        """
        found: list[Item] = []
        for first in range(0, len(keys), BATCH_GET_KEYS):
            batch = [sdk_key(key) for key in keys[first : first + BATCH_GET_KEYS]]
            await self._get_batch(table, batch, consistent, found)
        return found

    async def _get_batch(self, table: str, keys: Sequence[Page], consistent: bool, found: list[Item]) -> None:
        pending: Sequence[Page] = keys
        for attempt in range(UNPROCESSED_ROUNDS):
            async with aws_call(f"reading items of table {table}", _TABLE):
                response = await self._dynamodb.batch_get_item(
                    RequestItems={table: {"Keys": pending, "ConsistentRead": consistent}}
                )
            found += items_of(response)
            pending = response.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if not pending:
                return
            await asyncio.sleep(UNPROCESSED_PAUSE_SECONDS * 2**attempt)
        raise RetryableError(f"reading items of table {table}: {len(pending)} keys stay unprocessed")

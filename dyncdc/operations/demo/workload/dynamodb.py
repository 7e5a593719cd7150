"""Writes to the local DynamoDB in its own JSON protocol.

Not through the SDK: its serializer would cost more than everything else on the machine, and this endpoint checks no
signatures. Everything that dyncdc itself does goes through the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import aiohttp
import orjson

from dyncdc.errors import FatalError
from dyncdc.schema.types.dynamodb_values import Item

BATCH_WRITE_ITEMS = 25
"""Source: AWS BatchWriteItem."""
BATCH_GET_KEYS = 100
"""Source: AWS BatchGetItem."""
CALL_TIMEOUT_SECONDS = 20.0
CONCURRENT_BATCHES = 4

# Any well-formed credential: it only carries the region.
_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=demo/20260101/{region}/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
)


class DynamoDBWriter:
    """One connection pool to the endpoint. Made by ``open_writer``."""

    def __init__(self, session: aiohttp.ClientSession, endpoint_url: str) -> None:
        self._session = session
        self._endpoint_url = endpoint_url

    async def put(self, table: str, item: Item) -> None:
        """Write a whole item."""
        await self._call("PutItem", {"TableName": table, "Item": item})

    async def set_attributes(self, table: str, key: Item, attributes: Item, remove: Sequence[str] = ()) -> None:
        """Change some attributes of an item and remove others."""
        names = {f"#s{index}": name for index, name in enumerate(attributes)}
        removed = {f"#r{index}": name for index, name in enumerate(remove)}
        values = {f":s{index}": value for index, value in enumerate(attributes.values())}
        expression = "SET " + ", ".join(f"#s{index} = :s{index}" for index in range(len(names)))
        if removed:
            expression += " REMOVE " + ", ".join(removed)
        await self._call(
            "UpdateItem",
            {
                "TableName": table,
                "Key": key,
                "UpdateExpression": expression,
                "ExpressionAttributeNames": names | removed,
                "ExpressionAttributeValues": values,
            },
        )

    async def delete(self, table: str, key: Item) -> None:
        """Delete an item."""
        await self._call("DeleteItem", {"TableName": table, "Key": key})

    async def put_all(self, table: str, items: Iterable[Item], written: list[int]) -> None:
        """Write many items, several batches at a time; ``written[0]`` counts along."""
        batches = _batches(items)

        async def write() -> None:
            for batch in batches:
                requests = [{"PutRequest": {"Item": item}} for item in batch]
                answer = await self._call("BatchWriteItem", {"RequestItems": {table: requests}})
                if answer.get("UnprocessedItems"):
                    raise FatalError(f"filling table {table}: the local DynamoDB left items unprocessed")
                written[0] += len(batch)

        async with asyncio.TaskGroup() as group:
            for number in range(CONCURRENT_BATCHES):
                group.create_task(write(), name=f"fill:{table}/{number}")

    async def existing(self, table: str, keys: Sequence[Item]) -> int:
        """Count which of these keys have an item."""
        found = 0
        for first in range(0, len(keys), BATCH_GET_KEYS):
            request = {"Keys": keys[first : first + BATCH_GET_KEYS], "ConsistentRead": True}
            answer = await self._call("BatchGetItem", {"RequestItems": {table: request}})
            found += len(answer["Responses"].get(table, ()))
        return found

    async def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with self._session.post(
                self._endpoint_url,
                data=orjson.dumps(request),
                headers={
                    "X-Amz-Target": f"DynamoDB_20120810.{operation}",
                    "Content-Type": "application/x-amz-json-1.0",
                },
            ) as response:
                answer = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise FatalError(f"calling {operation} of the local DynamoDB: {type(error).__name__}") from error
        if response.status != 200 or not isinstance(answer, dict):
            code = str(answer.get("__type", "")) if isinstance(answer, dict) else ""
            raise FatalError(f"calling {operation} of the local DynamoDB: answer {response.status} {code}".rstrip())
        return answer


@asynccontextmanager
async def open_writer(endpoint_url: str, region: str) -> AsyncIterator[DynamoDBWriter]:
    """Open a writer; its connections end with the block."""
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_SECONDS)
    headers = {"Authorization": _AUTHORIZATION.format(region=region)}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield DynamoDBWriter(session, endpoint_url)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut items into batches. Shared by several tasks: a generator hands each batch out once."""
    rest = iter(items)
    while batch := list(islice(rest, BATCH_WRITE_ITEMS)):
        yield batch

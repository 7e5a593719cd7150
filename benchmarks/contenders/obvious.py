"""The obvious build: aiobotocore, orjson, a recursive unwrap, columns into asynch. No checkpoints, no retries."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson
from aiobotocore.session import get_session
from asynch.proto.connection import Connection
from common import COLUMNS, EMPTY_PAUSE_SECONDS, arguments, await_end, say

ATTRIBUTES = COLUMNS[:12]
LIMIT = 10_000


def unwrap(value: dict[str, Any]) -> Any:
    """A typed value as plain JSON values."""
    for kind, inner in value.items():
        if kind in ("S", "B", "BOOL", "SS", "BS"):
            return inner
        if kind == "N":
            return float(inner) if "." in inner else int(inner)
        if kind == "M":
            return {name: unwrap(each) for name, each in inner.items()}
        if kind == "L":
            return [unwrap(each) for each in inner]
        if kind == "NS":
            return [float(each) for each in inner]
    return None


def columns_of(records: Iterable[bytes]) -> list[list[Any]]:
    """Columns of the destination."""
    columns: list[list[Any]] = [[] for _ in COLUMNS]
    for record in records:
        change = orjson.loads(record)["dynamodb"]
        new = change.get("NewImage")
        item = {name: unwrap(value) for name, value in (new or change["Keys"]).items()}
        for column, name in zip(columns, ATTRIBUTES, strict=False):
            value = item.get(name)
            if name == "tags":
                value = value or []
            elif value is not None:
                if name in ("address", "items"):
                    value = orjson.dumps(value).decode()
                elif name == "blob":
                    value = base64.b64decode(value)
                elif name == "amount":
                    value = Decimal(str(value))
            column.append(value)
        columns[12].append(change["ApproximateCreationDateTime"])
        columns[13].append(0 if new else 1)
    return columns


async def main() -> None:
    """Drain all shards at the same time; one insert at a time."""
    options = arguments()
    connection = Connection(host="127.0.0.1", port=options.tcp_port, database=options.database)
    await connection.connect()
    insert = f"INSERT INTO {options.table} ({','.join(COLUMNS)}) VALUES"
    inserting = asyncio.Lock()
    landed = 0
    async with get_session().create_client("kinesis") as kinesis:

        async def drain(shard: str) -> None:
            nonlocal landed
            answer = await kinesis.get_shard_iterator(
                StreamName=options.stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )
            iterator = answer["ShardIterator"]
            while landed < options.records:
                answer = await kinesis.get_records(ShardIterator=iterator, Limit=LIMIT)
                iterator = answer["NextShardIterator"]
                if not answer["Records"]:
                    await asyncio.sleep(EMPTY_PAUSE_SECONDS)
                    continue
                columns = columns_of(record["Data"] for record in answer["Records"])
                async with inserting:
                    await connection.execute(insert, columns, columnar=True)
                landed += len(answer["Records"])

        shards = (await kinesis.list_shards(StreamName=options.stream))["Shards"]
        say("ready")
        await asyncio.gather(*[drain(shard["ShardId"]) for shard in shards])
    await_end()


asyncio.run(main())

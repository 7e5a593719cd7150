"""Resharding the stream while it is used: one split, later one merge, by the stream's own description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dyncdc.sources.aws_errors import aws_call

from .seed import STREAM


@dataclass(frozen=True, slots=True)
class OpenShard:
    """A shard that takes writes, and the hash keys that it owns."""

    id: str
    first: int
    last: int


async def open_shards(kinesis: Any) -> Sequence[OpenShard]:
    """The stream's open shards in the order of their hash keys."""
    async with aws_call(f"listing the shards of stream {STREAM}"):
        answer = await kinesis.list_shards(StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})
    found = [
        OpenShard(
            shard["ShardId"],
            int(shard["HashKeyRange"]["StartingHashKey"]),
            int(shard["HashKeyRange"]["EndingHashKey"]),
        )
        for shard in answer["Shards"]
    ]
    return sorted(found, key=lambda shard: shard.first)


async def split_first(kinesis: Any) -> str:
    """Split the first shard in the middle; return its id."""
    shard = (await open_shards(kinesis))[0]
    async with aws_call(f"splitting shard {shard.id}"):
        await kinesis.split_shard(
            StreamName=STREAM,
            ShardToSplit=shard.id,
            NewStartingHashKey=str((shard.first + shard.last + 1) // 2),
        )
    return shard.id


async def merge_last(kinesis: Any) -> tuple[str, str]:
    """Merge the last two shards; return their ids. After a split these are not the two halves of one shard."""
    *_, left, right = await open_shards(kinesis)
    async with aws_call(f"merging shards {left.id} and {right.id}"):
        await kinesis.merge_shards(StreamName=STREAM, ShardToMerge=left.id, AdjacentShardToMerge=right.id)
    return left.id, right.id

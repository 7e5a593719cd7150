"""Records of a stream shard read again, by their own sequence numbers: for dead letters of rows that were refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec

from dyncdc.errors import PositionLostError, RetryableError
from dyncdc.model.shards import Position, ShardId
from dyncdc.sources.aws_errors import Verdict, aws_call

from .get_records import DECODED, RecordsBody

RECORDS_AT_ONCE = 10
"""Records asked for when several are wanted: each can be 1 MiB, and they are not in the budget."""

EMPTY_ANSWERS = 20
"""An empty answer means nothing, so go on from it; but not forever."""

_EXPIRED = "the record has expired, or its shard or stream was deleted"
_GONE: Mapping[str, Verdict] = dict.fromkeys(
    ("ResourceNotFoundException", "InvalidArgumentException"), (PositionLostError, _EXPIRED)
)


class _Iterator(msgspec.Struct):
    ShardIterator: str


async def reread_records(
    kinesis: Any, stream_arn: str, shard: ShardId, positions: Sequence[Position]
) -> AsyncGenerator[tuple[Position, bytes], None]:
    """Yield the records at these sequence numbers, those aside that are gone.

    Each call counts among the five reads a second that the shard allows. Source: AWS GetRecords.
    """
    missing = dict.fromkeys(positions)
    while missing:
        first = next(iter(missing))
        limit = RECORDS_AT_ONCE if len(missing) > 1 else 1
        body = await _read(kinesis, stream_arn, shard, first, limit)
        for position, record in zip(body.positions, body.records, strict=True):
            if position in missing:
                del missing[position]
                yield position, record
        missing.pop(first, None)  # it is not where it was: gone


async def _read(kinesis: Any, stream_arn: str, shard: ShardId, at: Position, limit: int) -> RecordsBody:
    """The first answer from ``at`` on that is not empty, or the last of many that are."""
    async with aws_call(f"reading the record at sequence number {at} of shard {shard} again", _GONE):
        response = await kinesis.get_shard_iterator(
            StreamARN=stream_arn, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=at
        )
        iterator: str | None = msgspec.convert(response, _Iterator).ShardIterator
        for _ in range(EMPTY_ANSWERS):
            answer = await kinesis.get_records(ShardIterator=iterator, Limit=limit, StreamARN=stream_arn)
            body = answer.get(DECODED)
            if not isinstance(body, RecordsBody):
                break
            iterator = body.iterator
            if body.records or not iterator:
                return body
    raise RetryableError(f"reading the record at sequence number {at} of shard {shard} again: only empty answers")

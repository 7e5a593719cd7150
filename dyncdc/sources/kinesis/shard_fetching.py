"""Fetching the records of a stream's shards: iterators, GetRecords answers, and the chunks that come of them.

The position is the truth; iterators are a private cache, and an expired one is replaced from the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dyncdc.errors import FatalError, PositionLostError
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId
from dyncdc.sources.aws_errors import IteratorExpiredError, ThrottledError, Verdict, aws_call, server_time

from .get_records import DECODED, RecordsBody
from .record_limit import RecordLimit, may_be_cut
from .stream_positions import in_words, iterator_request
from .stream_summary import StreamSummary

RECORD_OVERHEAD_BYTES = 192
"""What a record costs in memory beside its payload: two object headers, the sequence number's text, two list slots."""

LEAST_BEHIND_SECONDS = 0.001
"""Of an answer that may not be at the tip."""

_SHARD_GONE: dict[str, Verdict] = {
    "ResourceNotFoundException": (PositionLostError, "the shard or its stream was deleted with what had not been read"),
}


class _Iterator(msgspec.Struct):
    ShardIterator: str


@dataclass(slots=True)
class _Reading:
    """The private cache of one shard: the iterator that stands for a position, and what its answers taught."""

    iterator: str = ""
    position: Position | None = None
    read_until: float = 0.0
    pace: RecordLimit = field(default_factory=RecordLimit)


class ShardFetcher:
    """What was learned about each shard that is read, and the stream's clock."""

    def __init__(self, kinesis: Any, summary: StreamSummary, poll_interval_seconds: float, server_time: float) -> None:
        self._kinesis = kinesis
        self._name = summary.StreamName
        self._arn = summary.StreamARN
        self._id = summary.id
        self._pause_seconds = poll_interval_seconds
        self._readings: dict[ShardId, _Reading] = {}
        self.largest_record_bytes = summary.largest_record_bytes
        self.server_time = server_time
        """Kinesis' clock, in whole seconds, as of its last answer."""
        self.children: set[ShardId] = set()
        """Shards that a reshard made while we were reading."""

    def shard(self, shard_id: str, parents: Sequence[str | None]) -> Shard:
        """A shard of the stream, as Kinesis names it and its parents."""
        return Shard(self._id, ShardId(shard_id), frozenset(ShardId(parent) for parent in parents if parent))

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        """Return one GetRecords answer. An iterator that has expired is renewed once, at once, from ``after``."""
        reading = self._readings.setdefault(shard.id, _Reading())
        limit = reading.pace.limit(want_bytes)
        try:
            try:
                answer, now = await self._get_records(shard, reading, after, limit)
            except IteratorExpiredError:
                reading.position = None
                answer, now = await self._get_records(shard, reading, after, limit)
        except ThrottledError:
            reading.pace.throttled(self._pause_seconds)
            raise
        return self._chunk(shard, reading, after, answer, now, limit)

    async def _get_records(
        self, shard: Shard, reading: _Reading, after: Position, limit: int
    ) -> tuple[RecordsBody, float]:
        if reading.position != after:
            reading.iterator = await self._new_iterator(shard, after)
            reading.position = after
        doing = f"reading shard {shard.id} of {self._name} {in_words(after)}"
        # An iterator that Kinesis calls invalid is one it no longer knows: only the position counts.
        special: dict[str, Verdict] = {**_SHARD_GONE, "InvalidArgumentException": (IteratorExpiredError, "")}
        async with aws_call(doing, special):
            response = await self._kinesis.get_records(ShardIterator=reading.iterator, Limit=limit, StreamARN=self._arn)
        body = response.get(DECODED)
        if not isinstance(body, RecordsBody):
            raise FatalError(f"{doing}: the service answers in another encoding than JSON", hint="report this")
        return body, server_time(response)

    async def _new_iterator(self, shard: Shard, after: Position) -> str:
        special = dict(_SHARD_GONE)
        if after.isdecimal():
            hint = "the sequence number is not one of this shard any more; a new snapshot closes the gap"
            special["InvalidArgumentException"] = (PositionLostError, hint)
        request = iterator_request(after)
        async with aws_call(f"resuming shard {shard.id} of {self._name} {in_words(after)}", special):
            response = await self._kinesis.get_shard_iterator(StreamARN=self._arn, ShardId=shard.id, **request)
            return msgspec.convert(response, _Iterator).ShardIterator

    def _chunk(
        self, shard: Shard, reading: _Reading, after: Position, answer: RecordsBody, now: float, limit: int
    ) -> RawChunk:
        """Turn an answer into a chunk. No await here: the cache moves on completely or not at all."""
        self.server_time = now
        records, positions = answer.records, answer.positions
        data_bytes = sum(map(len, records))
        nbytes = data_bytes + len(records) * RECORD_OVERHEAD_BYTES
        reading.pace.answered(len(records), nbytes)
        closed = not answer.iterator
        behind_seconds = 0.0 if closed else answer.behind_seconds
        cut = may_be_cut(len(records), data_bytes, limit, self.largest_record_bytes)
        if behind_seconds <= 0 and not closed and cut:
            behind_seconds = max(LEAST_BEHIND_SECONDS, now - answer.arrived if answer.arrived > 0 else 0.0)
        if behind_seconds <= 0:
            reading.read_until = now
        elif answer.arrived > 0:
            reading.read_until = answer.arrived
        elif not reading.read_until:  # never 0, which would look like a position older than the retention
            reading.read_until = now - behind_seconds
        end = positions[-1] if positions else after
        reading.iterator, reading.position = answer.iterator or "", None if closed else end
        children = tuple(self.shard(x.ShardId, x.ParentShards or ()) for x in answer.children)
        self.children.update(child.id for child in children)
        return RawChunk(
            shard,
            records,
            positions,
            end,
            nbytes,
            reading.read_until,
            behind_seconds,
            closed,
            children,
            answer.arrived,
            first_arrived=answer.first_arrived,
            answered=now,
        )

    def forget(self, shard: Shard) -> None:
        """Drop the iterator and what was learned about a shard."""
        self._readings.pop(shard.id, None)
        self.children.discard(shard.id)

    def forget_all(self) -> None:
        """Drop every iterator."""
        self._readings.clear()

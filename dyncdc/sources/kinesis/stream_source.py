"""One Kinesis stream as a source of shards: polling reads, discovery, and the stream's identity."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from dyncdc.errors import ConfigError, PositionLostError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, SourceId
from dyncdc.pipeline.reading.shard.retention.edge import ObservedRetention
from dyncdc.sources.aws_errors import aws_call
from dyncdc.sources.clients import AwsClients

from .record_limit import ANSWER_MAX_BYTES, USUAL_RECORD_BYTES
from .reread import reread_records
from .shard_fetching import ShardFetcher
from .stream_positions import start_from
from .stream_summary import STREAM_GONE, STREAM_UNKNOWN, StreamSummary, summarize

PAGE_SHARDS = 1000
"""Source: AWS ListShards, MaxResults."""


class _ListedShard(msgspec.Struct):
    ShardId: str
    ParentShardId: str | None = None
    AdjacentParentShardId: str | None = None


class _ShardPage(msgspec.Struct):
    Shards: list[_ListedShard]
    NextToken: str | None = None


async def open_stream(
    clients: AwsClients, stream: str, *, start: str | datetime = HORIZON, poll_interval_seconds: float = 0.25
) -> KinesisSource:
    """Look the stream up by name or ARN. ``start``: TRIM_HORIZON, LATEST (from now on by the server's clock) or a time.

    Raises ConfigError when there is no such stream, RetryableError while it is being created.
    """
    region = stream.split(":")[3] if stream.startswith("arn:") else clients.region
    if region != clients.region:  # AWS would call the stream unknown, or the signature wrong
        raise ConfigError(
            f"opening stream {stream}: it is in {region}, and calls go to {clients.region}", hint="correct aws.region"
        )
    summary, now = await summarize(clients.kinesis, stream, STREAM_UNKNOWN)
    if summary.StreamStatus == "DELETING":
        raise RetryableError(
            f"opening stream {stream}: it is being deleted", hint="create it again, or correct its name"
        )
    if summary.StreamStatus == "CREATING":
        raise RetryableError(f"opening stream {stream}: it is still being created")
    return KinesisSource(clients.kinesis, summary, start_from(start, now), poll_interval_seconds, now)


class KinesisSource:
    """The shards of one stream, under one identity: a stream re-created under its name is another source."""

    def __init__(
        self, kinesis: Any, summary: StreamSummary, start: Position, poll_interval_seconds: float, server_time: float
    ) -> None:
        self._kinesis = kinesis
        self._name = summary.StreamName
        self._arn = summary.StreamARN
        self._id = summary.id
        self.by_key = summary.RecordDistributionStrategy != "AUTO"
        """Whether changes of one item share a shard, and so keep their order: when it was opened."""
        self._kept = ObservedRetention(summary.retention_seconds)
        self._start = start
        self._pause_seconds = poll_interval_seconds
        self._fetcher = ShardFetcher(kinesis, summary, poll_interval_seconds, server_time)

    @property
    def id(self) -> SourceId:
        """Stream ARN and creation time."""
        return self._id

    @property
    def arn(self) -> str:
        """ARN of the stream: what streaming destinations name."""
        return self._arn

    @property
    def label(self) -> str:
        """The stream's name."""
        return self._name

    @property
    def retention_seconds(self) -> float | None:
        """Retention of the stream as of the last look."""
        return self._kept.seconds

    @property
    def kept(self) -> ObservedRetention:
        """What the looks at the retention have shown."""
        return self._kept

    @property
    def largest_answer_bytes(self) -> int:
        """A stream whose owner allows larger records than usual fills answers, however few are asked for."""
        return ANSWER_MAX_BYTES if self._fetcher.largest_record_bytes > USUAL_RECORD_BYTES else 0

    async def look_at_retention(self) -> None:
        """Ask what the retention is. Raises RetryableError, PositionLostError when the stream is gone or another."""
        summary, now = await summarize(self._kinesis, self._arn, STREAM_GONE)
        if summary.id != self._id:
            raise PositionLostError(
                f"describing stream {self._name}: it was deleted and created again",
                hint="its old positions mean nothing in the new stream; a new snapshot closes the gap",
            )
        self._kept = self._kept.seen(summary.retention_seconds, now)
        self._fetcher.largest_record_bytes = summary.largest_record_bytes
        self._fetcher.server_time = now

    @property
    def server_time(self) -> float:
        """Kinesis' clock, in whole seconds, as of its last answer."""
        return self._fetcher.server_time

    @property
    def pause_seconds(self) -> float:
        """The configured poll interval."""
        return self._pause_seconds

    def start_position(self, shard: Shard) -> Position:
        """The configured start; the horizon for a shard that a reshard made while we were reading."""
        return HORIZON if shard.id in self._fetcher.children else self._start

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        """Yield pages of 1,000. Each page starts behind the last shard seen, so there is no token that could expire."""
        await self.look_at_retention()
        behind: dict[str, str] = {}
        while True:
            async with aws_call(f"listing shards of {self._name}", STREAM_GONE):
                response = await self._kinesis.list_shards(StreamARN=self._arn, MaxResults=PAGE_SHARDS, **behind)
                page = msgspec.convert(response, _ShardPage)
            yield tuple(self._fetcher.shard(x.ShardId, (x.ParentShardId, x.AdjacentParentShardId)) for x in page.Shards)
            if not page.NextToken:
                return
            if not page.Shards:
                raise RetryableError(f"listing shards of {self._name}: an empty page claims that more follow")
            behind = {"ExclusiveStartShardId": page.Shards[-1].ShardId}

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        """Return one GetRecords answer. An iterator that has expired is renewed once, at once, from ``after``."""
        return await self._fetcher.fetch(shard, after, want_bytes)

    def reread(self, shard: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        """Yield these records again, beside what ``fetch`` does."""
        return reread_records(self._kinesis, self._arn, shard.id, positions)

    def forget(self, shard: Shard) -> None:
        """Drop the iterator and what was learned about a shard."""
        self._fetcher.forget(shard)

    async def close(self) -> None:
        """Drop every iterator. The clients belong to ``open_clients``."""
        self._fetcher.forget_all()

"""One Kinesis stream as a source of shards: polling reads, discovery, and the stream's identity.

The position is the truth; iterators are a private cache, and an expired one is replaced from the position.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from dyncdc.errors import ConfigError, FatalError, PositionLostError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.reading.retention.edge import ObservedRetention
from dyncdc.sources.aws_errors import IteratorExpiredError, ThrottledError, Verdict, aws_call, server_time
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.raw_answers import raw_answer

from .get_records import DECODED, RecordsBody
from .record_limit import ANSWER_MAX_BYTES, USUAL_RECORD_BYTES, RecordLimit, may_be_cut
from .reread import reread_records
from .stream_description import distribution_of

PAGE_SHARDS = 1000
"""Source: AWS ListShards, MaxResults."""

RECORD_OVERHEAD_BYTES = 192
"""What a record costs in memory beside its payload: two object headers, the sequence number's text, two list slots."""

LEAST_BEHIND_SECONDS = 0.001
"""Of an answer that may not be at the tip."""

AT_TIMESTAMP = "AT_TIMESTAMP:"

_STREAM_UNKNOWN: dict[str, Verdict] = {
    "ResourceNotFoundException": (
        ConfigError,
        "correct kinesis.stream and aws.region, or create the stream; `aws kinesis list-streams` shows what there is",
    ),
    "InvalidArgumentException": (ConfigError, "kinesis.stream is the name or the ARN of a data stream"),
    "ValidationException": (ConfigError, "kinesis.stream is the name or the ARN of a data stream"),
}
_STREAM_GONE: dict[str, Verdict] = {
    "ResourceNotFoundException": (
        PositionLostError,
        "the stream was deleted; create it and enable the destination",
    ),
}
_SHARD_GONE: dict[str, Verdict] = {
    "ResourceNotFoundException": (PositionLostError, "the shard or its stream was deleted with what had not been read"),
}


class _Summary(msgspec.Struct):
    """DescribeStreamSummary, what we use of it."""

    StreamName: str
    StreamARN: str
    StreamStatus: str
    RetentionPeriodHours: float
    StreamCreationTimestamp: datetime
    RecordDistributionStrategy: str = ""
    MaxRecordSizeInKiB: int = 0
    """0 of a service that does not say it."""

    @property
    def largest_record_bytes(self) -> int:
        return self.MaxRecordSizeInKiB * 1024 or USUAL_RECORD_BYTES


class _ListedShard(msgspec.Struct):
    ShardId: str
    ParentShardId: str | None = None
    AdjacentParentShardId: str | None = None


class _ShardPage(msgspec.Struct):
    Shards: list[_ListedShard]
    NextToken: str | None = None


class _Iterator(msgspec.Struct):
    ShardIterator: str


@dataclass(slots=True)
class _Reading:
    """The private cache of one shard: the iterator that stands for a position, and what its answers taught."""

    iterator: str = ""
    position: Position | None = None
    read_until: float = 0.0
    pace: RecordLimit = field(default_factory=RecordLimit)


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
    summary, now = await _describe(clients.kinesis, stream, _STREAM_UNKNOWN)
    if summary.StreamStatus == "DELETING":
        raise RetryableError(
            f"opening stream {stream}: it is being deleted", hint="create it again, or correct its name"
        )
    if summary.StreamStatus == "CREATING":
        raise RetryableError(f"opening stream {stream}: it is still being created")
    return KinesisSource(clients.kinesis, summary, start_from(start, now), poll_interval_seconds, now)


async def _describe(kinesis: Any, stream: str, special: dict[str, Verdict]) -> tuple[_Summary, float]:
    by: dict[str, str] = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
    async with aws_call(f"describing stream {stream}", special):
        response = await kinesis.describe_stream_summary(**by)
        found = msgspec.convert(response.get("StreamDescriptionSummary"), _Summary)
        found.RecordDistributionStrategy = distribution_of(raw_answer(response, "StreamDescriptionSummary"))
        return found, server_time(response)


def start_from(start: str | datetime, now: float) -> Position:
    """The configured start as a position. LATEST becomes the time ``now``, so that children of a reshard have no gap.

    Raises ConfigError for a text that is neither a keyword nor an RFC 3339 time, and for a time to come.
    """
    if start == HORIZON:
        return HORIZON
    if start == "LATEST":
        return Position(f"{AT_TIMESTAMP}{now:.3f}")
    try:
        at = datetime.fromisoformat(start) if isinstance(start, str) else start
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigError(
            f"reading kinesis.start: {start!s} is not a start",
            hint='use "TRIM_HORIZON", "LATEST" or an RFC 3339 time such as "2026-01-31T12:00:00Z"',
        )
    if at.timestamp() > now:
        raise ConfigError(
            f"reading kinesis.start: {at.isoformat()} is in the future", hint='use "LATEST" to start from now on'
        )
    return Position(f"{AT_TIMESTAMP}{at.timestamp():.3f}")


def iterator_request(position: Position) -> dict[str, object]:
    """GetShardIterator's parameters for what follows a position. Raises FatalError for any other text."""
    if position == HORIZON:
        return {"ShardIteratorType": "TRIM_HORIZON"}
    if position.isascii() and position.isdecimal():
        return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": position}
    try:
        seconds = float(position.removeprefix(AT_TIMESTAMP)) if position.startswith(AT_TIMESTAMP) else math.nan
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise FatalError(
            f"resuming a shard: {position[:80]!r} is not a position of a stream",
            hint="dyncdc_checkpoints was edited, or written by a newer version",
        ) from error
    return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at}


def in_words(position: Position) -> str:
    """A position as a person would say it."""
    if position == HORIZON:
        return "from its oldest record"
    if position.startswith(AT_TIMESTAMP):
        return f"from time {position.removeprefix(AT_TIMESTAMP)}"
    return f"after sequence number {position}"


class KinesisSource:
    """The shards of one stream, under one identity: a stream re-created under its name is another source."""

    def __init__(
        self, kinesis: Any, summary: _Summary, start: Position, poll_interval_seconds: float, server_time: float
    ) -> None:
        self._kinesis = kinesis
        self._name = summary.StreamName
        self._arn = summary.StreamARN
        self._id = _identity(summary)
        self.by_key = summary.RecordDistributionStrategy != "AUTO"
        """Whether changes of one item share a shard, and so keep their order: when it was opened."""
        self._kept = ObservedRetention(summary.RetentionPeriodHours * 3600.0)
        self._largest_record_bytes = summary.largest_record_bytes
        self._server_time = server_time
        self._start = start
        self._pause_seconds = poll_interval_seconds
        self._readings: dict[ShardId, _Reading] = {}
        self._children: set[ShardId] = set()

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
        return ANSWER_MAX_BYTES if self._largest_record_bytes > USUAL_RECORD_BYTES else 0

    async def look_at_retention(self) -> None:
        """Ask what the retention is. Raises RetryableError, PositionLostError when the stream is gone or another."""
        summary, now = await _describe(self._kinesis, self._arn, _STREAM_GONE)
        if _identity(summary) != self._id:
            raise PositionLostError(
                f"describing stream {self._name}: it was deleted and created again",
                hint="its old positions mean nothing in the new stream; a new snapshot closes the gap",
            )
        self._kept = self._kept.seen(summary.RetentionPeriodHours * 3600.0, now)
        self._largest_record_bytes = summary.largest_record_bytes
        self._server_time = now

    @property
    def server_time(self) -> float:
        """Kinesis' clock, in whole seconds, as of its last answer."""
        return self._server_time

    @property
    def pause_seconds(self) -> float:
        """The configured poll interval."""
        return self._pause_seconds

    def start_position(self, shard: Shard) -> Position:
        """The configured start; the horizon for a shard that a reshard made while we were reading."""
        return HORIZON if shard.id in self._children else self._start

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        """Yield pages of 1,000. Each page starts behind the last shard seen, so there is no token that could expire."""
        await self.look_at_retention()
        behind: dict[str, str] = {}
        while True:
            async with aws_call(f"listing shards of {self._name}", _STREAM_GONE):
                response = await self._kinesis.list_shards(StreamARN=self._arn, MaxResults=PAGE_SHARDS, **behind)
                page = msgspec.convert(response, _ShardPage)
            yield tuple(self._shard(x.ShardId, (x.ParentShardId, x.AdjacentParentShardId)) for x in page.Shards)
            if not page.NextToken:
                return
            if not page.Shards:
                raise RetryableError(f"listing shards of {self._name}: an empty page claims that more follow")
            behind = {"ExclusiveStartShardId": page.Shards[-1].ShardId}

    def _shard(self, shard_id: str, parents: Sequence[str | None]) -> Shard:
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
        self._server_time = now
        records, positions = answer.records, answer.positions
        data_bytes = sum(map(len, records))
        nbytes = data_bytes + len(records) * RECORD_OVERHEAD_BYTES
        reading.pace.answered(len(records), nbytes)
        closed = not answer.iterator
        behind_seconds = 0.0 if closed else answer.behind_seconds
        cut = may_be_cut(len(records), data_bytes, limit, self._largest_record_bytes)
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
        children = tuple(self._shard(x.ShardId, x.ParentShards or ()) for x in answer.children)
        self._children.update(child.id for child in children)
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

    def reread(self, shard: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        """Yield these records again, beside what ``fetch`` does."""
        return reread_records(self._kinesis, self._arn, shard.id, positions)

    def forget(self, shard: Shard) -> None:
        """Drop the iterator and what was learned about a shard."""
        self._readings.pop(shard.id, None)
        self._children.discard(shard.id)

    async def close(self) -> None:
        """Drop every iterator. The clients belong to ``open_clients``."""
        self._readings.clear()


def _identity(summary: _Summary) -> SourceId:
    return SourceId(f"{summary.StreamARN}@{int(summary.StreamCreationTimestamp.timestamp())}")

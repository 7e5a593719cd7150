"""The summary of a Kinesis stream that is read: its identity, its retention and how large its records may be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from dyncdc.errors import ConfigError, PositionLostError
from dyncdc.model.shards import SourceId
from dyncdc.sources.aws_errors import Verdict, aws_call, server_time
from dyncdc.sources.raw_answers import raw_answer

from .record_limit import USUAL_RECORD_BYTES
from .stream_description import distribution_of

STREAM_UNKNOWN: dict[str, Verdict] = {
    "ResourceNotFoundException": (
        ConfigError,
        "correct kinesis.stream and aws.region, or create the stream; `aws kinesis list-streams` shows what there is",
    ),
    "InvalidArgumentException": (ConfigError, "kinesis.stream is the name or the ARN of a data stream"),
    "ValidationException": (ConfigError, "kinesis.stream is the name or the ARN of a data stream"),
}
STREAM_GONE: dict[str, Verdict] = {
    "ResourceNotFoundException": (
        PositionLostError,
        "the stream was deleted; create it and enable the destination",
    ),
}


class StreamSummary(msgspec.Struct):
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
    def id(self) -> SourceId:
        """Stream ARN and creation time: a stream that was created again under its name is another source."""
        return SourceId(f"{self.StreamARN}@{int(self.StreamCreationTimestamp.timestamp())}")

    @property
    def retention_seconds(self) -> float:
        """How long records are kept."""
        return self.RetentionPeriodHours * 3600.0

    @property
    def largest_record_bytes(self) -> int:
        """What a record of the stream may have."""
        return self.MaxRecordSizeInKiB * 1024 or USUAL_RECORD_BYTES


async def summarize(kinesis: Any, stream: str, special: dict[str, Verdict]) -> tuple[StreamSummary, float]:
    """Summarize a stream by name or ARN, and return the server's time; ``special``: verdicts on its errors."""
    by: dict[str, str] = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
    async with aws_call(f"describing stream {stream}", special):
        response = await kinesis.describe_stream_summary(**by)
        found = msgspec.convert(response.get("StreamDescriptionSummary"), StreamSummary)
        found.RecordDistributionStrategy = distribution_of(raw_answer(response, "StreamDescriptionSummary"))
        return found, server_time(response)

"""What Kinesis says of a stream before anyone reads it: its name in full, its state, the key that encrypts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dyncdc.errors import ConfigError
from dyncdc.sources.aws_errors import aws_call


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """One stream. ``key``: the KMS key of the account's own that encrypts it, "" for none or AWS's."""

    name: str
    arn: str
    status: str
    retention_hours: float
    key: str = ""


class _Summary(msgspec.Struct):
    StreamName: str
    StreamARN: str
    StreamStatus: str
    RetentionPeriodHours: float
    EncryptionType: str | None = None
    KeyId: str | None = None


async def describe_stream(kinesis: Any, stream: str) -> StreamDescription:
    """Describe a stream, by name or ARN. Raises ConfigError when there is none."""
    by = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
    unknown = (ConfigError, "correct the stream's name and the region; `aws kinesis list-streams` shows what there is")
    async with aws_call(f"describing stream {stream}", {"ResourceNotFoundException": unknown}):
        response = await kinesis.describe_stream_summary(**by)
        found = msgspec.convert(response.get("StreamDescriptionSummary"), _Summary)
    key = found.KeyId or "" if found.EncryptionType == "KMS" else ""
    if key.endswith("alias/aws/kinesis"):
        key = ""
    return StreamDescription(found.StreamName, found.StreamARN, found.StreamStatus, found.RetentionPeriodHours, key)


def distribution_of(summary: Mapping[str, Any]) -> str:
    """How a stream places records, of a whole DescribeStreamSummary: "AUTO" is without regard to their keys.

    Of a field that is younger than the SDK it is not known whether it belongs to the stream or to its mode.
    """
    mode = summary.get("StreamModeDetails")
    places = (summary, mode if isinstance(mode, Mapping) else {})
    return next(
        (str(place["RecordDistributionStrategy"]) for place in places if "RecordDistributionStrategy" in place), ""
    )

"""Streams that carry tables' changes: what the rest of the code may know of one, and how it is opened."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from dyncdc.model.shards import HORIZON
from dyncdc.pipeline.ports.source import Source

from .clients import AwsClients
from .kinesis.stream_source import open_stream as open_kinesis

READ_ACTIONS: Final = (
    "kinesis:DescribeStreamSummary",
    "kinesis:ListShards",
    "kinesis:GetShardIterator",
    "kinesis:GetRecords",
)
"""Actions of IAM that reading a stream takes."""


class StreamSource(Source, Protocol):
    """A source that a table's streaming destination names. Another kind of stream plugs in here."""

    @property
    def arn(self) -> str:
        """ARN of the stream: what streaming destinations name."""

    @property
    def by_key(self) -> bool:
        """Whether changes of one item share a shard, and so keep their order: when it was opened."""


async def open_stream(
    clients: AwsClients, stream: str, *, start: str | datetime = HORIZON, poll_interval_seconds: float = 0.25
) -> StreamSource:
    """Look a stream up by name or ARN. ``start``: TRIM_HORIZON, LATEST (from now on by the server's clock) or a time.

    Raises ConfigError when there is no such stream, RetryableError while it is being created.
    """
    return await open_kinesis(clients, stream, start=start, poll_interval_seconds=poll_interval_seconds)

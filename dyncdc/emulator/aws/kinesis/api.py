"""The operations of Kinesis on streams and shards: lists in pages, and resharding. Records: ``records``."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import ACCOUNT, AwsError, Wire

from .iterators import PageToken
from .model import SequenceNumbers, Shard, Stream

LIST_SHARDS_PAGE = 1000
MAX_RETENTION_HOURS = 8760


class Kinesis:
    """All streams of all regions. Operations take the request document and the region that it was signed for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.streams: dict[str, Stream] = {}
        self._numbers = SequenceNumbers()
        self.operations: dict[str, Callable[[Wire, str], Wire]] = {
            "CreateStream": self.create_stream,
            "DeleteStream": self.delete_stream,
            "DescribeStream": self.describe_stream,
            "DescribeStreamSummary": self.describe_stream_summary,
            "DescribeLimits": self.describe_limits,
            "ListStreams": self.list_streams,
            "ListShards": self.list_shards,
            "SplitShard": self.split_shard,
            "MergeShards": self.merge_shards,
            "UpdateShardCount": self.update_shard_count,
            "IncreaseStreamRetentionPeriod": self.increase_retention,
            "DecreaseStreamRetentionPeriod": self.decrease_retention,
            "UpdateStreamRecordDistributionStrategy": self.update_distribution,
        }

    def find(self, request: Wire, region: str) -> Stream:
        """Return the stream that a request names.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        arn = request.get("StreamARN") or self.arn(request.get("StreamName", ""), region)
        stream = self.streams.get(arn)
        if stream is None:
            name = arn.rsplit("/", 1)[-1]
            raise AwsError("ResourceNotFoundException", f"Stream {name} under account {ACCOUNT} not found.")
        return stream

    def arn(self, name: str, region: str) -> str:
        """Return the ARN of a stream by name."""
        return f"arn:aws:kinesis:{region}:{ACCOUNT}:stream/{name}"

    def create_stream(self, request: Wire, region: str) -> Wire:
        """A name that was deleted before gets a new creation time and starts empty."""
        arn = self.arn(request["StreamName"], region)
        if arn in self.streams:
            message = f"Stream {request['StreamName']} under account {ACCOUNT} already exists."
            raise AwsError("ResourceInUseException", message)
        mode = (request.get("StreamModeDetails") or {}).get("StreamMode", "PROVISIONED")
        count = request.get("ShardCount") or 4
        stream = self.streams[arn] = Stream(arn, count, self._numbers, self.settings, mode)
        stream.set_busy("CREATING", self.settings.stream_delay_seconds)
        return {}

    def delete_stream(self, request: Wire, region: str) -> Wire:
        """Gone at once, records and iterators with it."""
        del self.streams[self.find(request, region).arn]
        return {}

    def describe_stream_summary(self, request: Wire, region: str) -> Wire:
        """Source: AWS DescribeStreamSummary."""
        stream = self.find(request, region)
        return {
            "StreamDescriptionSummary": {
                **self._describe(stream),
                "OpenShardCount": len(stream.open_shards()),
                "ConsumerCount": 0,
            }
        }

    def describe_stream(self, request: Wire, region: str) -> Wire:
        """Source: AWS DescribeStream, with its pages."""
        stream = self.find(request, region)
        stream.trim()
        after = request.get("ExclusiveStartShardId", "")
        shards = [shard for shard in stream.shards.values() if shard.id > after]
        page = shards[: request.get("Limit") or 100]
        more = len(shards) > len(page)
        document = {**self._describe(stream), "Shards": [one.describe() for one in page], "HasMoreShards": more}
        return {"StreamDescription": document}

    def describe_limits(self, _request: Wire, region: str) -> Wire:
        """Report a limit that nothing enforces."""
        mine = [stream for stream in self.streams.values() if f":{region}:" in stream.arn]
        shards = sum(len(stream.open_shards()) for stream in mine)
        return {"ShardLimit": 20000, "OpenShardCount": shards, "OnDemandStreamCount": 0, "OnDemandStreamCountLimit": 50}

    def list_streams(self, request: Wire, region: str) -> Wire:
        """Source: AWS ListStreams, with its pages."""
        after = request.get("ExclusiveStartStreamName") or request.get("NextToken") or ""
        mine = [one for one in self.streams.values() if f":{region}:" in one.arn and one.name > after]
        mine.sort(key=lambda stream: stream.name)
        page = mine[: request.get("Limit") or 100]
        names = [stream.name for stream in page]
        answer: Wire = {
            "StreamNames": names,
            "HasMoreStreams": len(mine) > len(page),
            "StreamSummaries": [_summary(stream) for stream in page],
        }
        if len(mine) > len(page):
            answer["NextToken"] = names[-1]
        return answer

    def list_shards(self, request: Wire, region: str) -> Wire:
        """Source: AWS ListShards: closed shards in retention included, 1,000 a page, the token carries the filter."""
        now = time.time()
        token = request.get("NextToken")
        if token:
            if request.get("StreamName"):
                raise AwsError("InvalidArgumentException", "NextToken and StreamName cannot be provided together.")
            page = PageToken.decode(token, now, self.settings.token_ttl_seconds)
            stream, after = self.find({"StreamARN": page.stream_arn}, region), page.after_shard_id
            criteria = orjson.loads(page.filter_text)
        else:
            stream, after = self.find(request, region), request.get("ExclusiveStartShardId", "")
            criteria = request.get("ShardFilter") or {}
        stream.trim()
        shards = [one for one in stream.shards.values() if one.id > after and _passes(stream, one, criteria)]
        size = min(request.get("MaxResults") or LIST_SHARDS_PAGE, LIST_SHARDS_PAGE)
        answer: Wire = {"Shards": [shard.describe() for shard in shards[:size]]}
        if len(shards) > size:
            last = shards[size - 1].id
            answer["NextToken"] = PageToken(stream.arn, last, orjson.dumps(criteria).decode(), now).encode()
        return answer

    def split_shard(self, request: Wire, region: str) -> Wire:
        """Source: AWS SplitShard."""
        stream = self._ready(request, region)
        shard = stream.shard(request["ShardToSplit"])
        middle = int(request["NewStartingHashKey"])
        if shard.closed_at is not None or not shard.low < middle <= shard.high:
            raise AwsError(
                "InvalidArgumentException",
                f"Shard {shard.id} in stream {stream.name} has already been merged or split, "
                f"or NewStartingHashKey {middle} is not inside its range.",
            )
        stream.split(shard, middle)
        stream.set_busy("UPDATING", self.settings.stream_delay_seconds)
        return {}

    def merge_shards(self, request: Wire, region: str) -> Wire:
        """Source: AWS MergeShards."""
        stream = self._ready(request, region)
        shard, adjacent = stream.shard(request["ShardToMerge"]), stream.shard(request["AdjacentShardToMerge"])
        if shard.closed_at is not None or adjacent.closed_at is not None:
            raise AwsError("InvalidArgumentException", "A shard has already been merged or split.")
        if shard.high + 1 != adjacent.low and adjacent.high + 1 != shard.low:
            raise AwsError("InvalidArgumentException", f"Shards {shard.id} and {adjacent.id} are not adjacent.")
        stream.merge(shard, adjacent)
        stream.set_busy("UPDATING", self.settings.stream_delay_seconds)
        return {}

    def update_shard_count(self, request: Wire, region: str) -> Wire:
        """Source: AWS UpdateShardCount. Any target is allowed, not only up to double and down to half."""
        stream = self._ready(request, region)
        current, target = len(stream.open_shards()), request["TargetShardCount"]
        stream.resize(target)
        stream.set_busy("UPDATING", self.settings.stream_delay_seconds)
        return {
            "StreamName": stream.name,
            "CurrentShardCount": current,
            "TargetShardCount": target,
            "StreamARN": stream.arn,
        }

    def increase_retention(self, request: Wire, region: str) -> Wire:
        """Source: AWS IncreaseStreamRetentionPeriod."""
        stream, hours = self.find(request, region), request["RetentionPeriodHours"]
        if not stream.retention_hours <= hours <= MAX_RETENTION_HOURS:
            raise AwsError("InvalidArgumentException", f"Retention period {hours} hours is not an increase.")
        stream.retention_hours = hours
        return {}

    def decrease_retention(self, request: Wire, region: str) -> Wire:
        """Source: AWS DecreaseStreamRetentionPeriod."""
        stream, hours = self.find(request, region), request["RetentionPeriodHours"]
        if not 24 <= hours <= stream.retention_hours:
            raise AwsError("InvalidArgumentException", f"Retention period {hours} hours is not a decrease.")
        stream.retention_hours = hours
        return {}

    def update_distribution(self, request: Wire, region: str) -> Wire:
        """Source: AWS UpdateStreamRecordDistributionStrategy: of streams on demand only, and at once."""
        stream, strategy = self.find(request, region), request["RecordDistributionStrategy"]
        if stream.mode != "ON_DEMAND" or strategy not in ("AUTO", "USER_PARTITION_KEY"):
            raise AwsError("InvalidArgumentException", f"RecordDistributionStrategy {strategy} is not possible here.")
        stream.distribution = strategy
        return {}

    def _ready(self, request: Wire, region: str) -> Stream:
        stream = self.find(request, region)
        if stream.status != "ACTIVE":
            message = f"Stream {stream.name} under account {ACCOUNT} not ACTIVE, instead in state {stream.status}"
            raise AwsError("ResourceInUseException", message)
        return stream

    def _retention_hours(self, stream: Stream) -> float:
        """In whole hours, as AWS says it; a fraction where the settings shorten it."""
        shortened = self.settings.retention_seconds
        return shortened / 3600 if shortened else stream.retention_hours

    def _describe(self, stream: Stream) -> Wire:
        return {
            **_summary(stream),
            "RetentionPeriodHours": self._retention_hours(stream),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "MaxRecordSizeInKiB": max(1, self.settings.max_record_bytes // 1024),
            **({"RecordDistributionStrategy": stream.distribution} if stream.mode == "ON_DEMAND" else {}),
        }


def _summary(stream: Stream) -> Wire:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "StreamModeDetails": {"StreamMode": stream.mode},
        "StreamCreationTimestamp": round(stream.created, 3),
    }


def _passes(stream: Stream, shard: Shard, criteria: Wire) -> bool:
    """Whether a shard passes a ShardFilter. Source: AWS ShardFilter. FROM_TRIM_HORIZON is all that is in retention."""
    kind = criteria.get("Type")
    if kind == "AT_LATEST":
        return shard.closed_at is None
    if kind == "AFTER_SHARD_ID":
        return bool(shard.id > criteria["ShardId"])
    if kind == "AT_TRIM_HORIZON":
        return all(parent not in stream.shards for parent in shard.parents)
    if kind in ("AT_TIMESTAMP", "FROM_TIMESTAMP"):
        at = float(criteria["Timestamp"])
        still_open = shard.closed_at is None or shard.closed_at >= at
        return still_open and (kind == "FROM_TIMESTAMP" or shard.created <= at)
    return True

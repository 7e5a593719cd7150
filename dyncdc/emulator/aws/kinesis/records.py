"""The operations of Kinesis on records: put, iterators, GetRecords. Streams and shards: ``api``."""

from __future__ import annotations

import hashlib
import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable

import orjson

from dyncdc.emulator.aws.server.wire import ACCOUNT, AwsError, Wire

from .api import Kinesis
from .iterators import Iterator
from .limits import READ_CALL_RECORDS
from .model import FIRST_SEQUENCE_NUMBER, MAX_HASH_KEY, Shard, Stream

MAX_PUT_RECORDS = 500
MAX_PUT_BYTES = 5 * 1024 * 1024
MAX_PARTITION_KEY = 256


def hash_key_of(partition_key: str) -> int:
    """Return the 128-bit hash key that routes a partition key. Source: AWS, "partition key": MD5."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


class Records:
    """Writing to and reading from the streams of ``Kinesis``."""

    def __init__(self, kinesis: Kinesis) -> None:
        self._kinesis = kinesis
        self._settings = kinesis.settings
        self.operations: dict[str, Callable[[Wire, str], Wire | bytes]] = {
            "PutRecord": self.put_record,
            "PutRecords": self.put_records,
            "GetShardIterator": self.get_shard_iterator,
            "GetRecords": self.get_records,
        }

    def put_record(self, request: Wire, region: str) -> Wire:
        """Source: AWS PutRecord."""
        stream = self._kinesis.find(request, region)
        result = self._put(stream, request, self._check(request))
        if "ErrorCode" in result:
            raise AwsError(result["ErrorCode"], result["ErrorMessage"])
        return result

    def put_records(self, request: Wire, region: str) -> Wire:
        """Source: AWS PutRecords: each record succeeds or fails on its own, except for what is not valid at all."""
        stream, records = self._kinesis.find(request, region), request["Records"]
        if not 1 <= len(records) <= MAX_PUT_RECORDS:
            raise AwsError("ValidationException", "Member must have length less than or equal to 500")
        sizes = [self._check(record) for record in records]
        if sum(sizes) > MAX_PUT_BYTES:
            raise AwsError("InvalidArgumentException", "Records size exceeds 5 MB limit")
        results = [self._put(stream, record, size) for record, size in zip(records, sizes, strict=True)]
        return {"FailedRecordCount": sum("ErrorCode" in one for one in results), "Records": results}

    def get_shard_iterator(self, request: Wire, region: str) -> Wire:
        """Source: AWS GetShardIterator, all five types."""
        stream = self._kinesis.find(request, region)
        shard = stream.shard(request["ShardId"])
        index = self._index(stream, shard, request)
        return {"ShardIterator": self._iterator(stream, shard, index)}

    def get_records(self, request: Wire, region: str, *, empty: bool = False) -> bytes:
        """Source: AWS GetRecords. ``empty``: no record, same place, as the service may answer at any time."""
        limit = request.get("Limit") or READ_CALL_RECORDS
        if not 1 <= limit <= READ_CALL_RECORDS:
            raise AwsError("InvalidArgumentException", "Limit must have value less than or equal to 10000")
        iterator = Iterator.decode(request["ShardIterator"])
        stream = self._kinesis.find({"StreamARN": iterator.stream_arn}, region)
        if stream.created != iterator.stream_created:
            raise AwsError("ResourceNotFoundException", f"Stream {stream.name} under account {ACCOUNT} not found.")
        shard = stream.shard(iterator.shard_id)
        iterator.check_age(time.time(), self._settings.iterator_ttl_seconds)
        self._admit(stream, shard)
        body, end, nbytes = shard.slice(iterator.index, 0 if empty else limit)
        if self._settings.limits:
            shard.limits.has_read(nbytes, time.monotonic())
        if shard.closed_at is not None and end == shard.end:
            follows = b',"ChildShards":' + orjson.dumps([_child(child) for child in stream.children(shard.id)])
        else:
            follows = b',"NextShardIterator":' + orjson.dumps(self._iterator(stream, shard, end))
        behind = b'],"MillisBehindLatest":%d' % shard.millis_behind(end, self._settings.behind_grain_seconds)
        return b"".join((b'{"Records":[', body, behind, follows, b"}"))  # one copy of what may be 13 MB

    def append(self, stream: Stream, partition_key: str, data: str, nbytes: int) -> None:
        """Write for a service that retries until it succeeds, so limits are not looked at. ``data`` is base64."""
        stream.put(hash_key_of(partition_key), partition_key, data, nbytes)

    def _check(self, record: Wire) -> int:
        """Return the size of a record's data in bytes.

        Raises:
            AwsError: ValidationException, SerializationException.
        """
        key = record["PartitionKey"]
        if not 1 <= len(key) <= MAX_PARTITION_KEY:
            raise AwsError("ValidationException", "PartitionKey must have 1 to 256 characters")
        explicit = record.get("ExplicitHashKey")
        if explicit is not None and not 0 <= int(explicit) <= MAX_HASH_KEY:
            raise AwsError("InvalidArgumentException", "ExplicitHashKey must be between 0 and 2^128 - 1")
        try:
            nbytes = len(a2b_base64(record["Data"], strict_mode=True))
        except Base64Error:
            raise AwsError("SerializationException", "Data is not base64") from None
        if nbytes > self._settings.max_record_bytes:
            limit = self._settings.max_record_bytes
            raise AwsError("ValidationException", f"Data must have length less than or equal to {limit}")
        return nbytes

    def _put(self, stream: Stream, record: Wire, nbytes: int) -> Wire:
        key = record["PartitionKey"]
        explicit = record.get("ExplicitHashKey")
        hash_key = hash_key_of(key) if explicit is None else int(explicit)
        if self._settings.limits:
            shard = stream.route(hash_key)
            if not shard.limits.admit_write(nbytes + len(key), time.monotonic()):
                return {
                    "ErrorCode": "ProvisionedThroughputExceededException",
                    "ErrorMessage": _rate_exceeded(stream, shard),
                }
        shard, sequence = stream.put(hash_key, key, record["Data"], nbytes)
        return {"SequenceNumber": str(sequence), "ShardId": shard.id}

    def _admit(self, stream: Stream, shard: Shard) -> None:
        if self._settings.limits and not shard.limits.admit_read(time.monotonic()):
            raise AwsError("ProvisionedThroughputExceededException", _rate_exceeded(stream, shard))

    def _index(self, stream: Stream, shard: Shard, request: Wire) -> int:
        kind = request["ShardIteratorType"]
        if kind == "TRIM_HORIZON":
            return shard.base
        if kind == "LATEST":
            return shard.end
        if kind == "AT_TIMESTAMP":
            if request["Timestamp"] > time.time() + 1:
                raise AwsError(
                    "InvalidArgumentException",
                    "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis.",
                )
            return shard.index_at_time(request["Timestamp"])
        if kind not in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            raise AwsError("ValidationException", f"Value '{kind}' at 'shardIteratorType' is not an iterator type")
        sequence = int(request["StartingSequenceNumber"])
        after_end = shard.end_sequence is not None and sequence > shard.end_sequence
        if sequence < max(shard.start_sequence, FIRST_SEQUENCE_NUMBER) or after_end:
            raise AwsError(
                "InvalidArgumentException",
                f"StartingSequenceNumber {sequence} used in GetShardIterator on shard {shard.id} in stream "
                f"{stream.name} under account {ACCOUNT} is invalid because it did not come from this stream.",
            )
        return shard.index_at_sequence(sequence, after=kind == "AFTER_SEQUENCE_NUMBER")

    def _iterator(self, stream: Stream, shard: Shard, index: int) -> str:
        return Iterator(stream.arn, stream.created, shard.id, index, time.time()).encode()


def _child(shard: Shard) -> Wire:
    return {"ShardId": shard.id, "ParentShards": list(shard.parents), "HashKeyRange": shard.hash_key_range()}


def _rate_exceeded(stream: Stream, shard: Shard) -> str:
    return f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}."

"""Kinesis streaming destinations of tables: every change becomes a record in the real envelope, stamped at the write.

Stamps rise strictly, over all items, so the changes of one item never tie under MICROSECOND precision.
Source: AWS "Kinesis Data Streams for DynamoDB"; ApproximateCreationDateTimePrecision.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from binascii import b2a_base64
from collections import deque
from dataclasses import dataclass

import orjson

from dyncdc.emulator.aws.kinesis.api import Kinesis
from dyncdc.emulator.aws.kinesis.records import Records
from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import AwsError, Wire

from .items import Row
from .tables import Table, Tables

TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
PRECISIONS = ("MILLISECOND", "MICROSECOND")
_ECHO_AFTER_RECORDS = 20


@dataclass(slots=True)
class Destination:
    """One stream that a table writes to. A status that is under way turns into the next one by itself, in time."""

    stream_arn: str
    precision: str
    status: str
    next_status: str
    next_precision: str
    next_at: float

    def settle(self, now: float) -> None:
        """Take the step that is due."""
        if self.next_status and now >= self.next_at:
            self.status, self.precision, self.next_status = self.next_status, self.next_precision, ""

    @property
    def delivers(self) -> bool:
        """Whether changes made now reach the stream."""
        return self.status in ("ACTIVE", "UPDATING")


@dataclass(frozen=True, slots=True)
class _Change:
    stream_arn: str
    partition_key: str
    data: str
    nbytes: int


class Streaming:
    """All destinations, and the way of a change to them."""

    def __init__(self, tables: Tables, kinesis: Kinesis, records: Records, settings: Settings) -> None:
        self._tables = tables
        self._kinesis = kinesis
        self._records = records
        self._settings = settings
        self._destinations: dict[str, list[Destination]] = {}
        self._last_stamp = 0
        self._late: deque[tuple[float, _Change]] = deque()
        self._echoes: deque[tuple[int, _Change]] = deque()
        self._sent = 0
        self.reseed()

    def reseed(self) -> None:
        """Begin the sequence of duplicates again, from the seed in the settings."""
        self._random = random.Random(self._settings.seed)  # noqa: S311  # repeatable, not secret

    def forget(self, table: Table) -> None:
        """Drop the destinations of a deleted table."""
        self._destinations.pop(table.arn, None)

    def enable(self, request: Wire, region: str) -> Wire:
        """Source: AWS EnableKinesisStreamingDestination."""
        table = self._tables.find(request["TableName"], region)
        arn = request["StreamArn"]
        self._kinesis.find({"StreamARN": arn}, region)
        precision = _precision(request.get("EnableKinesisStreamingConfiguration"), "MILLISECOND")
        others = [one for one in self._settled(table) if one.status != "DISABLED"]
        if any(one.stream_arn == arn for one in others):
            raise AwsError("ResourceInUseException", "Table is already streaming to the specified Kinesis stream")
        if len(others) >= 2:
            raise AwsError("LimitExceededException", "A table can stream to two Kinesis streams at most")
        at = time.time() + self._settings.enabling_delay_seconds
        fresh = Destination(arn, precision, "ENABLING", "ACTIVE", precision, at)
        self._destinations[table.arn] = [*(one for one in others if one.stream_arn != arn), fresh]
        return _answer(table, fresh, "EnableKinesisStreamingConfiguration")

    def disable(self, request: Wire, region: str) -> Wire:
        """Source: AWS DisableKinesisStreamingDestination. Changes made from now on no longer reach the stream."""
        table = self._tables.find(request["TableName"], region)
        found = self._find(table, request["StreamArn"])
        found.status, found.next_status, found.next_precision = "DISABLING", "DISABLED", found.precision
        found.next_at = time.time() + self._settings.enabling_delay_seconds
        return _answer(table, found, "EnableKinesisStreamingConfiguration")

    def update(self, request: Wire, region: str) -> Wire:
        """Source: AWS UpdateKinesisStreamingDestination. Records keep the old precision while it is UPDATING."""
        table = self._tables.find(request["TableName"], region)
        found = self._find(table, request["StreamArn"])
        precision = _precision(request.get("UpdateKinesisStreamingConfiguration"), found.precision)
        if precision == found.precision:
            raise AwsError("ValidationException", f"The precision is already {precision}")
        found.status, found.next_status, found.next_precision = "UPDATING", "ACTIVE", precision
        found.next_at = time.time() + self._settings.enabling_delay_seconds
        return _answer(table, found, "UpdateKinesisStreamingConfiguration", precision)

    def describe(self, request: Wire, region: str) -> Wire:
        """Source: AWS DescribeKinesisStreamingDestination."""
        table = self._tables.find(request["TableName"], region)
        listed = [
            {
                "StreamArn": one.stream_arn,
                "DestinationStatus": one.status,
                "ApproximateCreationDateTimePrecision": one.precision,
            }
            for one in self._settled(table)
        ]
        return {"TableName": table.name, "KinesisDataStreamDestinations": listed}

    def emit(self, table: Table, old: Row | None, new: Row | None, identity: Wire | None = None) -> None:
        """Send one change to every destination that delivers. Called at the write itself, before anything else runs."""
        if table.arn not in self._destinations:
            return
        delivering = [one for one in self._settled(table) if one.delivers]
        if not delivering or (old is not None and new is not None and old.attributes == new.attributes):
            return
        row = new or old
        if row is None:
            return
        stamp = self._last_stamp = max(time.time_ns() // 1000, self._last_stamp + 1)
        keys = table.items.schema.only(row.attributes)
        partition_key = hashlib.md5(orjson.dumps(keys, option=orjson.OPT_SORT_KEYS), usedforsecurity=False).hexdigest()
        for destination in delivering:
            body = orjson.dumps(_envelope(table, keys, old, new, stamp, destination.precision, identity))
            if len(body) > self._settings.max_record_bytes:
                continue  # as in AWS: dropped before anyone can read it
            data = b2a_base64(body, newline=False).decode()
            self._send(_Change(destination.stream_arn, partition_key.upper(), data, len(body)))

    def _send(self, change: _Change) -> None:
        delay = self._settings.streaming_delay_seconds
        if delay or self._late:
            if not self._late:
                asyncio.get_running_loop().call_later(delay, self._send_late)
            self._late.append((time.monotonic() + delay, change))
            return
        self._write(change)

    def _send_late(self) -> None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now + 0.001:
            self._write(self._late.popleft()[1])
        if self._late:
            asyncio.get_running_loop().call_later(max(0.0, self._late[0][0] - now), self._send_late)

    def _write(self, change: _Change) -> None:
        self._append(change)
        self._sent += 1
        while self._echoes and self._echoes[0][0] <= self._sent:
            self._append(self._echoes.popleft()[1])
        probability = self._settings.duplicate_probability
        if probability and self._random.random() < probability:
            self._echoes.append((self._sent + _ECHO_AFTER_RECORDS, change))

    def _append(self, change: _Change) -> None:
        stream = self._kinesis.streams.get(change.stream_arn)
        if stream is not None:
            self._records.append(stream, change.partition_key, change.data, change.nbytes)

    def _settled(self, table: Table) -> list[Destination]:
        found = self._destinations.get(table.arn, [])
        now = time.time()
        for destination in found:
            destination.settle(now)
        return found

    def _find(self, table: Table, stream_arn: str) -> Destination:
        for destination in self._settled(table):
            if destination.stream_arn == stream_arn and destination.status == "ACTIVE":
                return destination
        raise AwsError(
            "ValidationException" if table.arn in self._destinations else "ResourceNotFoundException",
            "Table is not in a valid state: KinesisStreamingDestination must be ACTIVE to perform this operation.",
        )


def _precision(configuration: Wire | None, default: str) -> str:
    precision = str((configuration or {}).get("ApproximateCreationDateTimePrecision", default))
    if precision not in PRECISIONS:
        raise AwsError("ValidationException", f"Value '{precision}' must satisfy enum value set: {PRECISIONS}")
    return precision


def _answer(table: Table, destination: Destination, name: str, precision: str = "") -> Wire:
    return {
        "TableName": table.name,
        "StreamArn": destination.stream_arn,
        "DestinationStatus": destination.status,
        name: {"ApproximateCreationDateTimePrecision": precision or destination.precision},
    }


def _envelope(
    table: Table, keys: Wire, old: Row | None, new: Row | None, stamp: int, precision: str, identity: Wire | None
) -> Wire:
    change: Wire = {
        "ApproximateCreationDateTime": stamp if precision == "MICROSECOND" else stamp // 1000,
        "Keys": keys,
    }
    if new is not None:
        change["NewImage"] = new.attributes
    if old is not None:
        change["OldImage"] = old.attributes
    change["SizeBytes"] = sum(row.size for row in (old, new) if row is not None) + len(orjson.dumps(keys))
    change["ApproximateCreationDateTimePrecision"] = precision
    return {
        "awsRegion": table.region,
        "eventID": str(uuid.uuid4()),
        "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
        "userIdentity": identity,
        "recordFormat": "application/json",
        "tableName": table.name,
        "dynamodb": change,
        "eventSource": "aws:dynamodb",
    }

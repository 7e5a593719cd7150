"""Streams and shards in memory: routing, sequence numbers, resharding, retention. No protocol, no JSON of requests.

A record is kept as the bytes that GetRecords answers with, so that reading is a slice and a join and never the
bottleneck of whatever is measured against it.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

import orjson

from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import AwsError, Wire

from .limits import READ_CALL_BYTES, ShardLimits

MAX_HASH_KEY = 2**128 - 1
FIRST_SEQUENCE_NUMBER = 49 * 10**54
"""Sequence numbers of the real service have up to 186 bits; so do these: text order and int64 both fail on them."""


class SequenceNumbers:
    """Rises forever, over streams, restarts of the process and re-created streams."""

    def __init__(self) -> None:
        self._count = itertools.count(time.time_ns() << 20)

    def next(self) -> int:
        """Return the next number."""
        return FIRST_SEQUENCE_NUMBER + next(self._count)


class Shard:
    """One shard and its records. Indexes count from its first record ever; ``base`` is the first one still held."""

    def __init__(self, number: int, low: int, high: int, start: int, parents: tuple[str, ...] = ()) -> None:
        self.id = f"shardId-{number:012d}"
        self.low = low
        self.high = high
        self.parents = parents
        self.start_sequence = start
        self.end_sequence: int | None = None
        self.created = time.time()
        self.closed_at: float | None = None
        self.limits = ShardLimits()
        self.base = 0
        self._encoded: list[bytes] = []
        self._sequences: list[int] = []
        self._arrivals: list[float] = []
        self._total_bytes = self._trimmed_bytes = 0
        self._ends: list[int] = []
        """Bytes up to the end of each record, counted from the shard's first one ever: a size by subtraction."""

    @property
    def end(self) -> int:
        """Index after the last record."""
        return self.base + len(self._encoded)

    def append(self, sequence: int, partition_key: str, data: str, nbytes: int, grain_seconds: float = 0.001) -> None:
        """Store a record; ``data`` is base64 already, ``nbytes`` the size before that, its time told in grains."""
        now = time.time()
        if self._arrivals and now < self._arrivals[-1]:
            now = self._arrivals[-1]  # a clock set back must not break the order that AT_TIMESTAMP searches in
        self._encoded.append(
            b'{"SequenceNumber":"%d","ApproximateArrivalTimestamp":%.3f,"Data":"%s","PartitionKey":%s}'
            % (sequence, now - now % grain_seconds, data.encode(), orjson.dumps(partition_key))
        )
        self._sequences.append(sequence)
        self._arrivals.append(now)
        self._total_bytes += nbytes + len(partition_key)
        self._ends.append(self._total_bytes)

    def trim(self, before: float) -> None:
        """Drop records that arrived before ``before``."""
        if not self._arrivals or self._arrivals[0] >= before:
            return
        gone = bisect_left(self._arrivals, before)
        self._trimmed_bytes = self._ends[gone - 1]
        for column in (self._encoded, self._sequences, self._arrivals, self._ends):
            del column[:gone]
        self.base += gone

    def expired(self, before: float) -> bool:
        """Whether the shard is closed and nothing of it can still be in retention."""
        return self.closed_at is not None and self.closed_at < before and not self._encoded

    def index_at_time(self, seconds: float) -> int:
        """Index of the first record that arrived at ``seconds`` or later."""
        return self.base + bisect_left(self._arrivals, seconds)

    def index_at_sequence(self, sequence: int, *, after: bool) -> int:
        """Index of the record with ``sequence``, or after it. What was trimmed behaves as the horizon."""
        search = bisect_right if after else bisect_left
        return self.base + search(self._sequences, sequence)

    def slice(self, start: int, limit: int) -> tuple[bytes, int, int]:
        """Return records from ``start`` joined by commas, the index after them and their size, at most 10 MiB."""
        first = max(start, self.base) - self.base
        stop = min(first + limit, len(self._encoded))
        if first >= stop:
            return b"", self.base + first, 0
        before = self._ends[first - 1] if first else self._trimmed_bytes
        index = max(first + 1, bisect_right(self._ends, before + READ_CALL_BYTES, first, stop))
        return b",".join(self._encoded[first:index]), self.base + index, self._ends[index - 1] - before

    def millis_behind(self, index: int, grain_seconds: float) -> int:
        """Return 0 at the tip, else the age of the next record; cut to more than milliseconds it may be 0 as well."""
        if index >= self.end:
            return 0
        grain_millis = round(grain_seconds * 1000)
        age_millis = max(1, int((time.time() - self._arrivals[index - self.base]) * 1000))
        return age_millis // grain_millis * grain_millis

    def describe(self) -> Wire:
        """Return the shard as ListShards shows it."""
        numbers = {"StartingSequenceNumber": str(self.start_sequence)}
        if self.end_sequence is not None:
            numbers["EndingSequenceNumber"] = str(self.end_sequence)
        names = ("ParentShardId", "AdjacentParentShardId")
        return {
            "ShardId": self.id,
            **dict(zip(names, self.parents, strict=False)),
            "HashKeyRange": self.hash_key_range(),
            "SequenceNumberRange": numbers,
        }

    def hash_key_range(self) -> Wire:
        """Return the range as the protocol writes it."""
        return {"StartingHashKey": str(self.low), "EndingHashKey": str(self.high)}


class Stream:
    """One stream: its shards, open and closed, and what may still be read."""

    def __init__(self, arn: str, count: int, numbers: SequenceNumbers, settings: Settings, mode: str) -> None:
        self.arn = arn
        self.name = arn.rsplit("/", 1)[-1]
        self.mode = mode
        self.created = time.time()
        self.retention_hours = 24
        self.distribution = "USER_PARTITION_KEY"
        self.busy_until = 0.0
        self.busy_status = "CREATING"
        self.shards: dict[str, Shard] = {}
        self._numbers = numbers
        self._settings = settings
        self._next_shard = 0
        self._routes: list[Shard] = []
        step = (MAX_HASH_KEY + 1) // count
        for i in range(count):
            self._add(i * step, MAX_HASH_KEY if i == count - 1 else (i + 1) * step - 1)

    @property
    def status(self) -> str:
        """CREATING or UPDATING for a while, then ACTIVE."""
        return self.busy_status if time.time() < self.busy_until else "ACTIVE"

    def set_busy(self, status: str, seconds: float) -> None:
        """Show ``status`` for the next ``seconds``."""
        self.busy_status, self.busy_until = status, time.time() + seconds

    def open_shards(self) -> list[Shard]:
        """Return open shards by hash key."""
        return self._routes

    def shard(self, shard_id: str) -> Shard:
        """Return a shard by id.

        Raises:
            AwsError: ResourceNotFoundException, also for a closed shard whose data has been trimmed.
        """
        shard = self.shards.get(shard_id)
        if shard is not None:
            shard.trim(self.horizon)
        if shard is None or shard.expired(self.horizon):
            raise AwsError(
                "ResourceNotFoundException",
                f"Shard {shard_id} in stream {self.name} under account {self.arn.split(':')[4]} does not exist",
            )
        return shard

    def children(self, shard_id: str) -> list[Shard]:
        """Return the shards that go on where ``shard_id`` ended."""
        return [shard for shard in self.shards.values() if shard_id in shard.parents]

    def put(self, hash_key: int, partition_key: str, data: str, nbytes: int) -> tuple[Shard, int]:
        """Append a record to the shard that owns ``hash_key``."""
        sequence = self._numbers.next()
        by_key = self.distribution != "AUTO"
        shard = self.route(hash_key) if by_key else self._routes[sequence % len(self._routes)]
        shard.append(sequence, partition_key, data, nbytes, self._settings.arrival_grain_seconds)
        return shard, sequence

    def route(self, hash_key: int) -> Shard:
        """Return the open shard that owns ``hash_key``."""
        return self._routes[bisect_right(self._routes, hash_key, key=lambda shard: shard.low) - 1]

    @property
    def horizon(self) -> float:
        """Time before which records are gone: by the override in the settings, or the stream's own retention."""
        return time.time() - (self._settings.retention_seconds or self.retention_hours * 3600)

    def trim(self) -> None:
        """Drop what is older than the retention in all shards, and shards that are used up."""
        before = self.horizon
        for shard in list(self.shards.values()):
            shard.trim(before)
            if shard.expired(before):
                del self.shards[shard.id]

    def split(self, shard: Shard, middle: int) -> None:
        """Close ``shard``; two children go on, the second from ``middle``."""
        self._close(shard)
        self._add(shard.low, middle - 1, (shard.id,))
        self._add(middle, shard.high, (shard.id,))

    def merge(self, shard: Shard, adjacent: Shard) -> None:
        """Close both; one child with two parents goes on."""
        self._close(shard)
        self._close(adjacent)
        low, high = min(shard.low, adjacent.low), max(shard.high, adjacent.high)
        self._add(low, high, (shard.id, adjacent.id))

    def resize(self, target: int) -> None:
        """Split the widest shards, or merge the narrowest neighbours, until ``target`` are open."""
        while len(self._routes) < target:
            widest = max(self._routes, key=lambda shard: shard.high - shard.low)
            self.split(widest, (widest.low + widest.high) // 2 + 1)
        while len(self._routes) > target:
            pairs: Iterable[tuple[Shard, Shard]] = itertools.pairwise(self._routes)
            self.merge(*min(pairs, key=lambda pair: pair[1].high - pair[0].low))

    def _add(self, low: int, high: int, parents: tuple[str, ...] = ()) -> None:
        shard = Shard(self._next_shard, low, high, self._numbers.next(), parents)
        self._next_shard += 1
        self.shards[shard.id] = shard
        insort(self._routes, shard, key=lambda one: one.low)

    def _close(self, shard: Shard) -> None:
        shard.closed_at = time.time()
        shard.end_sequence = self._numbers.next()
        self._routes = [one for one in self._routes if one is not shard]

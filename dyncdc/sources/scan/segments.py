"""A running scan as a source: its segments are the shards, and a position is the last key that was read.

A position holds a key of the table: it belongs into the checkpoints, and never into a message.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.sources.aws_errors import ThrottledError, Verdict, aws_call
from dyncdc.sources.dynamodb import TABLE_UNKNOWN
from dyncdc.sources.item_json import key_json, raw_items_of, sdk_key
from dyncdc.sources.snapshot_source import SnapshotSource, snapshot_chunk

from .page_index import PageIndex
from .read_capacity import PageSize, ReadCapacity, units_of

END = Position("END")
"""Behind the last page of a segment."""

ITEMS_PER_TURN = 1000
"""Copied before others on the event loop have their turn."""

LINE_OVERHEAD_BYTES = 160
"""What an item costs in memory beside its bytes: the headers of its line and of its position, and two list slots."""

_EDITED = "dyncdc_checkpoints was edited, or written by a newer version"
_SCAN: Mapping[str, Verdict] = {**TABLE_UNKNOWN, "ValidationException": (FatalError, _EDITED)}

Key = dict[str, dict[Literal["S", "N", "B"], str]]


class _Capacity(msgspec.Struct):
    CapacityUnits: float | None = None


class _Answer(msgspec.Struct):
    """The answer of Scan without a filter, what we use of it beside the items."""

    Count: int
    ScannedCount: int
    LastEvaluatedKey: dict[str, dict[str, Any]] | None = None
    ConsumedCapacity: _Capacity | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page. ``last``: where the next one begins, None when there is none; a page without items may have one."""

    items: Sequence[msgspec.Raw]
    last: Position | None
    units: float
    repeated: bool


def read_page(response: Mapping[str, Any]) -> Page:
    """Read an answer. Raises RetryableError for one that does not add up: a missing key would end the segment."""
    items = raw_items_of(response)
    try:
        answer = msgspec.convert(response, _Answer)
        last = Position(key_json(answer.LastEvaluatedKey)) if answer.LastEvaluatedKey else None
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
        kind = type(error).__name__
        raise RetryableError(f"reading a page of a scan: the answer cannot be understood ({kind})") from None
    if not answer.Count == answer.ScannedCount == len(items):
        raise RetryableError("reading a page of a scan: the answer does not hold as many items as it says")
    consumed = answer.ConsumedCapacity.CapacityUnits if answer.ConsumedCapacity else None
    units = consumed if consumed is not None else units_of(sum(len(memoryview(item)) for item in items))
    return Page(items, last, units, bool(response.get("ResponseMetadata", {}).get("RetryAttempts")))


def start_key(position: Position) -> dict[str, dict[str, Any]] | None:
    """The key behind which a page begins, as the SDK takes it; None for the first page. Raises FatalError."""
    if position == HORIZON:
        return None
    try:
        key = msgspec.json.decode(position, type=Key)
        if key and all(len(value) == 1 for value in key.values()):
            return sdk_key(key)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, ValueError):
        pass
    raise FatalError("resuming a scan: the position is not a key", hint=_EDITED)


def segment_ids(segments: int) -> list[ShardId]:
    """The segments of a scan by number, as checkpoints name them."""
    return [ShardId(f"segment-{number}") for number in range(segments)]


class ScanSource(SnapshotSource):
    """The segments of one scan. ``label`` is the table's name; ``segments`` must be what the scan was begun with."""

    def __init__(self, dynamodb: Any, source: SourceId, label: str, segments: int, capacity: ReadCapacity) -> None:
        super().__init__(source, label)
        self._dynamodb = dynamodb
        self._segments = {segment: number for number, segment in enumerate(segment_ids(segments))}
        self._capacity = capacity
        self._sizes: dict[ShardId, PageSize] = {}
        self._pages = PageIndex()

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        """Yield the segments, all at once."""
        yield [Shard(self._id, segment) for segment in self._segments]

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        """Return the next page: without records and without progress when the budget has no room for one yet."""
        if after == END:
            return _chunk(shard, END, [], closed=True)
        request = self._request(shard, after)
        size = self._sizes.setdefault(shard.id, PageSize())
        limit = size.limit(want_bytes, self._capacity.page_units)
        admitted = size.units(limit)
        if not await self._capacity.admit(admitted):
            return _chunk(shard, after, [])
        page = await self._scan(request | {"Limit": limit}, admitted)
        if page.last == after:
            raise RetryableError(f"scanning table {self._label}: the page ends at the key that it was to begin behind")
        records = await _lines(page.items)
        chunk = _chunk(shard, page.last or END, records, closed=page.last is None)
        size.answered(len(records), chunk.nbytes, page.units)
        self._pages.add(shard.id, after, limit, chunk.positions)
        return chunk

    async def reread(self, shard: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        """Yield the items at ``positions`` that are as they were, by the pages that held them, within the budget."""
        missing = set(positions)
        for page in self._pages.holding(shard.id, positions):
            size = self._sizes.get(shard.id) or PageSize()
            admitted = size.units(page.limit)
            if not await self._capacity.admit(admitted):
                raise RetryableError(f"scanning table {self._label} again: the budget of read capacity has no room")
            request = self._request(shard, page.after) | {"Limit": page.limit}
            records = await _lines((await self._scan(request, admitted)).items)
            for record in records:
                position = _position(record)
                if position in missing:
                    missing.remove(position)
                    yield position, record
            if not missing:
                return

    def _request(self, shard: Shard, after: Position) -> dict[str, Any]:
        number = self._segments.get(shard.id)
        if number is None:
            raise FatalError(f"scanning table {self._label}: the scan has no {shard.id}", hint=_EDITED)
        request: dict[str, Any] = {
            "TableName": self._label,
            "Segment": number,
            "TotalSegments": len(self._segments),
            "ReturnConsumedCapacity": "TOTAL",
        }
        key = start_key(after)
        return request | ({"ExclusiveStartKey": key} if key else {})

    async def _scan(self, request: Mapping[str, Any], admitted: float) -> Page:
        """Read one page and put the budget right; a call that failed stays charged: it may have been served."""
        try:
            async with aws_call(f"scanning table {self._label}", _SCAN):
                page = read_page(await self._dynamodb.scan(**request))
        except ThrottledError:
            self._capacity.settle(admitted, 0.0)
            self._capacity.throttled()
            raise
        self._capacity.settle(admitted, page.units)
        if page.repeated:  # by the SDK, which does not say why: throttling is the likeliest reason
            self._capacity.throttled()
        return page

    def forget(self, shard: Shard) -> None:
        """Drop what was learned about a segment's items."""
        self._sizes.pop(shard.id, None)

    async def close(self) -> None:
        """Nothing to close. The clients belong to ``open_clients``."""


async def _lines(items: Sequence[msgspec.Raw]) -> list[bytes]:
    """Items as lines of an export; their bytes are DynamoDB's own."""
    lines: list[bytes] = []
    for first in range(0, len(items), ITEMS_PER_TURN):
        lines += [b'{"Item":%b}' % bytes(item) for item in items[first : first + ITEMS_PER_TURN]]
        await asyncio.sleep(0)
    return lines


def _position(record: bytes) -> Position:
    """A record's position is a digest of it: equal when it is read again, however the pages then fall."""
    return Position(hashlib.blake2b(record, digest_size=12).hexdigest())


def _chunk(shard: Shard, end: Position, records: Sequence[bytes], *, closed: bool = False) -> RawChunk:
    positions = [_position(record) for record in records]
    nbytes = sum(map(len, records)) + len(records) * LINE_OVERHEAD_BYTES
    return snapshot_chunk(shard, records, positions, end, nbytes=nbytes, closed=closed)

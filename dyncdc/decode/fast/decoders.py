"""Chunks into blocks by the fast path, in place of the exact decoders: the same blocks, counts and dead letters.

Records that cannot be read here, tables that the fast path does not know and whatever is odd go through the exact
decoder, one record at a time, and take their places among the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from ...model import Block, Decoded, Position, RawChunk
from ..decoders import SUB_BATCH_ROWS, SnapshotDecoder, StreamDecoder, _Batch
from ..envelope import MAX_VERSION, version_in_microseconds
from ..history import HistoryPlan
from ..plan import Row, TablePlan
from ..undecodable import Undecodable
from .objects import UNREADABLE
from .sheet import Built, Records, Sheet
from .table import FastTable

T = TypeVar("T")

_NOTHING: Final = msgspec.Raw(b"")
_NO_IMAGE: Final = msgspec.Raw(b"null")
_MICROSECOND: Final = b'"MICROSECOND"'
_TIMES: Final = re.compile(rb"[0-9]++(?:\n[0-9]++)*+").fullmatch


class _Body(msgspec.Struct, gc=False):
    keys: msgspec.Raw = msgspec.field(name="Keys")
    created: msgspec.Raw = msgspec.field(name="ApproximateCreationDateTime", default=_NOTHING)
    precision: msgspec.Raw = msgspec.field(name="ApproximateCreationDateTimePrecision", default=_NOTHING)
    new_image: msgspec.Raw = msgspec.field(name="NewImage", default=_NO_IMAGE)


class _Change(msgspec.Struct, gc=False):
    event_name: Literal["INSERT", "MODIFY", "REMOVE"] = msgspec.field(name="eventName")
    table_name: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="tableName")
    body: _Body = msgspec.field(name="dynamodb")


_NO_CHANGE: Final = _Change("REMOVE", "", _Body(_NOTHING))
"""Holds the place of a record that cannot be read here."""


class _Line(msgspec.Struct, gc=False):
    item: msgspec.Raw = msgspec.field(name="Item")


_read_change = msgspec.json.Decoder(_Change).decode
_read_line = msgspec.json.Decoder(_Line).decode
_LINE_OVERHEAD: Final = len(b'{"Item":}')


class _Single(_Batch):
    """Takes down what the exact decoder makes of one record."""

    def __init__(self, pipeline: str, chunk: RawChunk) -> None:
        super().__init__(pipeline, chunk)
        self.table = ""
        self.row: Row | None = None
        self.microseconds = 0
        self.buried: tuple[str, Undecodable, Position, bytes] | None = None
        self._calls: list[Callable[[_Batch], None]] = []

    def count(self, table: str) -> None:
        self.table = table

    def add(self, plan: TablePlan, row: Row, position: Position) -> None:
        self.row = row
        self._calls.append(lambda batch: batch.add(plan, row, position))

    def append(self, history: HistoryPlan, cells: list[bytes], position: Position) -> None:
        self._calls.append(lambda batch: batch.append(history, cells, position))

    def stamp(self, plan: TablePlan, microseconds: int) -> None:
        self.microseconds = microseconds
        self._calls.append(lambda batch: batch.stamp(plan, microseconds))

    def bury(self, table: str, failure: Undecodable, position: Position, raw: bytes) -> None:
        self.buried = (table, failure, position, raw)

    def hand_over(self, batch: _Batch) -> None:
        """Do to a batch what was done to this one, dead letters apart."""
        for call in self._calls:
            call(batch)


class _Compiled:
    """The fast paths of plans by table, compiled when first needed: plans are exchanged when columns are added."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[TablePlan, FastTable | None]] = {}

    def of(self, plan: TablePlan) -> FastTable | None:
        """Return the fast path of a plan, None where there is none."""
        found = self._tables.get(plan.source_table)
        if found is None or found[0] is not plan:
            found = self._tables[plan.source_table] = plan, compile_fast(plan)
        return found[1]


def compile_fast(plan: TablePlan) -> FastTable | None:
    """Compile the fast path of one table, None where only the exact one will do."""
    try:
        return FastTable(plan)
    except ValueError:
        return None


class _Exact:
    """The exact path for single records of one sub-batch."""

    def __init__(self, decode: Callable[[int, _Single], None], pipeline: str, chunk: RawChunk) -> None:
        self._decode = decode
        self._pipeline = pipeline
        self._chunk = chunk
        self.singles: dict[int, _Single] = {}
        """By number of the record in the sub-batch."""

    def __call__(self, number: int) -> _Single:
        found = self.singles.get(number)
        if found is None:
            found = self.singles[number] = _Single(self._pipeline, self._chunk)
            self._decode(number, found)
        return found

    def row(self, numbers: Sequence[int], row: int) -> Row | None:
        """The row that a record has, if any: that of ``numbers[row]``."""
        return self(numbers[row]).row

    def bury(self, batch: _Batch, is_judged: Sequence[bool]) -> None:
        """Hand over the dead letters, each with its place among the records that had to become rows."""
        for number, single in sorted(self.singles.items()):
            if single.buried is not None:
                batch.decoded.judged = sum(is_judged[: number + 1])
                batch.bury(*single.buried)
        batch.decoded.judged = sum(is_judged)


class _Blocks:
    """The blocks of a sub-batch, in the order of their first rows; those of the exact path follow."""

    def __init__(self) -> None:
        self._found: list[tuple[int, Block]] = []

    def add(self, decoded: Decoded, table: str, built: Built, first: int, created: int) -> None:
        """Add a table's block, and count. ``created``: microseconds; 0 for a snapshot."""
        if built.block is None:
            return
        built.block.created = created / 1_000_000
        self._found.append((first, built.block))
        if built.spilled:
            decoded.spilled[table] = built.spilled
        if built.outside:
            decoded.outside[table] = built.outside

    def close(self, batch: _Batch) -> Decoded:
        """Return the whole sub-batch."""
        batch.decoded.blocks += [block for _, block in sorted(self._found, key=itemgetter(0))]
        return batch.close()


class FastStreamDecoder(StreamDecoder):
    """``StreamDecoder``, faster."""

    def __init__(self, plans: Mapping[str, TablePlan], *, pipeline: str) -> None:
        super().__init__(plans, pipeline=pipeline)
        self._compiled = _Compiled()

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            yield self._sub_batch(chunk, slice(start, start + SUB_BATCH_ROWS))

    def _sub_batch(self, chunk: RawChunk, part: slice) -> Decoded:
        records, positions = chunk.records[part], chunk.positions[part]
        batch, blocks = _Batch(self._pipeline, chunk), _Blocks()
        exact = _Exact(
            lambda number, single: self._decode_record(records[number], positions[number], single),
            self._pipeline,
            chunk,
        )
        changes = _changes(records)
        tables = [exact(number).table if change is None else change.table_name for number, change in enumerate(changes)]
        batch.decoded.records = dict(Counter(tables))
        is_judged = [table in self._plans or not table for table in tables]
        for table in batch.decoded.records:
            numbers: Sequence[int] = range(len(tables))
            if len(batch.decoded.records) > 1:
                numbers = [number for number, name in enumerate(tables) if name == table]
            plan = self._plans.get(table)
            fast = self._compiled.of(plan) if plan is not None else None
            if fast is not None:
                found, times = _columns(fast.plan, [changes[number] for number in numbers], positions, numbers)
                built = Sheet(fast, found, partial(exact.row, numbers)).build()
                for row in found.slow:
                    times[row] = exact(numbers[row]).microseconds
                created = max(times)
                blocks.add(batch.decoded, table, built, numbers[built.first], created)
            elif plan is not None:
                for number in numbers:
                    exact(number).hand_over(batch)
        exact.bury(batch, is_judged)
        return blocks.close(batch)


class FastSnapshotDecoder(SnapshotDecoder):
    """``SnapshotDecoder``, faster."""

    def __init__(self, plan: TablePlan, version: int, *, pipeline: str) -> None:
        super().__init__(plan, version, pipeline=pipeline)
        self._compiled = _Compiled()

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            yield self._sub_batch(chunk, slice(start, start + SUB_BATCH_ROWS))

    def _sub_batch(self, chunk: RawChunk, part: slice) -> Decoded:
        lines, positions, plan = chunk.records[part], chunk.positions[part], self.plan
        batch, blocks = _Batch(self._pipeline, chunk), _Blocks()
        fast = self._compiled.of(plan)
        batch.decoded.snapshot = True
        batch.decoded.records = {plan.source_table: len(lines)}
        exact = _Exact(
            lambda number, single: self._decode_line(lines[number], positions[number], single), self._pipeline, chunk
        )
        if fast is not None:
            images = _images(lines)
            slow = {row for row, image in enumerate(images) if image is None}
            found = Records(images, [self._version] * len(lines), list(positions), slow=slow)
            built = Sheet(fast, found, partial(exact.row, range(len(lines)))).build()
            blocks.add(batch.decoded, plan.source_table, built, 0, 0)
        else:
            for number in range(len(lines)):
                exact(number).hand_over(batch)
        exact.bury(batch, [True] * len(lines))
        return blocks.close(batch)


def _changes(records: Sequence[bytes]) -> list[_Change | None]:
    """Read envelopes; None for those that cannot be read."""
    try:
        return list(map(_read_change, records))
    except UNREADABLE:
        return [_tried(_read_change, record) for record in records]


def _tried(read: Callable[[bytes], T], record: bytes) -> T | None:
    try:
        return read(record)
    except UNREADABLE:
        return None


def _images(lines: Sequence[bytes]) -> list[msgspec.Raw | bytes | None]:
    """Return the items of an export's lines; None for lines that are, or hold, something else."""
    try:
        found: Sequence[_Line | None] = list(map(_read_line, lines))
    except UNREADABLE:
        found = [_tried(_read_line, line) for line in lines]
    return [
        each.item if each is not None and len(each.item) + _LINE_OVERHEAD == len(line) else None
        for each, line in zip(found, lines, strict=True)
    ]


def _columns(
    plan: TablePlan, changes: Sequence[_Change | None], positions: Sequence[Position], numbers: Sequence[int]
) -> tuple[Records, list[int]]:
    """Return the records of one table, and their times in microseconds; what is odd about them makes them slow."""
    slow = {row for row, change in enumerate(changes) if change is None}
    there = [change or _NO_CHANGE for change in changes]
    bodies = [change.body for change in there]
    times = _times(bodies, slow)
    images: list[msgspec.Raw | bytes | None] = [
        None if change.event_name == "REMOVE" else change.body.new_image for change in there
    ]
    if not plan.keeps_deletes:
        slow.update(row for row, image in enumerate(images) if image is None)
    found = list(positions) if len(numbers) == len(positions) else [positions[number] for number in numbers]
    versions = times.copy()
    if plan.wide_version:
        for row, position in enumerate(found):
            try:
                versions[row] = plan.version(times[row], position)
            except Undecodable:
                slow.add(row)
    return Records(images, versions, found, [body.keys for body in bodies], slow), times


def _times(bodies: Sequence[_Body], slow: set[int]) -> list[int]:
    """Return creation times in microseconds, 0 where the exact path must judge."""
    texts = b"\n".join([body.created for body in bodies])
    precisions = b"\n".join([body.precision for body in bodies])
    if precisions == b"\n".join([_MICROSECOND] * len(bodies)) and _TIMES(texts):
        times = list(map(int, texts.split(b"\n")))
        if len(times) == len(bodies) and 0 < min(times) and max(times) < MAX_VERSION:
            return times
    return [_time(row, body, slow) for row, body in enumerate(bodies)]


def _time(row: int, body: _Body, slow: set[int]) -> int:
    try:
        return version_in_microseconds(bytes(body.created), bytes(body.precision))
    except Undecodable:
        slow.add(row)
        return 0

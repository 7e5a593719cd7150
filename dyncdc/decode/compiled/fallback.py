"""The reference path for single records and single values of one sub-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import orjson

from dyncdc.decode.decoder import SubBatch
from dyncdc.decode.history_rows import HistoryPlan, image_cell
from dyncdc.decode.table_plan import Row, TablePlan
from dyncdc.model.shards import Position, RawChunk
from dyncdc.schema.types.reject_reasons import UndecodableRecord

from .layout import CompiledTable


class ReferenceRecord(SubBatch):
    """Takes down what the exact decoder makes of one record."""

    def __init__(self, pipeline: str, chunk: RawChunk) -> None:
        super().__init__(pipeline, chunk)
        self.table = ""
        self.row: Row | None = None
        self.microseconds = 0
        self.change: tuple[HistoryPlan, list[bytes], Position] | None = None
        """Its row of a history, until it is handed over."""
        self.rejection: tuple[str, UndecodableRecord, Position, bytes] | None = None
        self._calls: list[Callable[[SubBatch], None]] = []

    def count(self, table: str) -> None:
        """Take down the record's table."""
        self.table = table

    def add(self, plan: TablePlan, row: Row, position: Position) -> None:
        """Take down its row."""
        self.row = row
        self._calls.append(lambda batch: batch.add(plan, row, position))

    def append(self, history: HistoryPlan, cells: list[bytes], position: Position) -> None:
        """Take down its row of a history."""
        self.change = (history, cells, position)
        self._calls.append(lambda batch: batch.append(history, cells, position))

    def stamp(self, plan: TablePlan, microseconds: int) -> None:
        """Take down its time."""
        self.microseconds = microseconds
        self._calls.append(lambda batch: batch.stamp(plan, microseconds))

    def reject(self, table: str, failure: UndecodableRecord, position: Position, raw: bytes) -> None:
        """Take down that it is a dead letter."""
        # A copy was never raised: the one that was holds frames, and so, in a cycle, the whole chunk.
        said = UndecodableRecord(failure.reason, failure.detail, column=failure.column)
        self.rejection = (table, said, position, raw)

    def hand_over(self, batch: SubBatch) -> None:
        """Do to a batch what was done to this one, dead letters apart."""
        for call in self._calls:
            call(batch)
        self.change = None


class ReferenceRecords:
    """The records of a sub-batch that took the reference path, by their number in it."""

    def __init__(self, decode: Callable[[int, ReferenceRecord], None], pipeline: str, chunk: RawChunk) -> None:
        self._decode = decode
        self._pipeline = pipeline
        self._chunk = chunk
        self.found: dict[int, ReferenceRecord] = {}

    def __call__(self, number: int) -> ReferenceRecord:
        """Decode a record, once."""
        found = self.found.get(number)
        if found is None:
            found = self.found[number] = ReferenceRecord(self._pipeline, self._chunk)
            self._decode(number, found)
        return found


class Fallback:
    """Values that the compiled reader does not know how to take, each down the reference path alone.

    ``levels``: how deep inside a document the reference path meets the values of an item.
    """

    def __init__(self, tables: tuple[CompiledTable, ...], levels: int) -> None:
        self._tables = tables
        self._levels = levels
        self._news: dict[tuple[int, int], dict[str, object]] = {}

    def __call__(
        self, table: int, number: int, name: str | None, raw: bytes
    ) -> tuple[list[tuple[int, bytes]], bytes | None, int] | bytes | None:
        """Return the cells that a value fills, what the spill keeps, and how much is outside; None if it is refused.

        Without a name it is an image for a history: return its cell, None if it is refused.
        """
        if name is None:
            return self._image(self._tables[table].plan, raw)
        plan, indexes = self._tables[table].plan, self._tables[table].indexes.get(name, ())
        row = Row(b"", [b"", *self._tables[table].defaults][1:], 0)
        try:
            left = plan.redact({name: parsed(raw, self._levels)})
            kept = plan.fill_attribute(name, left[name], row) if name in left else None
        except (UndecodableRecord, RecursionError, orjson.JSONDecodeError):
            return None
        cells = [(index, bytes(row.cells[index])) for index in indexes]
        if kept is None:
            return cells, None, row.outside
        if self._tables[table].open:
            self._news.setdefault((table, number), {})[name] = kept
        return cells, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), row.outside

    def _image(self, plan: TablePlan, raw: bytes) -> bytes | None:
        try:
            image = parsed(raw, self._levels - 1)
            return b"%b" % image_cell(plan.redact(image)) if isinstance(image, dict) else None
        except (UndecodableRecord, RecursionError, orjson.JSONDecodeError):
            return None

    def report(self, refused: int = -1) -> None:
        """Report attributes without a column, in the order of their records: late ones may find the collection full.

        ``refused``: the record that takes the reference path after all, which reports it itself, right after this.
        """
        for (table, number), kept in self._news.items():
            unmapped = self._tables[table].plan.unmapped
            if unmapped is not None and number != refused:
                unmapped.observe(kept)
        self._news.clear()


def parsed(raw: bytes, levels: int) -> object:
    """Parse a value as deep inside a document as the reference path meets it. Raises orjson.JSONDecodeError."""
    if levels == 0:
        return cast(object, orjson.loads(raw))
    found: list[object] = orjson.loads(b"%b%b%b" % (b"[" * levels, raw, b"]" * levels))
    for _ in range(levels - 1):
        inner = found[0]
        if isinstance(inner, list):
            found = inner
    return found[0]

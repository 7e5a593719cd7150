"""Chunks of a stream or a snapshot into blocks, a few hundred records at a time. Never raises because of a record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import orjson

from dyncdc.model.blocks import Block, DeadLetter, Decoded
from dyncdc.model.shards import Position, RawChunk
from dyncdc.schema.types.cells import compact, trimmed
from dyncdc.schema.types.reject_reasons import TOO_DEEP, UndecodableRecord

from .dead_letters.redacted_records import withheld
from .dead_letters.rows import DEAD_LETTER_TABLE, DeadLetterRows
from .envelope import Change, read_change, read_export_line, table_of
from .history_rows import HistoryPlan
from .table_plan import Row, TablePlan

SUB_BATCH_ROWS: Final = 250
"""Records per yielded sub-batch: parsed documents kept longer cost ten times as much (measured)."""


class SubBatch:
    """What one sub-batch has become so far."""

    def __init__(self, pipeline: str, chunk: RawChunk) -> None:
        self.decoded = Decoded()
        self.dead = DeadLetterRows(pipeline, chunk.shard.source, chunk.shard.id)
        self.shard = chunk.shard
        self._rows: dict[str, tuple[TablePlan, list[Row], list[Position]]] = {}
        self._history: dict[str, tuple[HistoryPlan, list[list[bytes]], list[Position]]] = {}
        self._created: dict[str, float] = {}

    def count(self, table: str) -> None:
        """Count a record of a DynamoDB table."""
        self.decoded.records[table] = self.decoded.records.get(table, 0) + 1

    def add(self, plan: TablePlan, row: Row, position: Position) -> None:
        """Add a row of a destination."""
        found = self._rows.get(plan.source_table)
        if found is None:
            found = self._rows[plan.source_table] = (plan, [], [])
        found[1].append(row)
        found[2].append(position)

    def append(self, history: HistoryPlan, cells: list[bytes], position: Position) -> None:
        """Add a row to a history."""
        found = self._history.setdefault(history.table, (history, [], []))
        found[1].append(cells)
        found[2].append(position)

    def stamp(self, plan: TablePlan, microseconds: int) -> None:
        """Take note of when a change of a table was made."""
        self._created[plan.source_table] = max(self._created.get(plan.source_table, 0.0), microseconds / 1_000_000)

    def reject(self, table: str, failure: UndecodableRecord, position: Position, raw: bytes) -> None:
        """Make the record that was judged last a dead letter."""
        dead = self.decoded.dead
        dead[table, failure.reason] = dead.get((table, failure.reason), 0) + 1
        ordinal = self.decoded.judged - 1
        self.decoded.dead_letters.append(DeadLetter(ordinal, position, table, failure.reason, failure.column))
        self.dead.add(
            table=table,
            reason=failure.reason,
            column=failure.column,
            error=failure.detail,
            position=position,
            raw=raw,
        )

    def close(self) -> Decoded:
        """Return the whole."""
        decoded = self.decoded
        for plan, rows, positions in self._rows.values():
            table = plan.source_table
            block = block_of(plan, rows)
            block.positions = orjson.dumps(positions)[1:-1]
            block.created = self._created.get(table, 0.0)
            decoded.blocks.append(block)
            for counter, number in (
                (decoded.spilled, sum(row.spilled for row in rows)),
                (decoded.outside, sum(row.outside for row in rows)),
            ):
                if number:
                    counter[table] = counter.get(table, 0) + number
        for history, changes, positions in self._history.values():
            cells = [compact(column) for column in zip(*changes, strict=True)]
            # No keys: its rows never replace each other, so nothing may be collapsed.
            block = Block(history.table, history.columns, cells, len(changes))
            block.positions = orjson.dumps(positions)[1:-1]
            decoded.blocks.append(block)
        dead_letters = self.dead.block()
        if dead_letters is not None:
            decoded.blocks.append(dead_letters)
        return decoded


def block_of(plan: TablePlan, rows: list[Row]) -> Block:
    """Turn rows of one plan into its block, in their order."""
    return Block(
        table=plan.destination,
        columns=plan.columns,
        cells=[compact(column) for column in zip(*(row.cells for row in rows), strict=True)],
        rows=len(rows),
        keys=[row.key for row in rows],
        versions=[row.version for row in rows],
        optional=plan.optional,
    )


class StreamDecoder:
    """Change records of one stream, which may carry several tables; those without a plan are counted only."""

    def __init__(self, plans: Mapping[str, TablePlan], *, pipeline: str) -> None:
        """``plans`` may be exchanged for those of more columns between two sub-batches, not within one."""
        self._plans = plans
        self._pipeline = pipeline

    @property
    def tables(self) -> Collection[str]:
        """Destination tables it may fill, histories and the dead-letter table included."""
        return {*(table for plan in self._plans.values() for table in tables_of(plan)), DEAD_LETTER_TABLE}

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            batch = SubBatch(self._pipeline, chunk)
            for index in range(start, min(start + SUB_BATCH_ROWS, len(chunk.records))):
                self._decode_record(chunk.records[index], chunk.positions[index], batch)
            yield batch.close()

    def _decode_record(self, record: bytes, position: Position, batch: SubBatch) -> None:
        try:
            change = read_change(record)
        except UndecodableRecord as failure:
            table = table_of(record)
            batch.count(table)
            if table in self._plans or not table:  # another's table may break its own records as it likes
                batch.decoded.judged += 1
                batch.reject(table, failure, position, self._keepable(table, record))
            return
        table = change.table
        batch.count(table)
        plan = self._plans.get(table)
        if plan is None:
            return
        batch.decoded.judged += 1
        try:
            self._add_change(plan, change, position, batch)
        except UndecodableRecord as failure:
            batch.reject(table, failure, position, plan.keepable(record))
        except RecursionError:
            deep = UndecodableRecord(TOO_DEEP, "reading a change record: nested too deep")
            batch.reject(table, deep, position, plan.keepable(record))

    def _keepable(self, table: str, record: bytes) -> bytes:
        """What may be kept of a broken record: next to nothing where it could be one of a table with masked parts."""
        plan = self._plans.get(table)
        if plan is not None:
            return plan.keepable(record)
        return withheld(record) if any(each.redacts for each in self._plans.values()) else record

    def _add_change(self, plan: TablePlan, change: Change, position: Position, batch: SubBatch) -> None:
        microseconds = change.version
        version = plan.version(microseconds, position)
        row = _row_of(plan, change, version)
        history = plan.history
        if history is not None:
            # Both rows or none: a record that becomes a dead letter is in neither table until it is replayed.
            cells = (row or plan.tombstone(change.keys, version)).cells
            cells = history.change(cells, change, plan.redact, microseconds, position, batch.shard.id)
            batch.append(history, trimmed(cells), position)
        if row is not None:
            row.cells = trimmed(row.cells)
            batch.add(plan, row, position)
        batch.stamp(plan, microseconds)


def _row_of(plan: TablePlan, change: Change, version: int) -> Row | None:
    """Return what a change makes of its item's row, None where the table's policies keep it out."""
    if change.event_name != "REMOVE":
        return plan.upsert(change.new_image, version, change.keys)
    if plan.keeps_expired and change.by_ttl:
        return plan.expired(change.old_image, version, change.keys)
    return plan.tombstone(change.keys, version) if plan.keeps_deletes else None


def tables_of(plan: TablePlan) -> tuple[str, ...]:
    """Return the tables that a plan fills: the destination, and the history where it has one."""
    return (plan.destination,) if plan.history is None else (plan.destination, plan.history.table)


class SnapshotDecoder:
    """Lines of an export, or items of a scan in the same form, all at one version (microseconds)."""

    def __init__(self, plan: TablePlan, version: int, *, pipeline: str) -> None:
        self.plan = plan
        """May be exchanged for that of more columns between two sub-batches, not within one."""
        self._microseconds = version
        self._version = plan.version(version)
        self._pipeline = pipeline

    @property
    def tables(self) -> Collection[str]:
        """Destination tables it may fill, a history and the dead-letter table included."""
        return {*tables_of(self.plan), DEAD_LETTER_TABLE}

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            batch = SubBatch(self._pipeline, chunk)
            batch.decoded.snapshot = True
            for index in range(start, min(start + SUB_BATCH_ROWS, len(chunk.records))):
                self._decode_line(chunk.records[index], chunk.positions[index], batch)
            yield batch.close()

    def _decode_line(self, line: bytes, position: Position, batch: SubBatch) -> None:
        plan = self.plan
        batch.count(plan.source_table)
        batch.decoded.judged += 1
        try:
            self._add_item(read_export_line(line), position, batch)
        except UndecodableRecord as failure:
            batch.reject(plan.source_table, failure, position, plan.keepable(line))
        except RecursionError:
            deep = UndecodableRecord(TOO_DEEP, "reading a line of an export: nested too deep")
            batch.reject(plan.source_table, deep, position, plan.keepable(line))

    def _add_item(self, item: Mapping[str, object], position: Position, batch: SubBatch) -> None:
        plan = self.plan
        row = plan.upsert(item, self._version)
        if plan.history is not None:
            kept, shard = plan.redact(item), batch.shard
            cells = plan.history.base(row.cells, kept, self._microseconds, shard.source, shard.id)
            batch.append(plan.history, trimmed(cells), position)
        row.cells = trimmed(row.cells)
        batch.add(plan, row, position)

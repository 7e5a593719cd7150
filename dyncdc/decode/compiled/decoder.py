"""Chunks into blocks by the compiled reader, in place of the exact decoders: the same blocks, counts and dead letters.

Records that are odd, tables that the reader does not know and whatever cannot be read there go through the exact
decoder, one record at a time, and take their places among the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

import orjson

from dyncdc.decode.decoder import SUB_BATCH_ROWS, SnapshotDecoder, StreamDecoder, SubBatch
from dyncdc.decode.envelope import MAX_VERSION
from dyncdc.decode.history_rows import HistoryPlan, is_sequence_number
from dyncdc.decode.table_plan import TablePlan
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, RawChunk
from dyncdc.native._rows import Reader
from dyncdc.schema.table_spec import SEQUENCE_BITS

from .fallback import Fallback, ReferenceRecord, ReferenceRecords
from .layout import CompiledTable, Told


class Compiled:
    """The reader of some plans, and which of them it knows. Recreated when a plan is exchanged."""

    def __init__(self, plans: Sequence[TablePlan]) -> None:
        self.plans = tuple(plans)
        self.tables = tuple(found for plan in plans if (found := compile_table(plan)) is not None)
        self.index = {table.plan.source_table: number for number, table in enumerate(self.tables)}
        self.reader = Reader(tuple(table.told for table in self.tables))

    def is_of(self, plans: Sequence[TablePlan]) -> bool:
        """Whether it was made for exactly these plans."""
        return len(plans) == len(self.plans) and all(map(lambda one, other: one is other, plans, self.plans))

    def read(
        self, records: list[bytes], version: int, singles: ReferenceRecords, others: dict[str, list[int]]
    ) -> list[Told]:
        """Read a sub-batch. ``version``: microseconds of a snapshot's rows; 0 for change records."""
        odd = Fallback(self.tables, levels=2 if version else 1)
        opens = tuple(table.open for table in self.tables)

        def exact(number: int) -> tuple[int, list[bytes], bytes, int] | None:
            odd.report(refused=number)
            single = singles(number)
            if single.row is None or single.table not in self.index:
                return None
            return self.index[single.table], list(map(bytes, single.row.cells)), single.row.key, single.microseconds

        found = self.reader.read(records, version, opens, odd, exact, others)
        odd.report()
        return found


def compile_table(plan: TablePlan) -> CompiledTable | None:
    """Compile one table, None where only the reference path will do."""
    try:
        return CompiledTable(plan)
    except ValueError:
        return None


class _SubBatch:
    """One sub-batch on its way into blocks."""

    def __init__(self, batch: SubBatch, positions: Sequence[Position], singles: ReferenceRecords) -> None:
        self.batch = batch
        self._positions = positions
        self._singles = singles
        self._blocks: list[tuple[int, Block]] = []
        self._changes: list[tuple[int, HistoryPlan, list[bytes]]] = []

    def add(self, table: CompiledTable, told: Told, version: int = 0) -> None:
        """Add what was read of one table. ``version``: of a snapshot's rows; 0: that of their times."""
        _, cells, keys, times, numbers, spilled, outside, _ = told
        plan, singles = table.plan, self._singles.found
        positions = self._positions
        if len(numbers) != len(positions):
            positions = [positions[number] for number in numbers]
        if version:
            versions = [version] * len(numbers)
        elif plan.wide_version:
            versions = [time << SEQUENCE_BITS | int(place) for time, place in zip(times, positions, strict=True)]
        else:
            versions = times
        for row, number in enumerate(numbers) if singles else ():
            single = singles.get(number)
            if single is not None and single.row is not None:
                versions[row] = single.row.version
                spilled += single.row.spilled
                outside += single.row.outside
        cells[plan.columns.index(plan.spec.version_column)] = (
            b",".join([b'"%d"' % each for each in versions]) if plan.wide_version else orjson.dumps(versions)[1:-1]
        )
        block = Block(plan.destination, plan.columns, cells, len(numbers), keys, versions, optional=plan.optional)
        block.positions = orjson.dumps(positions)[1:-1]
        if not version:
            late = [single.microseconds for single in singles.values() if single.table == plan.source_table]
            block.created = max([*late, max(times)]) / 1_000_000
        self._blocks.append((numbers[0], block))
        decoded = self.batch.decoded
        decoded.records[plan.source_table] = len(numbers)
        if plan.history is not None:
            self._keep_changes(plan.history, told)
        if spilled:
            decoded.spilled[plan.source_table] = spilled
        if outside:
            decoded.outside[plan.source_table] = outside

    def _keep_changes(self, history: HistoryPlan, told: Told) -> None:
        """Make the rows of a table's history, those of the reference path apart."""
        _, _, _, times, numbers, *_, changes = told
        shard, positions = self.batch.shard, self._positions
        for change, microseconds, number in zip(changes, times, numbers, strict=True):
            if change is None:
                continue
            keys, event, deleted_by, old, new, event_id = change
            if event is None:
                row = history.base_row(keys, new, microseconds, shard.source, shard.id)
            else:
                position = positions[number]
                row = history.row(keys, event, microseconds, deleted_by, old, new, position, shard.id, event_id)
            self._changes.append((number, history, row))

    def count_without_row(self, numbers: set[int]) -> None:
        """Count the records that took the reference path and have no row; ``numbers``: those that have one."""
        for number, single in self._singles.found.items():
            if number not in numbers:
                self.batch.count(single.table)

    def close(self) -> Decoded:
        """Return the whole: blocks in the order of their first rows; those of the reference path follow."""
        self.batch.decoded.blocks += [block for _, block in sorted(self._blocks, key=itemgetter(0))]
        changes = self._changes
        changes += [(number, *one.change[:2]) for number, one in self._singles.found.items() if one.change is not None]
        for number, history, row in sorted(changes, key=itemgetter(0)):
            self.batch.append(history, row, self._positions[number])
        return self.batch.close()


class CompiledStreamDecoder(StreamDecoder):
    """``StreamDecoder``, faster."""

    def __init__(self, plans: Mapping[str, TablePlan], *, pipeline: str) -> None:
        super().__init__(plans, pipeline=pipeline)
        self._compiled = Compiled(())

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            yield self._sub_batch(chunk, slice(start, start + SUB_BATCH_ROWS))

    def _sub_batch(self, chunk: RawChunk, part: slice) -> Decoded:
        records, positions = list(chunk.records[part]), list(chunk.positions[part])
        plans = tuple(self._plans.values())
        if not self._compiled.is_of(plans):
            self._compiled = Compiled(plans)
        compiled = self._compiled
        batch = SubBatch(self._pipeline, chunk)
        if not _positions_suit(plans, positions):
            for number, record in enumerate(records):
                self._decode_record(record, positions[number], batch)
            return batch.close()
        singles = ReferenceRecords(
            lambda number, single: self._decode_record(records[number], positions[number], single),
            self._pipeline,
            chunk,
        )
        others: dict[str, list[int]] = {}
        read = compiled.read(records, 0, singles, others)
        sub_batch = _SubBatch(batch, positions, singles)
        for told in read:
            sub_batch.add(compiled.tables[told[0]], told)
        self._exactly(others, singles, batch)
        self._count_others(sub_batch, read, others, singles)
        self._add_dead_letters(batch, len(records), others, singles)
        return sub_batch.close()

    def _exactly(self, others: Mapping[str, list[int]], singles: ReferenceRecords, batch: SubBatch) -> None:
        """Send the records of tables that the reader does not know down the reference path, in their order."""
        slow = [number for table, numbers in others.items() if table in self._plans for number in numbers]
        index = self._compiled.index
        slow += [n for n, one in singles.found.items() if one.table in self._plans and one.table not in index]
        for number in sorted(slow):
            singles(number).hand_over(batch)

    def _count_others(
        self, sub_batch: _SubBatch, read: Sequence[Told], others: Mapping[str, list[int]], singles: ReferenceRecords
    ) -> None:
        counted = {number for told in read for number in told[4]} if singles.found else set()
        for table, numbers in others.items():
            if table not in self._plans:
                sub_batch.batch.decoded.records[table] = len(numbers)
        sub_batch.count_without_row(counted)

    def _add_dead_letters(
        self, batch: SubBatch, records: int, others: Mapping[str, list[int]], singles: ReferenceRecords
    ) -> None:
        """Hand over the dead letters, each with its place among the records that had to become rows."""
        without_plan = [number for table, numbers in others.items() if table not in self._plans for number in numbers]
        without_plan += [n for n, one in singles.found.items() if one.table and one.table not in self._plans]
        _add_dead_letters(batch, records, without_plan, singles.found)


class CompiledSnapshotDecoder(SnapshotDecoder):
    """``SnapshotDecoder``, faster."""

    def __init__(self, plan: TablePlan, version: int, *, pipeline: str) -> None:
        super().__init__(plan, version, pipeline=pipeline)
        self._compiled = Compiled(())

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield what became of each sub-batch."""
        for start in range(0, len(chunk.records), SUB_BATCH_ROWS):
            yield self._sub_batch(chunk, slice(start, start + SUB_BATCH_ROWS))

    def _sub_batch(self, chunk: RawChunk, part: slice) -> Decoded:
        lines, positions = list(chunk.records[part]), list(chunk.positions[part])
        if not self._compiled.is_of((self.plan,)):
            self._compiled = Compiled((self.plan,))
        compiled = self._compiled
        batch = SubBatch(self._pipeline, chunk)
        batch.decoded.snapshot = True
        if not compiled.tables or not 0 < self._microseconds < MAX_VERSION:
            for number, line in enumerate(lines):
                self._decode_line(line, positions[number], batch)
            return batch.close()
        singles = ReferenceRecords(
            lambda number, single: self._decode_line(lines[number], positions[number], single), self._pipeline, chunk
        )
        sub_batch, counted = _SubBatch(batch, positions, singles), set[int]()
        for told in compiled.read(lines, self._microseconds, singles, {}):
            counted.update(told[4])
            sub_batch.add(compiled.tables[0], told, self._version)
        sub_batch.count_without_row(counted)
        _add_dead_letters(batch, len(lines), (), singles.found)
        return sub_batch.close()


def _positions_suit(plans: Iterable[TablePlan], positions: Iterable[Position]) -> bool:
    """Whether all positions are such as the tables take: what is wrong with one is for the reference path to say."""
    if any(plan.wide_version for plan in plans):
        return all(map(_is_sequence_number, positions))
    return not any(plan.history for plan in plans) or all(map(is_sequence_number, positions))


def _is_sequence_number(position: Position) -> bool:
    """As ``TablePlan.version`` sees it; longer ones are not even looked at."""
    return is_sequence_number(position) and int(position) >> SEQUENCE_BITS == 0


def _add_dead_letters(
    batch: SubBatch, records: int, without_plan: Sequence[int], singles: Mapping[int, ReferenceRecord]
) -> None:
    for number, single in sorted(singles.items()) if singles else ():
        if single.rejection is not None:
            batch.decoded.judged = number + 1 - sum(other <= number for other in without_plan)
            batch.reject(*single.rejection)
    batch.decoded.judged = records - len(without_plan)

"""``dyncdc dead-letters replay``: records become rows after all, by the present mapping and at their original version.

A record's version comes from the record, a snapshot line's from its snapshot, so rows that are newer keep winning.
Where a row of the same version stands already, no one can tell which is newer: the item itself is read again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson

from dyncdc.app.assembly.prepared_tables import run_statements
from dyncdc.app.assembly.table_plans import plan_table
from dyncdc.app.context import AppContext
from dyncdc.config import Config
from dyncdc.decode.dead_letters.kept_rows import is_kept_row, row_of_raw
from dyncdc.decode.dead_letters.redacted_records import is_withheld, masked_paths
from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE, first_error
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder, block_of, tables_of
from dyncdc.decode.envelope import read_change, read_export_line
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.errors import ConfigError, RefusedError, RejectedRowsError
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.writing.batch import join
from dyncdc.schema.redaction import Path
from dyncdc.schema.table_spec import SEQUENCE_BITS
from dyncdc.schema.types.dynamodb_values import Item, canonical
from dyncdc.schema.types.encodings import dump_cells
from dyncdc.schema.types.reject_reasons import LIMIT_REACHED, UndecodableRecord
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters, StoredDeadLetter
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.tables.tombstones import cleaned_before

from .version_ties import tied_rows

RECORDS_AT_ONCE = 50
"""Records in memory at a time: of the largest kind some 1.4 MB each."""


@dataclass(slots=True)
class Replayed:
    """What came of it. ``failed``: why, by the id of the dead letter; those stay open."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class _CannotReplay(Exception):
    """Why one dead letter stays."""


@dataclass(slots=True)
class _Pending:
    """A dead letter that decodes now. ``block`` has its one row, or is None where there is nothing to write."""

    dead_letter: StoredDeadLetter
    plan: TablePlan
    block: Block | None
    key: Item | None
    """DynamoDB's key, None where the record is gone and only its row was kept."""
    history: Block | None = None
    """The row of its history, which has no ties: a change that is there already replaces itself."""
    kept: bool = False
    """A TTL delete that leaves the item in the table: that it is gone from DynamoDB takes nothing back."""


_Row = tuple[_Pending, Block]
"""A dead letter, and a block of one row that it becomes."""


async def replay_dead_letters(context: AppContext, dead_letters: Sequence[StoredDeadLetter]) -> Replayed:
    """Replay dead letters in the order in which their records were delivered. Raises ConfigError, FatalError."""
    replay = await _Replay.prepare(context)
    ordered = sorted(dead_letters, key=lambda each: (each.source, each.shard, len(each.position), each.position))
    for first in range(0, len(ordered), RECORDS_AT_ONCE):
        await replay.some([dead_letter.id for dead_letter in ordered[first : first + RECORDS_AT_ONCE]])
    return replay.result


class _Replay:
    def __init__(
        self,
        context: AppContext,
        plans: Mapping[str, TablePlan],
        snapshots: Mapping[str, Snapshot],
        cleaned: Mapping[str, int],
    ) -> None:
        self._context = context
        self._plans = plans
        self._snapshots = snapshots
        self._store = ClickHouseDeadLetters(context.clickhouse, context.config.pipeline)
        self._sink = ClickHouseSink(context.clickhouse)
        self._token = f"{context.config.pipeline}/replay/{uuid.uuid4().hex}"
        self._cleaned = cleaned
        """Below which version tables have no tombstones any more; those whose tombstones stay are not in it."""
        self._statements = 0
        self.result = Replayed()

    @classmethod
    async def prepare(cls, context: AppContext) -> _Replay:
        """Read the present mapping of every table, and every snapshot's version. Raises ConfigError."""
        plans: dict[str, TablePlan] = {}
        cleaned: dict[str, int] = {}
        for table in context.config.tables:
            planned = await plan_table(context, table)
            refusal = planned.incompatibility()
            if refusal is not None:
                raise refusal
            if planned.existing is not None:
                before = await context.retry(partial(cleaned_before, context.clickhouse, planned.existing.uuid))
                if before or table.clean_tombstones:
                    cleaned[table.dynamodb] = before
                # A view that is older than an ALTER would show what is replayed wrapped into the old types.
                await run_statements(context, planned.statements)
                plans[table.dynamodb] = compile_table(planned.spec)
        snapshots = await context.retry(ClickHouseSnapshots(context.clickhouse, context.config.pipeline).load)
        return cls(context, plans, {snapshot.id: snapshot for snapshot in snapshots}, cleaned)

    async def some(self, ids: Sequence[str]) -> None:
        """Replay some dead letters: first the rows are durable, then their dead letters are closed."""
        dead_letters = await self._context.retry(lambda: self._store.find(ids=ids, only_open=False, with_raw=True))
        by_id = {dead_letter.id: dead_letter for dead_letter in dead_letters}
        pending = []
        for dead_letter in (by_id[each] for each in ids if each in by_id):
            try:
                pending.append(self._decode(dead_letter))
            except _CannotReplay as why:
                self.result.failed[dead_letter.id] = str(why)
        await self._settle_ties(pending)
        written = [each for each in pending if each.dead_letter.id not in self.result.failed]
        rows = [(each, block) for each in written for block in (each.block, each.history) if block is not None]
        for group in _by_statement(rows):
            await self._insert(group)
        done = [each.dead_letter.id for each in written if each.dead_letter.id not in self.result.failed]
        await self._context.retry(lambda: self._store.close(done))
        self.result.done += done

    def _decode(self, dead_letter: StoredDeadLetter) -> _Pending:
        raw = dead_letter.raw or b""
        if dead_letter.reason == LIMIT_REACHED:
            raise _CannotReplay("it stands for the daemon's stop: fix the cause, raise the limit, or drop it")
        if dead_letter.reason.startswith("refused") and is_kept_row(raw):
            return self._kept_row(dead_letter, raw)
        if is_withheld(raw):
            raise _CannotReplay(
                "its record was not kept, as what its table leaves out or masks could not be found in it"
            )
        decoder, is_snapshot = self._decoder(dead_letter, masked_paths(raw))
        shard = Shard(SourceId(dead_letter.source), ShardId(dead_letter.shard))
        position = Position(dead_letter.position)
        (decoded,) = decoder.decode(RawChunk(shard, [raw], [position], position, len(raw), 0.0))
        blocks = {block.table: block for block in decoded.blocks}
        if DEAD_LETTER_TABLE in blocks:
            found = decoded.dead_letters[0]
            column = f" in column {found.column}" if found.column else ""
            raise _CannotReplay(f"{found.reason}{column}: {first_error(blocks[DEAD_LETTER_TABLE])}")
        (table,) = decoded.records
        plan = self._plans.get(table)
        if plan is None:
            raise _CannotReplay(f"the configuration has no table {table}, or ClickHouse not its destination")
        change = None if is_snapshot else read_change(raw)
        image = read_export_line(raw) if change is None else change.keys
        key = {name.name: canonical(image[name.name]) for name in plan.spec.keys}
        kept = plan.keeps_expired and change is not None and change.event_name == "REMOVE" and change.by_ttl
        return _Pending(dead_letter, plan, blocks.get(plan.destination), key, blocks.get(plan.spec.history), kept)

    def _decoder(self, dead_letter: StoredDeadLetter, masked: Sequence[Path]) -> tuple[Decoder, bool]:
        """The decoder of a dead letter's source, and whether that was a snapshot. ``masked``: already in it."""
        plans = {table: plan.of_masked(masked) for table, plan in self._plans.items()} if masked else self._plans
        pipeline = self._context.config.pipeline
        snapshot = self._snapshots.get(dead_letter.source)
        if snapshot is None:
            if not dead_letter.source.startswith("arn:"):
                raise _CannotReplay("its snapshot is not known any more, and with it the version")
            return StreamDecoder(plans, pipeline=pipeline), False
        plan = plans.get(snapshot.table)
        if plan is None:
            raise _CannotReplay(f"the configuration has no table {snapshot.table}, or ClickHouse not its destination")
        return SnapshotDecoder(plan, snapshot.version, pipeline=pipeline), True

    def _kept_row(self, dead_letter: StoredDeadLetter, raw: bytes) -> _Pending:
        """A row that was kept instead of its record: it goes where it was to go, as it was."""
        destination, columns = row_of_raw(raw)
        plan = self._plans.get(dead_letter.table)
        if plan is None or destination not in tables_of(plan):
            raise _CannotReplay(f"the row is for {destination}, which is no destination of the configuration any more")
        cells = [dump_cells([value]) for value in columns.values()]
        if destination == plan.spec.history:
            return _Pending(dead_letter, plan, None, None, Block(destination, tuple(columns), cells, 1))
        version = int(str(columns[plan.spec.version_column]))
        optional = tuple(name for name in plan.optional if name in columns)
        block = Block(plan.destination, tuple(columns), cells, 1, versions=[version], optional=optional)
        return _Pending(dead_letter, plan, block, None)

    async def _settle_ties(self, pending: Sequence[_Pending]) -> None:
        """Write the item as it is now where a row of the same version stands, or where the delete of it may be gone."""
        for plan in {id(each.plan): each.plan for each in pending}.values():
            mine = [each for each in pending if each.plan is plan and each.block is not None]
            blocks = [each.block for each in mine if each.block is not None and not plan.wide_version]
            tied = await self._context.retry(lambda: tied_rows(self._context.clickhouse, plan.spec, blocks))  # noqa: B023
            settled = {number: "a row of the same version stands already" for number in tied}
            for number, each in enumerate(mine):
                if self._outdated(each):
                    settled[number] = "it is older than the tombstones that were cleaned up"
            for number, why in settled.items():
                if mine[number].key is None:
                    verify = "`dyncdc verify` tells whether the item differs"
                    self.result.failed[mine[number].dead_letter.id] = f"{why}, and the record is gone: {verify}"
            await self._read_items([mine[number] for number in sorted(settled) if mine[number].key is not None])

    def _outdated(self, each: _Pending) -> bool:
        """Whether a newer delete of the item may have left nothing behind. None does while a dead letter is open."""
        cleaned = self._cleaned.get(each.plan.source_table)
        if cleaned is None or each.block is None:
            return False
        version = each.block.versions[0] >> (SEQUENCE_BITS if each.plan.wide_version else 0)
        return version < cleaned or each.dead_letter.replayed_at is not None

    async def _read_items(self, tied: Sequence[_Pending]) -> None:
        if not tied:
            return
        plan = tied[0].plan
        keys = {_text(each.key): each.key for each in tied if each.key is not None}
        found = await self._context.retry(
            lambda: self._context.tables.get_items(plan.source_table, list(keys.values()))
        )
        items: dict[bytes, Item] = {}
        for item in found:
            items[_text({name.name: canonical(item[name.name]) for name in plan.spec.keys})] = item
        for each in tied:
            if each.key is None or each.block is None:
                continue
            now, version = items.get(_text(each.key)), each.block.versions[0]
            try:
                if now is not None:
                    each.block = block_of(plan, [plan.upsert(now, version)])
                elif not each.kept:
                    each.block = block_of(plan, [plan.tombstone(each.key, version)]) if plan.keeps_deletes else None
            except UndecodableRecord as why:
                self.result.failed[each.dead_letter.id] = f"the item, read again because of a tie: {why.detail}"

    async def _insert(self, group: Sequence[_Row]) -> None:
        """Insert rows of one table, halving until those that are refused stand alone."""
        block = join([block for _, block in group])
        self._statements += 1
        token = f"{self._token}/{self._statements}"

        async def insert() -> None:
            try:
                await self._sink.insert(block, token)
            except RefusedError as error:  # whatever it is about: the dead letters stay open, and say so
                raise RejectedRowsError(str(error), hint=error.hint) from error

        try:
            await self._context.retry(insert)
        except RejectedRowsError as error:
            if len(group) == 1:
                self.result.failed[group[0][0].dead_letter.id] = str(error)
                return
            middle = len(group) // 2
            await self._insert(group[:middle])
            await self._insert(group[middle:])


def _text(key: Item) -> bytes:
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS)


def _by_statement(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Rows that go into one statement: of one table and the same columns, in their order."""
    groups: dict[tuple[str, tuple[str, ...]], list[_Row]] = {}
    for pending, block in rows:
        groups.setdefault((block.table, block.columns), []).append((pending, block))
    yield from groups.values()


def check_table(config: Config, table: str | None) -> None:
    """Refuse a table that the configuration does not have. Raises ConfigError."""
    names = [each.dynamodb for each in config.tables]
    if table is not None and table not in names:
        raise ConfigError(
            f"replaying dead letters of {table}: the configuration has no such table", hint=f"it has {', '.join(names)}"
        )

"""Bugs that change-data pipelines really had, planted one at a time: the simulation must notice each.

A mutant replaces one method of the code under test. Where it copies a body, the copy holds nothing but the bug.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dyncdc.errors import RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId
from dyncdc.pipeline.budget import ByteBudget, Reservation
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.ledger import Receipt, ShardLedger
from dyncdc.pipeline.ports.orphan_rows import Swept
from dyncdc.pipeline.reading import shard_release
from dyncdc.pipeline.reading.completeness import Completeness
from dyncdc.pipeline.reading.reader_pool import ReaderPool
from dyncdc.pipeline.reading.shard.chunk_handover import ChunkHandover
from dyncdc.pipeline.reading.shard_listing import ShardListing
from dyncdc.pipeline.reading.shard_release import ShardRelease
from dyncdc.pipeline.session.coordinator import Coordinator
from dyncdc.pipeline.snapshot.export import SnapshotExport
from dyncdc.pipeline.snapshot.load import SnapshotLoad
from dyncdc.pipeline.snapshot.loader import SnapshotLoader
from dyncdc.pipeline.snapshot.sweep import SnapshotSweep
from dyncdc.pipeline.writing import batch, statements
from dyncdc.pipeline.writing.inserts import Inserts
from dyncdc.pipeline.writing.open_batch import OpenBatches, Part
from dyncdc.pipeline.writing.statements import StatementWriter
from dyncdc.pipeline.writing.writer import Writer
from simulation.fakes.aws import FakeStream
from simulation.fakes.clickhouse import ClickHouse, SinkClient
from simulation.fakes.orphan_rows import OrphanRowsClient
from simulation.fakes.watermarks import WatermarksClient
from simulation.world import ShardLog

_numbers = itertools.count()

Plant = Callable[[pytest.MonkeyPatch], None]


def highest_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """The frontier jumps to the newest durable chunk, over chunks that are not."""

    def advance(self: ShardLedger) -> None:
        settled = [receipt for receipt in self._open if receipt.settled]
        if settled:
            self.frontier = settled[-1].mark
        while self._open and self._open[0].settled:
            self._open.popleft()
        if self.frontier.finished:
            self._on_finished()

    patch.setattr(ShardLedger, "advance", advance)


def last_answer_dropped(patch: pytest.MonkeyPatch) -> None:
    """The records that come with the end of a shard are thrown away."""
    original = ChunkHandover.hand_over

    def hand_over(
        self: ChunkHandover, chunk: RawChunk, blocks: list[Block], reservation: Reservation, *, whole: bool
    ) -> None:
        original(self, chunk, [] if chunk.closed else blocks, reservation, whole=whole)

    patch.setattr(ChunkHandover, "hand_over", hand_over)


def checkpoint_at_read_time(patch: pytest.MonkeyPatch) -> None:
    """What has been read counts as durable."""
    original = ShardLedger.track

    def track(self: ShardLedger, mark: Mark, parts: int, *callbacks: Callable[..., None], **how: bool) -> Receipt:
        receipt = original(self, mark, parts, *callbacks, **how)
        self.frontier = mark
        return receipt

    patch.setattr(ShardLedger, "track", track)


def children_at_latest(patch: pytest.MonkeyPatch) -> None:
    """Children are read from the moment at which someone gets to them."""
    original = ReaderPool.follow

    def follow(self: ReaderPool, shard: Shard, start: Mark) -> None:
        late = bool(shard.parents) and start.position == "TRIM_HORIZON"
        original(self, shard, replace(start, position=Position("LATEST")) if late else start)

    patch.setattr(ReaderPool, "follow", follow)


def closed_shards_never_listed(patch: pytest.MonkeyPatch) -> None:
    """Shards that take no more records are not shown, though they hold some."""
    original = FakeStream._visible

    def visible(self: FakeStream) -> list[ShardLog]:
        now = asyncio.get_running_loop().time()
        return [log for log in original(self) if log.closed > now]

    patch.setattr(FakeStream, "_visible", visible)


def bookkeeping_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """The checkpointer believes that a save has worked before it has."""

    async def save(self: Checkpointer) -> None:
        now = asyncio.get_running_loop().time()
        dirty = [
            (ledger, ledger.frontier) for ledger in self.progress.ledgers.values() if self._schedule.is_due(ledger, now)
        ]
        if not dirty:
            return
        self._ordinal += 1
        rows = self._rows(dirty)
        for ledger, mark in dirty:
            self._settle(ledger, mark, now)
        self.progress.notify_saved()
        await self._store.save(rows)

    patch.setattr(Checkpointer, "save", save)


def grant_lost_on_cancel(patch: pytest.MonkeyPatch) -> None:
    """Who is cancelled while it waits for the budget is granted its bytes all the same."""

    async def reserve(self: ByteBudget, nbytes: int) -> Reservation:
        nbytes = min(nbytes, self.capacity_bytes)
        if self._waiters or not self._fits(nbytes):
            loop = asyncio.get_running_loop()
            granted: asyncio.Future[None] = loop.create_future()
            self._waiters.append((nbytes, loop.time(), granted))
            self._on_wait()
            await granted
        else:
            self._take(nbytes)
        return Reservation(self, nbytes)

    def wake(self: ByteBudget) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            nbytes, _, granted = self._waiters.popleft()
            self._take(nbytes)
            if not granted.done():
                granted.set_result(None)

    patch.setattr(ByteBudget, "reserve", reserve)
    patch.setattr(ByteBudget, "_wake", wake)


def insert_error_swallowed(patch: pytest.MonkeyPatch) -> None:
    """An insert that fails is logged, and its rows are acknowledged."""

    async def insert(self: Inserts, block: Block, token: str, task: object, **options: Any) -> None:
        try:
            async with self._slots.hold(block.table):
                await self._sink.insert(block, token)
        except RetryableError:
            pass

    patch.setattr(Inserts, "insert", insert)


def children_beside_their_parents(patch: pytest.MonkeyPatch) -> None:
    """Shards are read as soon as they are known."""

    def ready(
        listed: Mapping[ShardId, Shard], finished: Collection[ShardId], running: Collection[ShardId], *, complete: bool
    ) -> list[Shard]:
        return [shard for shard in listed.values() if shard.id not in finished and shard.id not in running]

    patch.setattr(shard_release, "ready", ready)


def one_merge_parent_awaited(patch: pytest.MonkeyPatch) -> None:
    """The child of a merge follows the first of its parents that is finished."""

    def ready(
        listed: Mapping[ShardId, Shard], finished: Collection[ShardId], running: Collection[ShardId], *, complete: bool
    ) -> list[Shard]:
        def free(parent: ShardId) -> bool:
            return parent in finished or (complete and parent not in listed)

        return [
            shard
            for shard in listed.values()
            if shard.id not in finished
            and shard.id not in running
            and (not shard.parents or any(map(free, shard.parents)))
        ]

    patch.setattr(shard_release, "ready", ready)


def old_list_counts_forever(patch: pytest.MonkeyPatch) -> None:
    """A parent that was not there when the list was made counts as expired."""

    def complete(self: ShardListing) -> bool:
        return bool(vars(self).get("once_complete"))

    def set_complete(self: ShardListing, value: bool) -> None:
        vars(self)["once_complete"] = value or complete(self)

    def name_child(self: ShardRelease, child: Shard, read_until: float) -> None:
        self._listing.shards.setdefault(child.id, child)
        self._readers.follow(child, Mark(HORIZON, read_until))

    patch.setattr(ShardListing, "complete", property(complete, set_complete), raising=False)
    patch.setattr(ShardRelease, "_name_child", name_child)


def ended_shard_read_again(patch: pytest.MonkeyPatch) -> None:
    """A shard that was read to its end starts over until that is persisted."""
    original = ShardRelease._ended

    def ended(self: ShardRelease, last: RawChunk | None) -> None:
        original(self, last)
        self._listing.read.clear()

    patch.setattr(ShardRelease, "_ended", ended)


def acknowledged_after_the_first_block(patch: pytest.MonkeyPatch) -> None:
    """A chunk counts as durable when its first block is."""
    track, ack = ShardLedger.track, Receipt.ack

    def track_one(self: ShardLedger, mark: Mark, parts: int, *callbacks: Callable[..., None], **how: bool) -> Receipt:
        return track(self, mark, min(parts, 1), *callbacks, **how)

    def ack_once(self: Receipt, nbytes: int) -> None:
        if not self.settled:
            ack(self, nbytes)

    patch.setattr(ShardLedger, "track", track_one)
    patch.setattr(Receipt, "ack", ack_once)


def never_old_enough(patch: pytest.MonkeyPatch) -> None:
    """Batches are flushed when they are full, and not before."""

    def due(self: OpenBatches, now: float, *, draining: bool, fetching: int) -> list[str]:
        limits = self._limits
        return [
            name
            for name, open_batch in self._open.items()
            if name not in self._flushing
            and (draining or open_batch.rows >= limits.max_rows or open_batch.nbytes >= limits.max_bytes)
        ]

    patch.setattr(OpenBatches, "_due", due)
    patch.setattr(OpenBatches, "pause_seconds", lambda self, now: None)


def saved_before_the_insert(patch: pytest.MonkeyPatch) -> None:
    """A block is acknowledged when it is put into a batch."""
    original, ack = Writer.put, Receipt.ack

    def put(self: Writer, block: Block, receipt: Receipt, read_at: float | None = None) -> None:
        original(self, block, receipt, read_at)
        ack(receipt)

    patch.setattr(Writer, "put", put)
    patch.setattr(Receipt, "ack", lambda self, nbytes: None)


def snapshot_at_export_time(patch: pytest.MonkeyPatch) -> None:
    """Snapshot rows carry the export's time, which is fuzzy, without the margin."""
    original = SnapshotExport.__init__

    def init(self: SnapshotExport, *arguments: Any) -> None:
        original(self, *arguments)
        self._plan = replace(self._plan, margin_seconds=0.0)

    patch.setattr(SnapshotExport, "__init__", init)


def ties_turned(patch: pytest.MonkeyPatch) -> None:
    """Of two rows of a key with one version, the first in a batch survives."""

    def collapse(blocks: Sequence[Block]) -> list[Block]:
        best: dict[bytes, tuple[int, int, int]] = {}
        for number, block in enumerate(blocks):
            for row, (key, version) in enumerate(zip(block.keys, block.versions, strict=True)):
                if key not in best or version > best[key][0]:
                    best[key] = (version, number, row)
        keep = [sorted(row for _, n, row in best.values() if n == number) for number in range(len(blocks))]
        return [
            batch.take(block, rows) if block.keys else block
            for block, rows in zip(blocks, keep, strict=True)
            if rows or not block.keys
        ]

    patch.setattr(statements, "collapse", collapse)


def complete_before_the_last_file(patch: pytest.MonkeyPatch) -> None:
    """A snapshot ends when all its files but one are durable."""
    original = SnapshotLoad._files

    async def files(self: SnapshotLoad, source: Any) -> dict[ShardId, Shard]:
        found = await original(self, source)
        found.popitem()
        return found

    patch.setattr(SnapshotLoad, "_files", files)


def finished_not_sticky(patch: pytest.MonkeyPatch) -> None:
    """The newest row of a shard counts, though an older one says that it is finished."""

    def winners(self: ClickHouse) -> dict[tuple[Any, Any], Any]:
        rows = sorted(self.checkpoints, key=lambda row: (row.epoch, row.ordinal))
        return {(row.source, row.shard): row for row in rows}

    patch.setattr(ClickHouse, "winners", winners)


def token_used_again(patch: pytest.MonkeyPatch) -> None:
    """Every block of a session has the same deduplication token."""
    patch.setattr(StatementWriter, "_ordinal", property(lambda self: 1, lambda self, value: None), raising=False)


def token_new_for_each_attempt(patch: pytest.MonkeyPatch) -> None:
    """A retry looks like another block, so an attempt that lands late undoes what came after it."""
    original = SinkClient.insert

    async def insert(self: SinkClient, block: Block, token: str, **options: Any) -> None:
        await original(self, block, f"{token}/{next(_numbers)}", **options)

    patch.setattr(SinkClient, "insert", insert)


def epoch_used_again(patch: pytest.MonkeyPatch) -> None:
    """Every session counts its checkpoints from the same epoch."""
    original = Checkpointer.load

    async def load(self: Checkpointer) -> None:
        await original(self)
        self.ownership.epoch = 1

    patch.setattr(Checkpointer, "load", load)


def good_rows_split_away(patch: pytest.MonkeyPatch) -> None:
    """When a row is refused, the rows that it had replaced are gone."""
    original = StatementWriter._write

    async def write(self: StatementWriter, own: Any, parts: Sequence[Part], token: str, task: Any) -> None:
        receipt = parts[-1][1]
        kept = [(block, receipt) for block in batch.collapse([block for block, _ in parts])]
        await original(self, own, kept, token, task)

    patch.setattr(StatementWriter, "_write", write)


def refused_rows_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Rows that ClickHouse refuses are counted and skipped."""
    original = Inserts.insert

    async def insert(self: Inserts, block: Block, token: str, task: Any, **options: Any) -> None:
        try:
            await original(self, block, token, task, **options)
        except RejectedRowsError:
            if block.rows > 1:
                raise

    patch.setattr(Inserts, "insert", insert)


def once_ends_without_the_tip(patch: pytest.MonkeyPatch) -> None:
    """``--once`` does not wait until the shards are read."""
    patch.setattr(Coordinator, "_at_tip", lambda self, stream_reader, begun, instant: True)


def orphan_rows_before_the_last_file(patch: pytest.MonkeyPatch) -> None:
    """What a later snapshot has not shown yet counts as deleted while its files are still read."""
    original = SnapshotLoader._load_files

    async def load(self: SnapshotLoader, snapshot: Any, task: Any) -> bool:
        if snapshot.had_rows:
            await self._sweep.run(snapshot, task, lambda: False)
        return await original(self, snapshot, task)

    patch.setattr(SnapshotLoader, "_load_files", load)


def orphan_rows_left(patch: pytest.MonkeyPatch) -> None:
    """A later snapshot ends without a look at what it does not hold."""

    async def run(self: SnapshotSweep, snapshot: Any, task: Any, superseded: Any) -> bool:
        return True

    patch.setattr(SnapshotSweep, "run", run)


def swept_one_range_only(patch: pytest.MonkeyPatch) -> None:
    """The sweep ends after its first range of keys."""
    original = OrphanRowsClient.sweep

    async def sweep(self: OrphanRowsClient, table: str, version: int, after: tuple[str, ...]) -> Swept:
        return replace(await original(self, table, version, after), upto=None)

    patch.setattr(OrphanRowsClient, "sweep", sweep)


def old_epoch_wins(patch: pytest.MonkeyPatch) -> None:
    """Of a shard's rows the one of the oldest process counts."""

    def winners(self: ClickHouse) -> dict[tuple[Any, Any], Any]:
        rows = sorted(self.checkpoints, key=lambda row: (row.mark.finished, -row.epoch, row.ordinal))
        return {(row.source, row.shard): row for row in rows}

    patch.setattr(ClickHouse, "winners", winners)


def finished_during_a_save_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A shard that ends while checkpoints are saved waits for the next interval."""
    original = Checkpointer.save

    async def save(self: Checkpointer) -> None:
        try:
            await original(self)
        finally:
            self.progress.save_wanted.clear()

    patch.setattr(Checkpointer, "save", save)


def nobody_hurries(patch: pytest.MonkeyPatch) -> None:
    """The last records of a shard wait until their batch is old."""
    patch.setattr(Writer, "flush_soon", lambda self, tables: None)


def children_found_by_lists_only(patch: pytest.MonkeyPatch) -> None:
    """The children that a shard's last answer names are left for the next list."""
    original = ShardRelease._ended

    def ended(self: ShardRelease, last: RawChunk | None) -> None:
        original(self, None if last is None else replace(last, children=()))

    patch.setattr(ShardRelease, "_ended", ended)


PAUSES: tuple[Plant, ...] = (finished_during_a_save_forgotten, nobody_hurries, children_found_by_lists_only)
"""Noticed by the time that passes, in quiet sessions: the end state is right."""


def unread_child_ignored(patch: pytest.MonkeyPatch) -> None:
    """A watermark is the least over the shards that say something: a child that no one has read yet says nothing."""

    def complete_until(self: Completeness) -> float | None:
        if not self.held.is_set() or self._listing.listed_at < self._listing.unnamed_at:
            return None
        bounds = [self._durable_until(shard) for shard in self._listing.shards.values() if not self._done(shard.id)]
        return min(filter(None, bounds), default=None)

    patch.setattr(Completeness, "complete_until", complete_until)


def open_letters_complete(patch: pytest.MonkeyPatch) -> None:
    """A change that lies in the dead-letter table counts as if it were in its own."""

    async def open_dead_letters(self: WatermarksClient) -> Collection[Any]:
        return ()

    patch.setattr(WatermarksClient, "open_dead_letters", open_dead_letters)


def watermark_from_what_was_read(patch: pytest.MonkeyPatch) -> None:
    """A watermark says how far the shards are read, durable or not."""

    def durable_until(self: Completeness, shard: Shard) -> float | None:
        shard_reader = self._readers.shard_readers.get((shard.source, shard.id))
        return shard_reader.progress.put_until or None if shard_reader is not None else None

    patch.setattr(Completeness, "_durable_until", durable_until)


ALL: tuple[Plant, ...] = (
    highest_acknowledged,
    last_answer_dropped,
    checkpoint_at_read_time,
    children_at_latest,
    closed_shards_never_listed,
    bookkeeping_before_the_write,
    grant_lost_on_cancel,
    insert_error_swallowed,
    children_beside_their_parents,
    one_merge_parent_awaited,
    old_list_counts_forever,
    ended_shard_read_again,
    acknowledged_after_the_first_block,
    never_old_enough,
    saved_before_the_insert,
    snapshot_at_export_time,
    ties_turned,
    complete_before_the_last_file,
    finished_not_sticky,
    token_used_again,
    token_new_for_each_attempt,
    epoch_used_again,
    good_rows_split_away,
    refused_rows_forgotten,
    once_ends_without_the_tip,
    orphan_rows_before_the_last_file,
    orphan_rows_left,
    swept_one_range_only,
    old_epoch_wins,
    unread_child_ignored,
    open_letters_complete,
    watermark_from_what_was_read,
)

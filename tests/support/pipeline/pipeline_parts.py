"""Small parts to build a pipeline from in tests: a sink, a store and a source that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import replace

import orjson

from dyncdc.model.blocks import Block, DeadLetter, Decoded
from dyncdc.model.checkpoints import Checkpoint, Mark, Past, PastMark, Proof, Rollback, Server
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.recovery.no_recovery import NoRecovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.pipeline.writing.rejected_rows import RejectedRow
from dyncdc.pipeline.writing.rejections import DeadLetterHandling
from dyncdc.pipeline.writing.writer import Writer
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

from .virtual_time import run

SOURCE = SourceId("stream@1")
WIDE = BatchLimits(max_rows=10**6, max_bytes=2**30, max_age_seconds=1.0)


def shard(name: str = "s", *parents: str) -> Shard:
    """Make a shard of the only source."""
    return Shard(SOURCE, ShardId(name), frozenset(ShardId(parent) for parent in parents))


def block(table: str = "t", *rows: tuple[str, int, str], size: int = 0) -> Block:
    """Make a block of rows (key, version, value). ``size``: pad the only row's value to so many bytes."""
    rows = rows or (("k", 1, "x" * size),)
    cells = [
        b",".join(orjson.dumps(value) for value in column) for column in ([r[0] for r in rows], [r[2] for r in rows])
    ]
    return Block(table, ("key", "value"), cells, len(rows), [r[0].encode() for r in rows], [r[1] for r in rows])


def values(found: Block) -> list[tuple[str, str]]:
    """Read a block back as (key, value)."""
    columns = [orjson.loads(b"[" + cells + b"]") for cells in found.cells]
    return list(zip(*columns, strict=True))


class MemorySink:
    """Keeps what it is given. ``answer`` is called first and may wait or raise."""

    def __init__(self, answer: Callable[[Block], Coroutine[object, object, None]] | None = None) -> None:
        self.answer = answer
        self.attempts: list[tuple[str, Block]] = []
        self.inserted: list[Block] = []
        self.in_flight: list[str] = []
        self.most_in_flight = 0

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        self.attempts.append((token, block))
        self.in_flight.append(block.table)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        try:
            if self.answer is not None:
                await self.answer(block)
        finally:
            self.in_flight.remove(block.table)
        self.inserted.append(block)


class MemoryCheckpoints:
    """Keeps rows. ``answer`` is called before a save is applied and may wait or raise."""

    def __init__(self, rows: Sequence[Checkpoint] = ()) -> None:
        self.rows = list(rows)
        self.saves: list[list[Checkpoint]] = []
        self.answer: Callable[[], Coroutine[object, object, None]] | None = None
        self.now = 1_000.0
        self.connects = 1
        self.looks = 0
        """How often someone asked for a proof."""
        self.of = Server("one", 500.0)
        self.past_marks: list[PastMark] = []
        self.noted: list[Rollback] = []
        self.note_answer: Exception | None = None

    async def load(self) -> Sequence[Checkpoint]:
        return list(self.rows)

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        if self.answer is not None:
            await self.answer()
        self.saves.append(list(rows))
        self.rows += [replace(row, saved_at=self.now) for row in rows]

    async def refresh(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        await asyncio.sleep(0)
        return [row for row in self.rows if row.source in sources]

    async def proof(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        await asyncio.sleep(0)
        self.looks += 1
        newest = max((row.epoch for row in self.rows if (row.source, row.shard) in shards), default=0)
        held = last is None or any(
            (row.source, row.shard, row.epoch, row.member) == (last.source, last.shard, last.epoch, last.member)
            and row.ordinal >= last.ordinal
            for row in self.rows
        )
        return Proof(newest, held, self.of.started_at)

    async def server(self) -> Server:
        return self.of

    async def remember(self, marks: Sequence[PastMark]) -> None:
        self.past_marks += [replace(mark, server=self.of.id, saved_at=self.now) for mark in marks]

    async def past(self, server: Server, rows: int) -> Past:
        marks = sorted(self.past_marks, key=lambda mark: (mark.epoch, mark.ordinal))
        before = [mark.saved_at for mark in marks if mark.saved_at < server.started_at or mark.server != server.id]
        return Past(marks, max(before, default=0.0))

    async def note_rollback(self, member: int) -> None:
        if self.note_answer is not None:
            raise self.note_answer
        self.noted.append(Rollback(member, self.now))

    async def rollbacks(self) -> Sequence[Rollback]:
        return list(self.noted)

    async def server_time(self) -> float:
        return self.now


class ScriptedSource:
    """A source whose answers are made by ``answer``; without it every shard is empty and at its tip."""

    id = SOURCE
    label = "stream"
    retention_seconds: float | None = 86_400.0
    pause_seconds = 0.25

    def __init__(self, pages: Sequence[Sequence[Shard]] = ()) -> None:
        self.pages: list[Sequence[Shard]] = list(pages)
        self.server_time = 1_000.0
        self.start = HORIZON
        self.fetched: list[tuple[str, Position, int]] = []
        self.forgotten: list[str] = []
        self.answer: Callable[[Shard, Position], Coroutine[object, object, RawChunk]] | None = None
        self.before_page: Callable[[int], Coroutine[object, object, None]] | None = None

    def start_position(self, shard: Shard) -> Position:
        return self.start

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        for number, page in enumerate(list(self.pages)):
            if self.before_page is not None:
                await self.before_page(number)
            yield page

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        self.fetched.append((shard.id, after, want_bytes))
        if self.answer is not None:
            return await self.answer(shard, after)
        await asyncio.sleep(0.01)
        return chunk(shard, [], after)

    def forget(self, shard: Shard) -> None:
        self.forgotten.append(shard.id)

    async def close(self) -> None:
        """Nothing is open."""


def chunk(
    of: Shard,
    records: Sequence[bytes],
    end: str,
    *,
    closed: bool = False,
    behind_seconds: float = 0.0,
    children: tuple[Shard, ...] = (),
) -> RawChunk:
    """Make one answer."""
    nbytes = sum(map(len, records))
    positions = [Position(end)] * len(records)
    return RawChunk(of, records, positions, Position(end), nbytes, 1_000.0, behind_seconds, closed, children)


class OneRowEach:
    """Decodes each record into one row of one table, all in one block."""

    tables = ("t",)

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        if chunk.records:
            rows = [(f"{chunk.end}-{number}", number, data.decode()) for number, data in enumerate(chunk.records)]
            yield Decoded([block("t", *rows)])


class DeadLettersInMemory:
    """Makes dead letters that say which shard their rows came from; keeps what they were made of."""

    def __init__(self) -> None:
        self.records: list[tuple[Position, bytes | None]] = []

    def name(self, row: RejectedRow) -> DeadLetter:
        return DeadLetter(0, row.position, row.block.table, "refused", row.error.column)

    def __call__(self, row: RejectedRow, record: bytes | None) -> Block:
        self.records.append((row.position, record))
        return Block("dead", ("shard", "key"), [orjson.dumps(row.shard.id), row.block.cells[0]], 1)


dead_letters_in_memory = DeadLettersInMemory()


def instruments_of(
    metrics: Metrics | None = None, health: TaskHealth | None = None, clock: Callable[[], float] = lambda: 1_000.0
) -> Instruments:
    """Make instruments."""
    return Instruments(metrics or Metrics(), health or TaskHealth(), clock)


def writer_of(
    sink: MemorySink,
    budget: ByteBudget,
    limits: BatchLimits = WIDE,
    dead_letter_limiter: DeadLetterLimiter | None = None,
    dead_letters: DeadLettersInMemory | None = None,
    health: TaskHealth | None = None,
) -> Writer:
    """Make a writer."""
    return Writer(
        sink,
        budget,
        limits,
        instruments_of(health=health),
        token_prefix="p/0/1",
        dead_letters=DeadLetterHandling(
            dead_letters or DeadLettersInMemory(), dead_letter_limiter or DeadLetterLimiter()
        ),
    )


def checkpointer_of(
    store: MemoryCheckpoints,
    *,
    interval_seconds: float = 1.0,
    replay_seconds: float = 0.0,
    went_back: bool = False,
) -> Checkpointer:
    """Make a checkpointer."""
    return Checkpointer(
        store,
        instruments_of(),
        interval_seconds=interval_seconds,
        replay_seconds=replay_seconds,
        went_back=went_back,
    )


def sole_member() -> Membership:
    """Make the membership of a process that is alone."""
    return Membership(Assignment(), NoRecovery(), (), instruments_of())


def ledger_of(name: str = "s") -> ShardLedger:
    """Make the ledger of a shard that is read from its beginning."""
    return ShardLedger(shard(name), Mark(HORIZON), persisted=None)


def mark(position: object, *, finished: bool = False, read_until: float = 0.0) -> Mark:
    """Make a mark."""
    return Mark(Position(str(position)), read_until, finished)


__all__ = [
    "SOURCE",
    "WIDE",
    "DeadLettersInMemory",
    "MemoryCheckpoints",
    "MemorySink",
    "OneRowEach",
    "ScriptedSource",
    "block",
    "checkpointer_of",
    "chunk",
    "dead_letters_in_memory",
    "instruments_of",
    "ledger_of",
    "mark",
    "run",
    "shard",
    "sole_member",
    "values",
    "writer_of",
]

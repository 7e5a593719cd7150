"""A ClickHouse and the tables that dyncdc keeps in it, with ReplacingMergeTree's rules, faults, and probes."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from dyncdc.errors import RefusedError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.model.checkpoints import Checkpoint, Past, PastMark, Proof, Rollback, Server
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.model.watermarks import Watermark
from dyncdc.pipeline.writing.rejected_rows import RejectedRow
from simulation.process_run import Life, server_time
from simulation.world import EPOCH, POISON, Change, World

DEAD = "dead_letters"
TELLS_AFTER = 60
"""Refusals of one row after which its code tells: a row that is left alone has nothing to be compared with."""
COLUMNS = ("key", "number", "payload", "_version", "_deleted")


@dataclass(slots=True)
class Row:
    """One row as a destination table holds it."""

    version: int
    number: int
    payload: str
    deleted: bool

    @property
    def rank(self) -> tuple[int, int]:
        return self.version, self.number


@dataclass(slots=True)
class ClickHouse:
    """The server. It outlives every process."""

    world: World
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    """How often each dead letter was written, by id."""
    tokens: dict[str, bytes] = field(default_factory=dict)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    first_positions: dict[str, str] = field(default_factory=dict)
    """Where the first checkpoint of each source stood."""
    export_files: dict[str, int] = field(default_factory=dict)
    gaps: int = 0
    had_rows: set[str] = field(default_factory=set)
    """Tables with rows that were there before the first session."""
    statements: int = 0
    id: str = "one"
    started_at: float = EPOCH - 1000.0
    past: list[PastMark] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    watermarks: list[Watermark] = field(default_factory=list)

    def apply(self, block: Block, token: str) -> None:
        """Take a statement's rows, once per token. The row inserted last wins among equal versions."""
        if token in self.tokens:
            return
        self.tokens[token] = _digest(block)
        self.statements += 1
        if block.table == DEAD:
            for (identity,) in rows_of(block):
                self.dead_letters[identity] = self.dead_letters.get(identity, 0) + 1
            return
        table = self.tables.setdefault(block.table, {})
        for key, number, payload, version, deleted in rows_of(block):
            before = table.get(key)
            if before is None or int(version) >= before.version:
                table[key] = Row(int(version), number, payload, bool(deleted))

    def final(self, table: str) -> dict[str, Row]:
        """Read a table with FINAL, without what is deleted."""
        return {key: row for key, row in self.tables.get(table, {}).items() if not row.deleted}

    def winners(self) -> dict[tuple[SourceId, ShardId], Checkpoint]:
        """The row of each shard that counts: the greatest rank, but finished is sticky."""
        winners: dict[tuple[SourceId, ShardId], Checkpoint] = {}
        reopened = {
            (row.source, row.shard): (row.epoch, row.ordinal)
            for row in sorted(self.checkpoints, key=lambda row: (row.epoch, row.ordinal))
            if row.reopened
        }
        for row in self.checkpoints:
            if (row.epoch, row.ordinal) < reopened.get((row.source, row.shard), (0, 0)):
                continue
            before = winners.get((row.source, row.shard))
            new = (row.mark.finished, row.epoch, row.ordinal)
            if before is None or new >= (before.mark.finished, before.epoch, before.ordinal):
                winners[row.source, row.shard] = row
        return winners

    def finished(self, source: str) -> set[str]:
        """Shards of a source with a finished row that counts."""
        if any(row.reopened for row in self.checkpoints):
            return {shard for (owner, shard), row in self.winners().items() if owner == source and row.mark.finished}
        return {row.shard for row in self.checkpoints if row.source == source and row.mark.finished}

    def holds(self, change: Change) -> bool:
        """Whether the effect of a change is durable: itself, something newer, or its dead letter."""
        if change.kind == "garbage":
            return any(identity.endswith(f"/{change.number}") for identity in self.dead_letters)
        row = self.tables.get(change.table, {}).get(change.key)
        if row is not None and row.rank >= change.rank:
            return True
        return refused_id(change.table, change.key, change.number) in self.dead_letters


def _digest(block: Block) -> bytes:
    return b"|".join([block.table.encode(), *(cell.encode() for cell in block.columns), *block.cells])


def rows_of(block: Block) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a block as ClickHouse would read them."""
    columns = [orjson.loads(b"[" + cells + b"]") for cells in block.cells]
    if {len(column) for column in columns} != {block.rows}:
        raise AssertionError(f"a block of {block.rows} rows has columns of {[len(column) for column in columns]}")
    return zip(*columns, strict=True)


def refused_id(table: str, key: str, number: int) -> str:
    """Identify the dead letter of a row that was refused."""
    return f"refused/{table}/{key}/{number}"


class DeadLetterClient:
    """Makes the dead letters of refused rows."""

    def name(self, row: RejectedRow) -> DeadLetter:
        return DeadLetter(0, row.position, row.block.table, "refused")

    def __call__(self, row: RejectedRow, record: bytes | None) -> Block:
        ((key, number, *_),) = rows_of(row.block)
        return dead_letter(refused_id(row.block.table, key, number))


def dead_letter(identity: str) -> Block:
    """Make a row of the dead-letter table."""
    return Block(DEAD, ("id",), [orjson.dumps(identity)], 1)


class SinkClient:
    """The sink as one session sees it."""

    def __init__(self, server: ClickHouse, session: Life, *, statement_bytes: int) -> None:
        self._server = server
        self._session = session
        self._statement_bytes = statement_bytes
        self._in_flight: list[str] = []

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        """Insert, or fail in one of the ways in which ClickHouse fails."""
        session = self._session
        self._probe(block, token)
        self._in_flight.append(block.table)
        reached_server = not session.dead
        try:
            await self._insert(block, token)
        except asyncio.CancelledError:
            if reached_server and session.coin(token):
                if session.coin("late") and not self._server.world.ties:
                    self._lands_later(block, token, 1.0)
                else:
                    self._server.apply(block, token)
            raise
        finally:
            self._in_flight.remove(block.table)

    def _probe(self, block: Block, token: str) -> None:
        session = self._session
        if block.table != DEAD and block.table in self._in_flight:
            raise session.violated(f"two inserts into {block.table} at a time")
        if len(self._in_flight) >= 2:
            raise session.violated("three inserts at a time")
        if sum(map(len, block.cells)) > self._statement_bytes:
            raise session.violated(f"a statement of {sum(map(len, block.cells))} bytes")
        if self._server.tokens.get(token, _digest(block)) != _digest(block):
            raise session.violated(f"token {token} was used for other rows")

    async def _insert(self, block: Block, token: str) -> None:
        session, server = self._session, self._server
        await session.takes(0.005, 0.15)
        now = asyncio.get_running_loop().time()
        if any(begin <= now < end for begin, end in session.faults.outages):
            await asyncio.sleep(session.rng.uniform(0.1, 3.0))
            raise RetryableError("inserting: no answer")
        if block.table != DEAD:
            self._judge(list(rows_of(block)), now)
        if session.happens(session.faults.insert_refused):
            raise RetryableError("inserting: too many parts")
        if session.happens(session.faults.insert_unanswered):
            delay = session.rng.choice([0.0, 2.0])
            if delay:
                self._lands_later(block, token, delay)
            else:
                server.apply(block, token)
            raise RetryableError("inserting: timed out")
        server.apply(block, token)
        await session.reach("after insert")

    def _judge(self, rows: Sequence[tuple[Any, ...]], now: float) -> None:
        """Refuse poison: half of it by a code that says nothing of rows, unless that one cannot be compared."""
        if any(begin <= now < end for begin, end in self._session.faults.refusals):
            raise RefusedError("inserting: something is broken")
        bad = [row for row in rows if row[2] == POISON]
        odd = {row[1] for row in bad if row[1] % 2}
        doubted = self._session.doubted
        if len(rows) > len(bad):
            doubted.update(dict.fromkeys(odd - doubted.keys(), 0))
        for number in odd & doubted.keys() if len(odd) == len(bad) else ():
            doubted[number] += 1
            if doubted[number] < TELLS_AFTER:
                raise RefusedError("inserting: divided by zero")
        if bad:
            raise RejectedRowsError("inserting: a row cannot be parsed")

    def _lands_later(self, block: Block, token: str, delay: float) -> None:
        """The server goes on with what it was given. With ties, never beyond this process: DESIGN names that limit."""

        def land() -> None:
            if not (self._session.dead and self._server.world.ties):
                self._server.apply(block, token)

        asyncio.get_running_loop().call_later(delay, land)


class CheckpointClient:
    """``dyncdc_checkpoints`` as one session sees it. Every save is compared with what is durable."""

    def __init__(self, server: ClickHouse, session: Life) -> None:
        self._server = server
        self._session = session
        self._logs = {stream.id: stream.shards for stream in server.world.streams}
        self.connects = 1

    async def load(self) -> Sequence[Checkpoint]:
        await self._session.ask("loading checkpoints")
        return list(self._server.winners().values())

    async def refresh(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        await self._session.ask("looking at checkpoints")
        return [row for row in self._server.winners().values() if row.source in sources]

    async def proof(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        await self._session.takes(0.001, 0.05)
        rows = self._server.checkpoints
        newest = max((row.epoch for row in rows if (row.source, row.shard) in shards), default=0)
        held = last is None or any(
            (row.source, row.shard, row.epoch, row.member) == (last.source, last.shard, last.epoch, last.member)
            and row.ordinal >= last.ordinal
            for row in rows
        )
        return Proof(newest, held, self._server.started_at)

    async def server(self) -> Server:
        await self._session.takes(0.001, 0.01)
        return Server(self._server.id, self._server.started_at)

    async def remember(self, marks: Sequence[PastMark]) -> None:
        await self._session.ask("remembering checkpoints")
        self._server.past += [replace(mark, server=self._server.id, saved_at=server_time()) for mark in marks]

    async def past(self, server: Server, rows: int) -> Past:
        await self._session.takes(0.001, 0.05)
        marks = sorted(self._server.past, key=lambda mark: (mark.epoch, mark.ordinal))
        before = (mark.saved_at for mark in marks if mark.saved_at < server.started_at or mark.server != server.id)
        return Past(marks, max(before, default=0.0))

    async def note_rollback(self, member: int) -> None:
        if not self._session.dead:
            self._server.rollbacks.append(Rollback(member, server_time()))
        await self._session.takes(0.001, 0.05)

    async def rollbacks(self) -> Sequence[Rollback]:
        await self._session.ask("looking when ClickHouse went back")
        return list(self._server.rollbacks)

    async def server_time(self) -> float:
        await self._session.takes(0.001, 0.01)
        return server_time()

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        session = self._session
        sent = not session.dead
        await session.reach("before save")
        try:
            await session.takes(0.001, 0.05)
            await session.reach("while saving")
        except asyncio.CancelledError:
            if sent and session.coin("save"):  # the server goes on with what it was given, perhaps after the next start
                asyncio.get_running_loop().call_later(1.0 if session.coin("late") else 0.0, self._apply, rows)
            raise
        for row in rows:
            self._probe(row)
        if session.happens(session.faults.save_failed):
            raise RetryableError("saving checkpoints: no answer")
        self._apply(rows)
        if session.happens(session.faults.save_unanswered):
            raise RetryableError("saving checkpoints: timed out")
        await session.reach("after save")
        if any(row.mark.finished for row in rows):
            session.reach_soon("before release")

    def _apply(self, rows: Sequence[Checkpoint]) -> None:
        for row in rows:
            self._server.first_positions.setdefault(row.source, row.mark.position)
        self._server.checkpoints += [replace(row, saved_at=server_time()) for row in rows]

    def _probe(self, row: Checkpoint) -> None:
        if row.source not in self._logs:
            return
        session = self._session
        log = self._logs[row.source][row.shard]
        server = self._server
        mine = [old for old in server.checkpoints if (old.source, old.shard) == (row.source, row.shard)]
        for old in mine:
            if old.epoch == row.epoch and old.ordinal >= row.ordinal:
                raise session.violated(f"checkpoint of {row.shard}: ordinal {row.ordinal} came twice")
            if old.epoch == row.epoch and old.mark.finished and not row.mark.finished:
                raise session.violated(f"checkpoint of {row.shard}: finished, then not")
        upto = position_index(log.sequences, log.arrivals, row.mark.position)
        before = max((position_index(log.sequences, log.arrivals, old.mark.position) for old in mine[-1:]), default=0)
        if mine and mine[-1].epoch == row.epoch and upto < before:
            raise session.violated(f"checkpoint of {row.shard} went backwards")
        begin = before if mine else upto
        if not mine and row.mark.position.isdecimal():
            begin = 0
        for entry in log.entries[begin:upto]:
            if not server.holds(entry.change):
                raise session.violated(f"checkpoint of {row.shard} passed change {entry.change.number}, not durable")
        if row.mark.finished and (upto < len(log.entries) or log.closed > asyncio.get_running_loop().time()):
            raise session.violated(f"checkpoint of {row.shard}: finished at {upto} of {len(log.entries)}")


def position_index(sequences: Sequence[int], arrivals: Sequence[float], position: str) -> int:
    """Return how many entries of a shard lie at or before a position."""
    if position == "TRIM_HORIZON":
        return 0
    if position == "LATEST":
        return bisect_right(arrivals, asyncio.get_running_loop().time())
    if position.startswith("AT_TIMESTAMP:"):
        return bisect_left(arrivals, float(position.removeprefix("AT_TIMESTAMP:")) - EPOCH)
    return bisect_right(sequences, int(position))


class SnapshotClient:
    """``dyncdc_snapshots`` as one session sees it."""

    def __init__(self, server: ClickHouse, session: Life) -> None:
        self._server = server
        self._session = session

    async def load(self) -> Sequence[Snapshot]:
        await self._session.ask("loading snapshots")
        return list(self._server.snapshots.values())

    async def save(self, snapshot: Snapshot) -> None:
        session = self._session
        await session.ask("saving a snapshot")
        if snapshot.state == "complete":
            files = self._server.export_files[snapshot.export_arn]
            if len(self._server.finished(snapshot.id)) != files:
                raise session.violated(f"the snapshot of {snapshot.table} was complete before its last file")
        known = self._server.snapshots.get(snapshot.id)
        if known is None or known.epoch <= snapshot.epoch:
            self._server.snapshots[snapshot.id] = replace(snapshot, saved_at=server_time())
        await session.reach(f"snapshot {snapshot.state}")
        if session.happens(session.faults.save_unanswered):
            raise RetryableError("saving a snapshot: timed out")

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        await self._session.takes(0.001, 0.05)
        self._server.gaps += 1


def block_of(table: str, rows: Sequence[tuple[str, int, str, int, int]]) -> Block:
    """Make a block of rows (key, number, payload, version, deleted), in delivery order."""
    columns = list(zip(*rows, strict=True))
    cells = [",".join(json.dumps(value) for value in column).encode() for column in columns[:3]]
    cells.append(",".join(f'"{version}"' for version in columns[3]).encode())
    cells.append(",".join(str(deleted) for deleted in columns[4]).encode())
    keys = [row[0].encode() for row in rows]
    return Block(table, COLUMNS, cells, len(rows), keys, [row[3] for row in rows])

"""The AWS side: streams that reshard and exports, each a Source with faults and probes, and the decoders for them."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Collection, Iterator, Sequence

from dyncdc.errors import CorruptSnapshotError, RetryableError
from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.model.snapshots import Export
from simulation.process_run import Life, server_time
from simulation.world import EPOCH, ShardLog, StreamScript, World

from .clickhouse import DEAD, ClickHouse, block_of, dead_letter, position_index

PAGE_SHARDS = 3
SUB_BATCH_RECORDS = 4


class FakeStream:
    """A Kinesis stream as one session sees it."""

    def __init__(self, server: ClickHouse, session: Life, script: StreamScript, start: str) -> None:
        self._server = server
        self._session = session
        self._script = script
        self._start = Position(f"AT_TIMESTAMP:{server_time():.6f}" if start == "LATEST" else start)
        self._finished_at_start = server.finished(script.id)
        self._reading: set[str] = set()
        self._ended: dict[str, float] = {}
        """When the last answer of a shard was given."""
        self._begun: set[str] = set()
        self.server_time = server_time()

    @property
    def id(self) -> SourceId:
        return SourceId(self._script.id)

    @property
    def label(self) -> str:
        return self._script.name

    @property
    def retention_seconds(self) -> float | None:
        return 86_400.0

    @property
    def pause_seconds(self) -> float:
        return 0.25

    def start_position(self, shard: Shard) -> Position:
        return self._start

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        session = self._session
        shown = self._visible()
        if session.happens(0.3):
            session.rng.shuffle(shown)
        done: set[str] = set()
        while True:
            await session.takes(0.01, 0.2)
            if session.happens(session.faults.list_failed):
                raise RetryableError("listing shards: limit exceeded")
            self.server_time = server_time()
            shown += [log for log in self._visible() if log not in shown]
            page = [log for log in shown if log.id not in done][:PAGE_SHARDS]
            if not page:
                return
            done.update(log.id for log in page)
            yield [self._shard(log) for log in page]

    def _visible(self) -> list[ShardLog]:
        """Shards made by now. What has long been finished may have left the retention."""
        now = asyncio.get_running_loop().time()
        finished = self._server.finished(self._script.id)
        return [
            log
            for log in self._script.shards.values()
            if log.opened <= now and not (log.id in finished and zlib.crc32(log.id.encode()) % 3 == 0)
        ]

    def _shard(self, log: ShardLog) -> Shard:
        return Shard(self.id, ShardId(log.id), frozenset(ShardId(parent) for parent in log.parents))

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        session = self._session
        log = self._script.shards[shard.id]
        self._probe(log)
        self._reading.add(log.id)
        try:
            await session.takes(0.005, 2.0 if log.slow else 0.08)
            if session.happens(session.faults.throttled):
                raise RetryableError("reading: throughput exceeded")
            chunk = self._answer(shard, log, after, want_bytes)
        finally:
            self._reading.discard(log.id)
        await session.reach("after fetch")
        return chunk

    def _probe(self, log: ShardLog) -> None:
        session = self._session
        if log.id in self._reading:
            raise session.violated(f"{log.id} is fetched twice at a time")
        if log.id in self._finished_at_start:
            raise session.violated(f"{log.id} is fetched though it was finished before this session")
        missing = {parent for parent in log.parents if parent in self._script.shards}
        if missing - self._server.finished(self._script.id):
            raise session.violated(f"{log.id} is fetched before its parents are persisted as finished")
        if log.id not in self._begun and log.parents and log.parents <= self._ended.keys():
            pause_seconds = asyncio.get_running_loop().time() - max(self._ended[parent] for parent in log.parents)
            if pause_seconds > session.longest_pause_seconds:
                raise session.violated(f"reading {log.id} began {pause_seconds:.1f} s after its parents had ended")
        self._begun.add(log.id)

    def _answer(self, shard: Shard, log: ShardLog, after: Position, want_bytes: int) -> RawChunk:
        session = self._session
        now = asyncio.get_running_loop().time()
        self.server_time = EPOCH + now
        begin = position_index(log.sequences, log.arrivals, after)
        upto = log.arrived(now)
        limit = 0 if session.happens(session.faults.empty) else session.rng.randint(1, 30)
        taken = log.entries[begin : min(upto, begin + limit)]
        while len(taken) > 1 and sum(len(entry.data) for entry in taken) > want_bytes:
            taken.pop()
        rest = begin + len(taken)
        closed = rest == len(log.entries) and log.closed <= now and session.happens(0.7)
        if closed:
            self._ended[log.id] = now
        behind_seconds = 0.0 if rest >= upto else max(0.001, now - log.arrivals[rest])
        if not closed and rest >= upto and log.closed <= now:
            behind_seconds = max(0.001, now - log.closed)  # drained, but the answer does not say so yet
        return RawChunk(
            shard,
            [entry.data for entry in taken],
            [Position(str(entry.sequence)) for entry in taken],
            Position(str(taken[-1].sequence)) if taken else after,
            sum(len(entry.data) for entry in taken),
            EPOCH + (taken[-1].arrival if taken and behind_seconds else now - behind_seconds),
            0.0 if closed else behind_seconds,
            closed,
            self._named(log) if closed else (),
            first_arrived=EPOCH + taken[0].arrival if taken else 0.0,
            answered=self.server_time,
        )

    def _named(self, log: ShardLog) -> tuple[Shard, ...]:
        if self._session.happens(self._session.faults.children_unnamed):
            return ()
        return tuple(self._shard(self._script.shards[child]) for child in log.children)

    def forget(self, shard: Shard) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        """Nothing is open."""


class StreamDecoder:
    """Change records into blocks."""

    def __init__(self, tables: Collection[str], session: Life) -> None:
        self.tables = (*tables, DEAD)
        self._session = session

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        pairs = list(zip(chunk.records, chunk.positions, strict=True))
        for begin in range(0, len(pairs), SUB_BATCH_RECORDS):
            yield self._decode(chunk.shard, pairs[begin : begin + SUB_BATCH_RECORDS])

    def _decode(self, shard: Shard, pairs: Sequence[tuple[bytes, Position]]) -> Decoded:
        decoded = Decoded(records={"table": len(pairs)})
        rows: dict[str, list[tuple[str, int, str, int, int]]] = {}
        for data, position in pairs:
            try:
                table, key, version, number, deleted, payload = json.loads(data)
            except UnicodeDecodeError:
                number = data.decode("latin-1").rpartition(" ")[2]
                decoded.blocks.append(dead_letter(garbage_id(shard.source, shard.id, position, number)))
                continue
            rows.setdefault(table, []).append((key, number, payload, version, deleted))
        decoded.blocks += [block_of(table, group) for table, group in rows.items()]
        return decoded


def garbage_id(source: str, shard: str, position: str, number: str | int) -> str:
    """Identify the dead letter of a record that cannot be decoded."""
    return f"{source}/{shard}/{position}/{number}"


class Exports:
    """DynamoDB's exports of one table, as AWS keeps them: they outlive every process."""

    FUZZ_SECONDS = 3.5
    FILES = 3

    def __init__(self, world: World, server: ClickHouse, table: str, *, corrupt: bool) -> None:
        self.world = world
        self.server = server
        self.table = table
        self.corrupt = corrupt
        self.started: dict[str, tuple[Export, list[list[bytes]]]] = {}

    @property
    def arn(self) -> str:
        return f"arn:export/{self.table}"

    def start(self, token: str) -> Export:
        """Start an export, once per token. Each file shows the table at an instant of its own."""
        if token not in self.started:
            now = asyncio.get_running_loop().time()
            export = Export(f"{self.arn}/{len(self.started)}", "IN_PROGRESS", EPOCH + now)
            files: list[list[bytes]] = []
            for number in range(self.FILES):
                instant = now + self.FUZZ_SECONDS * self.world.rng.choice([-1.0, 0.0, 1.0])
                state = self.world.state_at(self.table, instant)
                files.append([change.encoded() for key, change in state.items() if self.file_of(key) == number])
            self.started[token] = export, files
            self.server.export_files[export.arn] = self.FILES
        return self.present(self.started[token][0])

    def file_of(self, key: str) -> int:
        """Return which file holds a key."""
        return zlib.crc32(key.encode()) % self.FILES

    def present(self, export: Export) -> Export:
        """Return the export as it is now."""
        done = server_time() > export.export_time + 2.0
        return Export(export.arn, "COMPLETED" if done else "IN_PROGRESS", export.export_time)


class FakeOrigin:
    """One table's export API as one session sees it."""

    def __init__(self, exports: Exports, session: Life, *, settle_seconds: float) -> None:
        self._exports = exports
        self._session = session
        self._settle_seconds = settle_seconds

    async def covered_at(self) -> float | None:
        await self._call()
        active_at = self._exports.world.snapshots[self._exports.table]
        return server_time() if asyncio.get_running_loop().time() >= active_at else None

    async def identity(self) -> str:
        return ""

    async def request_export(self, token: str) -> Export:
        await self._call()
        self._probe(token)
        export = self._exports.start(token)
        await self._session.reach("export requested")
        await self._call()
        return export

    def _probe(self, token: str) -> None:
        session, exports = self._session, self._exports
        row = exports.server.snapshots.get(token)
        if row is None or row.state != "exporting":
            raise session.violated("an export is asked for before its row is durable")
        if exports.started and token not in exports.started:
            raise session.violated("a second export is started")
        active_at = exports.world.snapshots[exports.table]
        if row.covered_from < EPOCH + active_at or server_time() < row.covered_from + self._settle_seconds:
            raise session.violated("an export is asked for before the stream covers the table")
        stream = next(stream for stream in exports.world.streams if exports.table in stream.tables)
        if stream.id not in exports.server.first_positions:
            raise session.violated("an export is asked for before the positions in the stream are held")

    async def describe_export(self, arn: str) -> Export:
        await self._call()
        (found,) = (export for export, _ in self._exports.started.values() if export.arn == arn)
        return self._exports.present(found)

    async def open_export(self, export: Export, source: SourceId) -> FakeExport:
        await self._call()
        if self._exports.present(export).status != "COMPLETED":
            raise self._session.violated("an export is read before it is complete")
        (files,) = (files for found, files in self._exports.started.values() if found.arn == export.arn)
        return FakeExport(self._exports, self._session, export, files, source)

    async def _call(self) -> None:
        await self._session.takes(0.005, 0.1)
        if self._session.happens(self._session.faults.export_failed):
            raise RetryableError("asking for an export: throttled")


class FakeExport:
    """The files of an export: shards without parents, positions are line numbers."""

    def __init__(
        self, exports: Exports, session: Life, export: Export, files: list[list[bytes]], source: SourceId
    ) -> None:
        self._source = source
        self._exports = exports
        self._session = session
        self._export = export
        self._files = files
        self._closed = False

    @property
    def id(self) -> SourceId:
        return self._source

    @property
    def label(self) -> str:
        return self._exports.table

    @property
    def retention_seconds(self) -> float | None:
        return None

    @property
    def server_time(self) -> float:
        return server_time()

    @property
    def pause_seconds(self) -> float:
        return 0.0

    def start_position(self, shard: Shard) -> Position:
        return HORIZON

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        await self._session.takes(0.0, 0.01)
        if self._session.happens(self._session.faults.export_failed):
            raise RetryableError("listing files: throttled")
        yield [Shard(self.id, ShardId(f"file-{number}")) for number in range(len(self._files))]

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        session = self._session
        if self._closed:
            raise session.violated("a file is read after its source was closed")
        await session.takes(0.005, 0.08)
        if session.happens(session.faults.throttled):
            raise RetryableError("reading a file: connection reset")
        number = int(shard.id.removeprefix("file-"))
        lines = self._files[number]
        begin = 0 if after == HORIZON else int(after)
        taken = lines[begin : begin + session.rng.randint(1, 6)]
        end = begin + len(taken)
        if self._exports.corrupt and number == 0 and end == len(lines):
            raise CorruptSnapshotError("reading file-0: its checksum is not the manifest's")
        await session.reach("after file fetch")
        positions = [Position(str(line)) for line in range(begin + 1, end + 1)]
        nbytes = sum(map(len, taken))
        return RawChunk(shard, taken, positions, Position(str(end)), nbytes, 0.0, closed=end == len(lines))

    def forget(self, shard: Shard) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        self._closed = True


class SnapshotDecoder(StreamDecoder):
    """Export lines into blocks: every row carries the snapshot's version."""

    def __init__(self, table: str, session: Life, version: int) -> None:
        super().__init__((table,), session)
        self._version = version

    def _decode(self, shard: Shard, pairs: Sequence[tuple[bytes, Position]]) -> Decoded:
        decoded = super()._decode(shard, pairs)
        decoded.blocks = [self._at_version(block) for block in decoded.blocks]
        return decoded

    def _at_version(self, block: Block) -> Block:
        cells = [*block.cells]
        cells[3] = b",".join([b'"%d"' % self._version] * block.rows)
        return Block(block.table, block.columns, cells, block.rows, block.keys, [self._version] * block.rows)


class FakeSnapshotDecoders:
    """Makes the decoders of snapshots."""

    def __init__(self, session: Life) -> None:
        self._session = session

    def for_snapshot(self, table: str, version: int) -> SnapshotDecoder:
        return SnapshotDecoder(table, self._session, version)

"""``dyncdc status``: how far everything is, from ClickHouse and Kinesis, so that it also works with the daemon dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from dyncdc.app.context import AppContext
from dyncdc.app.status_feed import table_facts
from dyncdc.config import TableConfig
from dyncdc.errors import DyncdcError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.shards import Shard, SourceId
from dyncdc.pipeline.checkpoint.watermarks import STREAM_DELAY_SECONDS, least
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.mappings import read_destination
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.watermarks import ClickHouseWatermarks
from dyncdc.sinks.state.tables import CHECKPOINTS, WATERMARKS
from dyncdc.sinks.status_reader import StatusReader
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.tombstones import cleaned_before, count_tombstones
from dyncdc.sources.stream import StreamSource, open_stream
from dyncdc.telemetry.status import ClickHouseState, DaemonStatus
from dyncdc.telemetry.status.model import ShardStatus, Status, TableStatus

PROBE_BYTES = 1
PROBED_SHARDS = 100
"""Each costs two calls; beyond so many the rows alone have to do."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """One stream. ``source`` None: AWS does not answer for it, and nothing is known of its shards."""

    source: StreamSource | None
    unfinished: Sequence[Checkpoint]
    shards: Sequence[ShardStatus]
    unnamed_dead_letters: int
    """Records that do not name their table: each may be of any table on the stream."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What ClickHouse holds."""

    checkpoints: Sequence[Checkpoint]
    state: ClickHouseState
    watermarks: Mapping[str, float | None]


async def read_status(context: AppContext, daemon: str, live: DaemonStatus | None = None) -> Status:
    """Collect everything. Raises FatalError when ClickHouse does not answer; AWS may be away, then lags are unknown."""
    config = context.config
    status = Status(config.pipeline, daemon, live=live)
    if await context.retry(lambda: read_table(context.clickhouse, CHECKPOINTS)) is None:
        status.notes.append("never started: this database holds nothing of dyncdc yet; start it with `dyncdc run`")
        return status
    # Positions first: what a position has passed is, by then, a row, or a dead letter that is counted afterwards.
    checkpoints = await context.retry(ClickHouseCheckpoints(context.clickhouse, config.pipeline).load)
    reader = StatusReader(context.clickhouse, config.pipeline)
    state = await context.retry(lambda: reader.read(table_facts(config)))
    status.gaps, status.requested = state.gaps, state.requested
    status.members, status.dead_letters = state.members, state.dead_letters
    streams: dict[str, _Stream] = {}
    for name in dict.fromkeys(map(config.stream_of, config.tables)):
        streams[name] = await _stream(context, name, checkpoints, status)
        status.shards += streams[name].shards
    found = _Found(checkpoints, state, await _watermarks(context))
    for table in config.tables:
        shown = _table(table, streams[config.stream_of(table)], found)
        shown.tombstones, shown.cleaned_before = await _tombstones(context, table)
        status.tables.append(shown)
    return status


async def _stream(context: AppContext, name: str, checkpoints: Sequence[Checkpoint], status: Status) -> _Stream:
    source = await _source(context, name, status)
    rows: list[Checkpoint] = []
    if source is not None:
        rows = await _brought_up_to_date(source, [row for row in checkpoints if row.source == source.id])
    unfinished = sorted((row for row in rows if not row.mark.finished), key=lambda row: row.shard)
    dead_letters = ClickHouseDeadLetters(context.clickhouse, context.config.pipeline)
    of_source = source.id if source is not None else ""
    unnamed = await context.retry(lambda: dead_letters.count_open(table="", source=of_source))
    return _Stream(source, unfinished, [_shard(name, source, row) for row in unfinished], unnamed)


async def _source(context: AppContext, name: str, status: Status) -> StreamSource | None:
    try:
        return await context.retry(lambda: open_stream(context.aws, name))
    except DyncdcError as error:
        status.notes.append(f"stream {name}: {error}")
        return None


async def _brought_up_to_date(source: StreamSource, rows: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Ask Kinesis what lies behind each position: an idle shard's row is written once a minute only.

    Not where an empty answer says nothing: behind a shard's end its children may hold something, and behind a position
    that has expired Kinesis shows what came later.
    """
    found: list[Checkpoint] = []
    for row in rows:
        if not row.mark.finished and len(found) < PROBED_SHARDS and not _expired(row, source):
            try:
                chunk = await source.fetch(Shard(row.source, row.shard), row.mark.position, PROBE_BYTES)
            except DyncdcError:
                found.append(row)  # the row alone then says how far it is
                continue
            if chunk.at_tip and not chunk.records and not chunk.closed:
                row = replace(row, mark=replace(row.mark, read_until=source.server_time))
        found.append(row)
    return found


def _expired(row: Checkpoint, source: StreamSource) -> bool:
    retention, lag = source.retention_seconds, _lag(row, source)
    return retention is not None and lag is not None and lag > retention


def _shard(name: str, source: StreamSource | None, row: Checkpoint) -> ShardStatus:
    lag = _lag(row, source)
    retention = source.retention_seconds if source is not None else None
    headroom = None if lag is None or retention is None else retention - lag
    return ShardStatus(
        shard=row.shard, stream=name, position=row.mark.position, lag_seconds=lag, headroom_seconds=headroom
    )


def _lag(row: Checkpoint, source: StreamSource | None) -> float | None:
    if source is None or not row.mark.read_until:
        return None
    return max(0.0, source.server_time - row.mark.read_until)


def _table(table: TableConfig, stream: _Stream, found: _Found) -> TableStatus:
    snapshot = found.state.snapshots.get(table.dynamodb)
    files = [row for row in found.checkpoints if snapshot is not None and row.source == SourceId(snapshot.id)]
    lags = [shard.lag_seconds for shard in stream.shards if shard.lag_seconds is not None]
    headrooms = [shard.headroom_seconds for shard in stream.shards if shard.headroom_seconds is not None]
    return msgspec.structs.replace(
        found.state.tables[table.destination],
        files_done=sum(row.mark.finished for row in files),
        files=len(files),
        lag_seconds=max(lags, default=None),
        headroom_seconds=min(headrooms, default=None),
        complete_until=_complete_until(table, stream, found),
    )


def _complete_until(table: TableConfig, stream: _Stream, found: _Found) -> float | None:
    """The members' last watermark; with the daemon dead, the positions of a quiet stream may say more."""
    state, name = found.state, table.dynamodb
    if table.snapshot.method != "none" and name not in state.loaded:
        return None
    # An open gap or dead letter holds it back: something before now is known to be missing.
    missing = (
        stream.unnamed_dead_letters
        or state.tables[table.destination].dead_letters
        or any(gap.table == name for gap in state.gaps)
    )
    read_until = [row.mark.read_until for row in stream.unfinished]
    by_positions = None
    if not missing and read_until and all(read_until):
        by_positions = min(read_until) - STREAM_DELAY_SECONDS
    mark = found.watermarks.get(name, by_positions)
    return mark if mark is None or by_positions is None else max(mark, by_positions)


async def _watermarks(context: AppContext) -> dict[str, float | None]:
    if await context.retry(lambda: read_table(context.clickhouse, WATERMARKS)) is None:
        return {}  # a database of an older version
    return least(await context.retry(ClickHouseWatermarks(context.clickhouse, context.config.pipeline).load))


async def _tombstones(context: AppContext, table: TableConfig) -> tuple[int | None, float | None]:
    """How many there are of a table in which they are cleaned up, and up to when (seconds) that was done."""
    existing = await context.retry(lambda: read_destination(context.clickhouse, table.destination))
    if existing is None or not table.clean_tombstones:
        return None, None
    spec = existing_table_spec(table, (), existing)
    before = await context.retry(lambda: cleaned_before(context.clickhouse, existing.uuid))
    count = await context.retry(lambda: count_tombstones(context.clickhouse, spec))
    return count, before / 1_000_000 if before else None

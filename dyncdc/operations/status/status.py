"""``dyncdc status``: how far everything is, from ClickHouse and Kinesis, so that it also works with the daemon dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.errors import DyncdcError
from dyncdc.model import Checkpoint, Gap, Shard, Snapshot, SourceId
from dyncdc.pipeline.checkpoint.watermarks import STREAM_DELAY_SECONDS, least
from dyncdc.pipeline.members.liveness import alive
from dyncdc.pipeline.recovery.gaps import in_words
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.state.checkpoints import ClickHouseCheckpoints, ClickHouseSnapshots
from dyncdc.sinks.state.dead_letters import ClickHouseDeadLetters
from dyncdc.sinks.state.mappings import read_destination
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.tables import CHECKPOINTS, MEMBERS, WATERMARKS
from dyncdc.sinks.state.watermarks import ClickHouseWatermarks
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.tombstones import cleaned_before, count_tombstones
from dyncdc.sources.kinesis.stream_source import KinesisSource, open_stream
from dyncdc.telemetry.status import Document

PROBE_BYTES = 1
PROBED_SHARDS = 100
"""Each costs two calls; beyond so many the rows alone have to do."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard that is not finished. Seconds; None where it is not known yet."""

    stream: str
    shard: str
    position: str
    lag_seconds: float | None
    headroom_seconds: float | None


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table. ``complete_until`` in seconds since the epoch, None until the snapshot is complete."""

    table: str
    destination: str
    snapshot: str
    files_done: int
    files: int
    rows: int | None
    dead_letters: int
    lag_seconds: float | None
    complete_until: float | None
    tombstones: int | None = None
    """How many there are; None where they are not cleaned up."""
    cleaned_before: float | None = None
    """Those older than this are gone. Seconds since the epoch; None as long as none were."""


@dataclass(frozen=True, slots=True)
class GapStatus:
    """Changes that were lost and that no snapshot has brought back yet. Seconds since the epoch.

    ``accepted``: the user took the gap; nothing is done about it until someone asks for a snapshot.
    """

    table: str
    source: str
    shard: str
    begin: float
    end: float
    noticed_at: float
    accepted: bool
    words: str


@dataclass(frozen=True, slots=True)
class DeadLettersStatus:
    """Open dead letters of one table, reason and column. ``newest_at``: seconds since the epoch."""

    table: str
    reason: str
    column: str
    count: int
    newest_at: float


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One process of the pipeline, as it says of itself. ``seen_seconds``: since then, by ClickHouse's clock."""

    member: str
    seen_seconds: float
    alive: bool


@dataclass(slots=True)
class Status:
    """What ``status`` shows. ``daemon``: what its health page says, or that it does not answer."""

    pipeline: str
    daemon: str
    tables: list[TableStatus] = field(default_factory=list)
    shards: list[ShardStatus] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gaps: list[GapStatus] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    """Tables for which someone has asked for a snapshot that is not complete yet."""
    members: list[MemberStatus] = field(default_factory=list)
    """Those of the newest assignment; of others only who is alive."""
    dead_letters: list[DeadLettersStatus] = field(default_factory=list)
    """Open ones, most first."""
    live: Document | None = None
    """What the daemon on this machine says of itself, as its ``/status.json`` does; None when it does not answer."""


async def read_status(context: AppContext, daemon: str, live: Document | None = None) -> Status:
    """Collect everything. Raises FatalError when ClickHouse does not answer; AWS may be away, then lags are unknown."""
    config = context.config
    status = Status(config.pipeline, daemon, live=live)
    if await context.retry(lambda: read_table(context.clickhouse, CHECKPOINTS)) is None:
        status.notes.append("never started: this database holds nothing of dyncdc yet; start it with `dyncdc run`")
        return status
    checkpoints = await context.retry(ClickHouseCheckpoints(context.clickhouse, config.pipeline).load)
    snapshots = await context.retry(ClickHouseSnapshots(context.clickhouse, config.pipeline).load)
    recovery = ClickHouseRecovery(context.clickhouse, config.pipeline)
    gaps = await context.retry(recovery.open_gaps)
    status.gaps = [_gap(gap) for gap in gaps]
    status.requested = sorted({request.table for request in await context.retry(recovery.open_requests)})
    status.members = await _members(context)
    dead_letters = await context.retry(ClickHouseDeadLetters(context.clickhouse, config.pipeline).count_by_reason)
    status.dead_letters = [DeadLettersStatus(*found) for found in dead_letters]
    streams: dict[str, tuple[KinesisSource | None, list[Checkpoint]]] = {}
    for name in dict.fromkeys(map(config.stream_of, config.tables)):
        source = await _source(context, name, status)
        rows = [row for row in checkpoints if source is not None and row.source == source.id]
        if source is not None:
            rows = await _brought_up_to_date(source, rows)
        streams[name] = source, rows
        status.shards += _shards(name, source, rows)
    marks = await _marks(context)
    for table in config.tables:
        source, rows = streams[config.stream_of(table)]
        status.tables.append(await _table(context, table, rows, source, checkpoints, snapshots, gaps, marks))
    return status


async def _members(context: AppContext) -> list[MemberStatus]:
    if await context.retry(lambda: read_table(context.clickhouse, MEMBERS)) is None:
        return []
    found = await context.retry(ClickHouseMembers(context.clickhouse, context.config.pipeline).members)
    newest = max((one.epoch, one.members) for one in found)[1] if found else 0
    living = alive(found)
    return [
        MemberStatus(f"{one.member}/{one.members}", max(0.0, one.age_seconds), one in living)
        for one in found
        if one.members == newest or one in living
    ]


def _gap(gap: Gap) -> GapStatus:
    return GapStatus(gap.table, gap.source, gap.shard, gap.begin, gap.end, gap.noticed_at, gap.accepted, in_words(gap))


async def _source(context: AppContext, name: str, status: Status) -> KinesisSource | None:
    try:
        return await context.retry(lambda: open_stream(context.aws, name))
    except DyncdcError as error:
        status.notes.append(f"stream {name}: {error}")
        return None


async def _brought_up_to_date(source: KinesisSource, rows: Sequence[Checkpoint]) -> list[Checkpoint]:
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


def _expired(row: Checkpoint, source: KinesisSource) -> bool:
    retention, lag = source.retention_seconds, _lag(row, source)
    return retention is not None and lag is not None and lag > retention


def _shards(name: str, source: KinesisSource | None, rows: Sequence[Checkpoint]) -> list[ShardStatus]:
    found = []
    for row in sorted(rows, key=lambda row: row.shard):
        if row.mark.finished:
            continue
        lag = _lag(row, source)
        retention = source.retention_seconds if source is not None else None
        headroom = None if lag is None or retention is None else retention - lag
        found.append(ShardStatus(name, row.shard, row.mark.position, lag, headroom))
    return found


def _lag(row: Checkpoint, source: KinesisSource | None) -> float | None:
    if source is None or not row.mark.read_until:
        return None
    return max(0.0, source.server_time - row.mark.read_until)


async def _table(
    context: AppContext,
    table: TableConfig,
    rows: Sequence[Checkpoint],
    source: KinesisSource | None,
    checkpoints: Sequence[Checkpoint],
    snapshots: Sequence[Snapshot],
    gaps: Sequence[Gap],
    marks: Mapping[str, float | None],
) -> TableStatus:
    snapshot = next((found for found in reversed(snapshots) if found.table == table.dynamodb), None)
    files = [row for row in checkpoints if snapshot is not None and row.source == SourceId(snapshot.id)]
    lags = [lag for row in rows if not row.mark.finished and (lag := _lag(row, source)) is not None]
    read_until = [row.mark.read_until for row in rows if not row.mark.finished]
    # While a table is loaded again it is as complete as it was.
    loaded = table.snapshot.method == "none" or any(
        snapshot is not None and found.state == "complete" and found.destination_uuid == snapshot.destination_uuid
        for found in snapshots
        if found.table == table.dynamodb
    )
    dead_letters = ClickHouseDeadLetters(context.clickhouse, context.config.pipeline)
    buried = await context.retry(lambda: dead_letters.count_open(table=table.dynamodb))
    # A record that does not name its table may be of any on the stream.
    stream = source.id if source is not None else ""
    stray = await context.retry(lambda: dead_letters.count_open(table="", source=stream))
    # An open gap or dead letter holds it back: something before now is known to be missing.
    whole = loaded and not buried and not stray and all(gap.table != table.dynamodb for gap in gaps)
    by_rows = min(read_until) - STREAM_DELAY_SECONDS if whole and read_until and all(read_until) else None
    complete_until = _complete_until(table.dynamodb, marks, by_rows) if loaded else None
    return TableStatus(
        table.dynamodb,
        table.destination,
        "none" if table.snapshot.method == "none" else snapshot.state if snapshot is not None else "not started",
        sum(row.mark.finished for row in files),
        len(files),
        await _count(
            context,
            "SELECT total_rows FROM system.tables WHERE database = currentDatabase()"
            f" AND name = {quote_text(table.destination)}",
        ),
        buried,
        max(lags, default=None),
        complete_until,
        *await _tombstones(context, table),
    )


def _complete_until(table: str, marks: Mapping[str, float | None], by_rows: float | None) -> float | None:
    """What all members said last; with a daemon that is dead, a quiet stream may say more."""
    mark = marks.get(table, by_rows)
    return mark if mark is None or by_rows is None else max(mark, by_rows)


async def _marks(context: AppContext) -> dict[str, float | None]:
    if await context.retry(lambda: read_table(context.clickhouse, WATERMARKS)) is None:
        return {}  # as a version left it that had none
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


async def _count(context: AppContext, sql: str) -> int | None:
    rows = await context.retry(lambda: context.clickhouse.fetch(sql))
    return None if not rows or rows[0][0] is None else int(rows[0][0])

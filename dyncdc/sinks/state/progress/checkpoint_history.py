"""The history of checkpoints: past marks of shards, and when ClickHouse went back. Kept for some days."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.model.checkpoints import Mark, Past, PastMark, Rollback, Server
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.rows import MICROSECONDS, append_rows, catch_up, time_text
from dyncdc.sinks.state.tables import CHECKPOINT_HISTORY, HISTORY_DAYS, ROLLBACKS


async def remember(clickhouse: ClickHouse, pipeline: str, marks: Sequence[PastMark]) -> None:
    """Append to the history, in one insert."""
    rows = [
        {
            "pipeline": pipeline,
            "source": mark.source,
            "shard": mark.shard,
            "position": mark.mark.position,
            "read_until": time_text(mark.mark.read_until),
            "epoch": mark.epoch,
            "ordinal": mark.ordinal,
            "begins": int(mark.begins),
        }
        for mark in marks
    ]
    await append_rows(clickhouse, CHECKPOINT_HISTORY, rows, doing=f"remembering {len(rows)} checkpoints")


async def past(clickhouse: ClickHouse, pipeline: str, server: Server, rows: int) -> Past:
    """The newest past marks of each shard, and when a server before this one took the last of all."""
    await catch_up(clickhouse, CHECKPOINT_HISTORY)
    doing = "loading the history of checkpoints"
    kept = (
        f"FROM {CHECKPOINT_HISTORY} WHERE pipeline = {quote_text(pipeline)}"
        f" AND saved_at > now64(6) - INTERVAL {HISTORY_DAYS} DAY"
    )
    found = await clickhouse.fetch(
        "SELECT source, shard, position, toUnixTimestamp64Micro(read_until), epoch, ordinal, begins, server,"
        f" toUnixTimestamp64Micro(saved_at) {kept}"
        f" ORDER BY epoch DESC, ordinal DESC, saved_at DESC LIMIT {rows} BY source, shard",
        doing=doing,
    )
    before = f"saved_at < toDateTime64('{time_text(server.started_at)}', 6, 'UTC')"
    if server.id:
        before = f"({before} OR server != {quote_text(server.id)})"
    ((last,),) = await clickhouse.fetch(
        f"SELECT max(toUnixTimestamp64Micro(saved_at)) {kept} AND {before}", doing=doing
    )
    return Past(
        [
            PastMark(
                SourceId(source),
                ShardId(shard),
                Mark(Position(position), read_until / MICROSECONDS),
                epoch,
                ordinal,
                bool(begins),
                taken_by,
                saved_at / MICROSECONDS,
            )
            for source, shard, position, read_until, epoch, ordinal, begins, taken_by, saved_at in reversed(found)
        ],
        last / MICROSECONDS,
    )


async def note_rollback(clickhouse: ClickHouse, pipeline: str, member: int) -> None:
    """Append to ``dyncdc_rollbacks``."""
    row = {"pipeline": pipeline, "member": member}
    await append_rows(clickhouse, ROLLBACKS, [row], "noting that ClickHouse went back")


async def rollbacks(clickhouse: ClickHouse, pipeline: str) -> Sequence[Rollback]:
    """Those of the days for which past marks are kept, oldest first."""
    await catch_up(clickhouse, ROLLBACKS)
    rows = await clickhouse.fetch(
        f"SELECT DISTINCT member, toUnixTimestamp64Micro(noticed_at) AS at FROM {ROLLBACKS}"
        f" WHERE pipeline = {quote_text(pipeline)} AND noticed_at > now64(6) - INTERVAL {HISTORY_DAYS} DAY"
        " ORDER BY at, member",
        doing="looking when ClickHouse went back",
    )
    return [Rollback(int(member), at / MICROSECONDS) for member, at in rows]

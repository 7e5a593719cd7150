"""Checkpoints and snapshots in ClickHouse: append-only rows, read back by rank. Never deleted, never rewritten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from ..model import Checkpoint, Mark, Position, ShardId, Snapshot, SnapshotState, SourceId
from .connection import ClickHouse
from .names import quote_text
from .own_rows import MICROSECONDS, append_rows, catch_up, time_text
from .own_tables import ACCEPTED, CHECKPOINTS, GAPS, SNAPSHOTS

ORDINAL_BITS = 64

SHARDS_A_QUERY = 500
"""A statement may have 256 KiB; the key of an export's file up to 1 KiB is unusual, 100 bytes are usual."""


class ClickHouseCheckpoints:
    """``dyncdc_checkpoints`` of one pipeline. The greatest (finished, rank) of a shard wins: finished is sticky."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline

    async def load(self) -> Sequence[Checkpoint]:
        """Every shard's winning row. ``epoch`` is the greatest that any row of the shard carries.

        Without the files of snapshots that a later one of the same table has followed: nobody goes back to these, and
        with the years they become many. A replica that does not know of the later one yet only leaves out less.
        """
        await catch_up(self._clickhouse, CHECKPOINTS)
        return await self._winners(f" AND source NOT IN ({self._followed_snapshots()})", "loading checkpoints")

    def _followed_snapshots(self) -> str:
        begun = (
            "SELECT id, any(table) AS of, any(destination_uuid) AS into, (min(updated_at), id) AS place"
            f" FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} GROUP BY id"
        )
        newest = f"SELECT argMax(id, place) FROM ({begun}) GROUP BY of, into"
        return f"SELECT id FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} AND id NOT IN ({newest})"

    async def look(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        """As ``load``, of some sources, as this replica has them."""
        if not sources:
            return []
        names = ", ".join(map(quote_text, sources))
        return await self._winners(f" AND source IN ({names})", "looking at the checkpoints of other members")

    async def _winners(self, where: str, doing: str) -> list[Checkpoint]:
        rows = await self._clickhouse.fetch(
            "SELECT source, shard, argMax(position, (finished, rank)), max(finished),"
            " argMax(toUnixTimestamp64Micro(read_until), (finished, rank)), max(epoch),"
            " argMax(ordinal, (finished, rank)), argMax(member, (finished, rank))"
            f" FROM {CHECKPOINTS} WHERE pipeline = {quote_text(self._pipeline)}{where} GROUP BY source, shard",
            doing=doing,
        )
        return [
            Checkpoint(
                SourceId(source),
                ShardId(shard),
                Mark(Position(position), read_until / MICROSECONDS, finished=bool(finished)),
                epoch,
                ordinal,
                member,
            )
            for source, shard, position, finished, read_until, epoch, ordinal, member in rows
        ]

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        """Append the rows in one insert."""
        await append_rows(
            self._clickhouse,
            CHECKPOINTS,
            [
                {
                    "pipeline": self._pipeline,
                    "source": row.source,
                    "shard": row.shard,
                    "position": row.mark.position,
                    "finished": int(row.mark.finished),
                    "read_until": time_text(row.mark.read_until),
                    "epoch": row.epoch,
                    "ordinal": row.ordinal,
                    "rank": str(row.epoch << ORDINAL_BITS | row.ordinal),
                    "member": row.member,
                }
                for row in rows
            ],
            doing=f"saving {len(rows)} checkpoints",
        )

    async def newest_epoch(self, shards: Collection[tuple[SourceId, ShardId]]) -> int:
        """The greatest epoch that any row of these shards carries, 0 when there is none."""
        asked = sorted(shards)
        newest = 0
        for first in range(0, len(asked), SHARDS_A_QUERY):
            by_source: dict[SourceId, list[str]] = {}
            for source, shard in asked[first : first + SHARDS_A_QUERY]:
                by_source.setdefault(source, []).append(quote_text(shard))
            where = " OR ".join(
                f"(source = {quote_text(source)} AND shard IN ({', '.join(names)}))"
                for source, names in by_source.items()
            )
            rows = await self._clickhouse.fetch(
                f"SELECT max(epoch) FROM {CHECKPOINTS} WHERE pipeline = {quote_text(self._pipeline)} AND ({where})",
                doing="looking for a newer epoch",
            )
            newest = max(newest, int(rows[0][0]))
        return newest

    async def server_time(self) -> float:
        """Seconds since the epoch by ClickHouse's clock."""
        rows = await self._clickhouse.fetch("SELECT toUnixTimestamp64Micro(now64(6))", doing="asking ClickHouse's time")
        return int(rows[0][0]) / MICROSECONDS


class ClickHouseSnapshots:
    """``dyncdc_snapshots`` of one pipeline, and the gaps that a snapshot was allowed to leave."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._saves: dict[str, int] = {}

    async def load(self) -> Sequence[Snapshot]:
        """The newest row of every snapshot, oldest snapshot first."""
        await catch_up(self._clickhouse, SNAPSHOTS)
        fields = "table, state, destination_uuid, export_arn, toUnixTimestamp64Micro(export_time), version, segments,"
        rows = await self._clickhouse.fetch(
            f"SELECT id, argMax(({fields} toUnixTimestamp64Micro(covered_from), had_rows, request),"
            " revision)"
            f" FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} GROUP BY id ORDER BY min(updated_at), id",
            doing="loading snapshots",
        )
        found = []
        for id_, values in rows:
            table, state, uuid, arn, export_time, version, segments, covered_from, had_rows, request = values
            found.append(
                Snapshot(
                    id_,
                    table,
                    cast(SnapshotState, state),
                    uuid,
                    arn,
                    export_time / MICROSECONDS,
                    version,
                    segments,
                    covered_from / MICROSECONDS,
                    bool(had_rows),
                    request,
                )
            )
        return found

    async def save(self, snapshot: Snapshot) -> None:
        """Append the snapshot's new state. What a life of a lower epoch still writes does not count."""
        number = self._saves.get(snapshot.id, 0) + 1
        row = {
            "id": snapshot.id,
            "pipeline": self._pipeline,
            "table": snapshot.table,
            "state": snapshot.state,
            "export_arn": snapshot.export_arn,
            "export_time": time_text(snapshot.export_time),
            "version": snapshot.version,
            "segments": snapshot.segments,
            "destination_uuid": snapshot.destination_uuid,
            "covered_from": time_text(snapshot.covered_from),
            "had_rows": int(snapshot.had_rows),
            "request": snapshot.request,
            "revision": str(snapshot.epoch << ORDINAL_BITS | number),
        }
        await append_rows(self._clickhouse, SNAPSHOTS, [row], doing=f"saving the snapshot of {snapshot.table}")
        self._saves[snapshot.id] = number

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        """Append a gap that the user has accepted; ``begin`` and ``end`` in seconds."""
        row = {
            "pipeline": self._pipeline,
            "table": table,
            "source": source,
            "shard": "",
            "from": time_text(begin),
            "to": time_text(end),
            "reason": ACCEPTED,
        }
        await append_rows(self._clickhouse, GAPS, [row], doing=f"recording a gap of {table}")

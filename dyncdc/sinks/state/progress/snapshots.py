"""Snapshots in ClickHouse: append-only rows, read back by revision. Never deleted, never rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dyncdc.model.snapshots import Snapshot, SnapshotState
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.rows import MICROSECONDS, ORDINAL_BITS, append_rows, catch_up, time_text
from dyncdc.sinks.state.tables import ACCEPTED, GAPS, SNAPSHOTS


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
        ranks = f"toUInt64(bitShiftRight(revision, {ORDINAL_BITS})), toUnixTimestamp64Micro(updated_at)"
        rows = await self._clickhouse.fetch(
            f"SELECT id, argMax(({fields} toUnixTimestamp64Micro(covered_from), had_rows, request, {ranks}),"
            " revision)"
            f" FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} GROUP BY id ORDER BY min(updated_at), id",
            doing="loading snapshots",
        )
        found = []
        for id_, values in rows:
            table, state, uuid, arn, export_time, version, segments, covered_from, had_rows, request, *saved = values
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
                    epoch=saved[0],
                    saved_at=saved[1] / MICROSECONDS,
                )
            )
        return found

    async def save(self, snapshot: Snapshot) -> None:
        """Append the snapshot's new state. What a session of a lower epoch still writes does not count."""
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

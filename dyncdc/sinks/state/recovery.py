"""Gaps, requests and what each table was followed on, in ClickHouse. Append-only: what is closed stays closed.

A gap is closed up to an instant: one that ends later is open.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.shards import SourceId
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse

from .rows import MICROSECONDS, append_rows, catch_up, time_text
from .tables import ACCEPTED, GAPS, REQUESTS, TABLE_SOURCES

SNAPSHOT: Final = "snapshot"
"""The kind of a request for a snapshot."""

ACCEPT_DELETES: Final = "accept-deletes"
"""The kind of a word about a snapshot or a request: it is never done with, and says nothing of any other."""

_MICRO: Final = "toUnixTimestamp64Micro"


def acceptance(name: str) -> str:
    """The id under which deletes are accepted for the snapshot, or the request, of that name."""
    return f"{ACCEPT_DELETES}:{name}"


async def has_request(clickhouse: ClickHouse, pipeline: str, ids: Sequence[str]) -> bool:
    """Whether there is any request of these ids."""
    if not ids:
        return False
    rows = await clickhouse.fetch(
        f"SELECT 1 FROM {REQUESTS} WHERE pipeline = {quote_text(pipeline)}"
        f" AND id IN ({', '.join(map(quote_text, ids))}) LIMIT 1",
        doing="looking for accepted deletes",
    )
    return bool(rows)


class ClickHouseRecovery:
    """``dyncdc_gaps``, ``dyncdc_requests``, ``dyncdc_table_sources`` of one pipeline. Implements ``RecoveryStore``."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline

    @property
    def _mine(self) -> str:
        return f"pipeline = {quote_text(self._pipeline)}"

    async def server_time(self) -> float:
        """Seconds since the epoch by ClickHouse's clock."""
        rows = await self._clickhouse.fetch("SELECT toUnixTimestamp64Micro(now64(6))", doing="asking ClickHouse's time")
        return int(rows[0][0]) / MICROSECONDS

    async def open_gaps(self) -> Sequence[Gap]:
        """Every gap that was not recovered, or went on behind what was, the earliest first."""
        await catch_up(self._clickhouse, GAPS)
        rows = await self._clickhouse.fetch(
            f"SELECT `table`, source, shard, {_MICRO}(`from`) AS begin, {_MICRO}(max(`to`)), argMax(position, `to`),"
            f" argMax(reason, `to`), {_MICRO}(min(noticed_at)) FROM {GAPS} WHERE {self._mine}"
            " GROUP BY `table`, source, shard, `from` HAVING max(recovered_at) IS NULL"
            " OR max(`to`) > maxIf(`to`, recovered_at IS NOT NULL) ORDER BY begin, `table`, shard",
            doing="loading gaps",
        )
        return [
            Gap(
                table,
                source,
                shard,
                begin / MICROSECONDS,
                end / MICROSECONDS,
                position,
                reason,
                reason == ACCEPTED,
                noticed_at / MICROSECONDS,
            )
            for table, source, shard, begin, end, position, reason, noticed_at in rows
        ]

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        """Append the gaps, open or recovered."""
        if not gaps:
            return
        rows = [
            {
                "pipeline": self._pipeline,
                "table": gap.table,
                "source": gap.source,
                "shard": gap.shard,
                "from": time_text(gap.begin),
                "to": time_text(gap.end),
                "position": gap.position,
                "reason": gap.reason,
                "noticed_at": time_text(gap.noticed_at),
                "recovered_at": None if recovered_at is None else time_text(recovered_at),
            }
            for gap in gaps
        ]
        await append_rows(self._clickhouse, GAPS, rows, doing=f"saving {len(rows)} gaps")

    async def open_requests(self) -> Sequence[Request]:
        """Every request for a snapshot without a ``done_at``, the earliest first."""
        rows = await self._clickhouse.fetch(
            f"SELECT id, any(`table`), {_MICRO}(min(requested_at)) AS at FROM {REQUESTS}"
            f" WHERE {self._mine} AND kind = {quote_text(SNAPSHOT)}"
            " GROUP BY id HAVING max(done_at) IS NULL ORDER BY at, id",
            doing="looking for requests",
        )
        return [Request(id_, table, at / MICROSECONDS) for id_, table, at in rows]

    async def accept_deletes(self, table: str, name: str) -> None:
        """Say of a snapshot, or of a request for one, that it may mark most items as deleted."""
        row = {"id": acceptance(name), "pipeline": self._pipeline, "table": table, "kind": ACCEPT_DELETES}
        await append_rows(self._clickhouse, REQUESTS, [row], doing=f"accepting deletes in {table}")

    async def request(self, table: str, *, accept_deletes: bool = False) -> str:
        """Ask for a fresh snapshot of a table; return the request's id.

        It is dated after all that were asked for before, whatever the clock says: a snapshot answers those up to its
        own, and what was damaged since it began must not count as fixed.
        """
        id_ = uuid.uuid4().hex
        if accept_deletes:  # first: the request may be taken up at once
            await self.accept_deletes(table, id_)
        await catch_up(self._clickhouse, REQUESTS)
        rows = await self._clickhouse.fetch(
            f"SELECT {_MICRO}(greatest(now64(6), max(requested_at) + toIntervalMicrosecond(1))) FROM {REQUESTS}"
            f" WHERE {self._mine} AND kind = {quote_text(SNAPSHOT)}",
            doing=f"asking for a snapshot of {table}",
        )
        at = time_text(int(rows[0][0]) / MICROSECONDS)
        row = {"id": id_, "pipeline": self._pipeline, "table": table, "kind": SNAPSHOT, "requested_at": at}
        await append_rows(self._clickhouse, REQUESTS, [row], doing=f"asking for a snapshot of {table}")
        return id_

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        """Mark requests as done."""
        if not requests:
            return
        rows = [
            {
                "id": request.id,
                "pipeline": self._pipeline,
                "table": request.table,
                "kind": SNAPSHOT,
                "requested_at": time_text(request.requested_at),
                "done_at": time_text(done_at),
            }
            for request in requests
        ]
        await append_rows(self._clickhouse, REQUESTS, rows, doing=f"finishing {len(rows)} requests")

    async def table_sources(self) -> Sequence[TableSource]:
        """For each table, the session that followed it last."""
        await catch_up(self._clickhouse, TABLE_SOURCES)
        rows = await self._clickhouse.fetch(
            f"SELECT `table`, argMax(source, (epoch, checkpointed)), max(epoch),"
            f" {_MICRO}(argMax(recorded_at, (epoch, checkpointed))),"
            " argMax(checkpointed, (epoch, checkpointed)), argMax(empty, (epoch, checkpointed))"
            f" FROM {TABLE_SOURCES} WHERE {self._mine} GROUP BY `table` ORDER BY `table`",
            doing="loading which streams the tables were read from",
        )
        return [
            TableSource(table, SourceId(source), epoch, at / MICROSECONDS, bool(held), empty)
            for table, source, epoch, at, held, empty in rows
        ]

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        """Append what this session follows."""
        if not tables:
            return
        rows = [
            {
                "pipeline": self._pipeline,
                "table": row.table,
                "source": row.source,
                "epoch": row.epoch,
                "checkpointed": int(row.held),
                "empty": row.empty,
                "recorded_at": time_text(row.at),
            }
            for row in tables
        ]
        await append_rows(self._clickhouse, TABLE_SOURCES, rows, doing="saving which streams the tables are read from")

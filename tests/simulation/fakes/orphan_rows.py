"""The sweep of a later snapshot over the fake ClickHouse, with its faults and probes."""

from __future__ import annotations

from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.orphan_rows import Counted, Swept
from simulation.process_run import Life

from .clickhouse import ClickHouse, Row


class OrphanRowsClient:
    """The sweep of a later snapshot as one session sees it: nothing may be taken for deleted before the last file."""

    RANGE_KEYS = 7

    def __init__(self, server: ClickHouse, session: Life) -> None:
        self._server = server
        self._session = session

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        await self._session.ask("counting dead letters")
        return 0

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        await self._session.ask("counting")
        rows = [row for row in self._server.tables.get(table, {}).values() if not row.deleted]
        return Counted(len(rows), sum(row.version < version for row in rows), None)

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        await self._session.takes(0.001, 0.05)
        return False

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        session, server = self._session, self._server
        self._probe(table, version)
        await session.ask("sweeping")
        rows = server.tables.get(table, {})
        keys = sorted(key for key in rows if (key,) > after)[: self.RANGE_KEYS]
        orphan_rows = [key for key in keys if rows[key].version < version and not rows[key].deleted]
        rows.update((key, Row(version - 1, -1, "", True)) for key in orphan_rows)
        await session.reach("while sweeping")
        return Swept(len(orphan_rows), (keys[-1],) if len(keys) == self.RANGE_KEYS else None)

    def _probe(self, table: str, version: int) -> None:
        server = self._server
        (snapshot,) = (one for one in server.snapshots.values() if one.table == table)
        if len(server.finished(snapshot.id)) != server.export_files.get(snapshot.export_arn):
            raise self._session.violated(f"{table} is swept before the last file of its snapshot")
        if snapshot.version != version or not snapshot.had_rows:
            raise self._session.violated(f"{table} is swept for no snapshot of its own")

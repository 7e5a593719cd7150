"""Table sources: what each table was read from before this session, and what it is read from now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.runtime import ShownRetrier

from .gaps import last_covered, missed_since
from .policy import Policy

Loaded = tuple[str, str | None]
"""A table and the UUID of its destination."""


@dataclass(frozen=True, slots=True)
class _Snapshots:
    """What earlier sessions did. AWS was asked for ``exported`` tables, and only after positions were saved."""

    begun: Collection[Loaded]
    covered: Collection[Loaded]
    exported: Collection[str]

    @classmethod
    def of(cls, known: Sequence[Snapshot]) -> _Snapshots:
        return cls(
            {(snapshot.table, snapshot.destination_uuid) for snapshot in known},
            {(snapshot.table, snapshot.destination_uuid) for snapshot in known if snapshot.covered_from},
            {snapshot.table for snapshot in known if snapshot.export_arn},
        )


class TableSources:
    """The table sources of earlier sessions, and of this one once they are saved."""

    def __init__(self, store: RecoveryStore, policy: Policy, retry: ShownRetrier) -> None:
        self._store = store
        self._policy = policy
        self._retry = retry
        self._before: dict[str, TableSource] = {}
        self._followed: dict[str, TableSource] = {}
        self._covered: dict[str, float] = {}

    async def compare(
        self, sources: Sequence[Source], snapshots: SnapshotStore, checkpointer: Checkpointer
    ) -> tuple[list[TableSource], list[Gap]]:
        """Return what this session reads its tables from, and what was lost between the last session and this one."""
        self._before = {row.table: row for row in await self._retry(self._store.table_sources)}
        if any(not checkpointer.progress.saved(row.source) for row in self._before.values()):
            # Another process may have begun, saved and said so since we have loaded the checkpoints.
            await self._retry(checkpointer.peers.load_again)
        known = _Snapshots.of(await self._retry(snapshots.load) if self._before else ())
        followed: list[TableSource] = []
        gaps: list[Gap] = []
        for source in sources:
            for table in self._policy.tables.get(source.id, ()):
                followed.append(self._follow(table, source, known, checkpointer))
                gaps += self._missed(table, source, known, checkpointer)
        return followed, gaps

    async def save(self, followed: Sequence[TableSource]) -> None:
        """Make durable what this session reads its tables from, before it reads anything."""
        await self._retry(lambda: self._store.save_table_sources(followed))
        self._followed = {row.table: row for row in followed}

    def _follow(self, table: str, source: Source, known: _Snapshots, checkpointer: Checkpointer) -> TableSource:
        before, uuid = self._before.get(table), self._policy.destinations.get(table)
        held = False
        if before is not None and before.source == source.id:
            held = before.held
            if (table, uuid) in known.covered:
                self._covered[table] = last_covered(before, checkpointer.progress.saved(source.id))
        was_empty = table in self._policy.empty or (before is not None and before.empty == (uuid or ""))
        empty = (uuid or "") if was_empty else ""
        return TableSource(table, source.id, checkpointer.ownership.epoch, source.server_time, held, empty)

    def _missed(self, table: str, source: Source, known: _Snapshots, checkpointer: Checkpointer) -> Iterable[Gap]:
        before, uuid = self._before.get(table), self._policy.destinations.get(table)
        if before is None or (uuid is not None and (table, uuid) not in known.begun):
            return ()
        if before.epoch > checkpointer.ownership.epoch:
            return ()  # of a later session: we were frozen between two reads and are replaced; what we know is old
        return missed_since(
            replace(before, held=before.held or table in known.exported),
            source.id,
            checkpointer.progress.newest_epoch(source.id),
            checkpointer.progress.saved(before.source),
            source.server_time,
            self._policy.created.get(table, 0.0),
        )

    def covered(self, table: str) -> float:
        """Up to when, at least, a table sent its changes to the stream in earlier sessions; 0 if that is unknown."""
        return self._covered.get(table, 0.0)

    def was_empty(self, table: str, uuid: str) -> bool:
        """Whether a destination held no rows when the first session followed the table into it."""
        row = self._followed.get(table)
        return row is not None and row.empty == uuid

    def was_followed(self, table: str) -> bool:
        """Whether an earlier session followed the table."""
        return table in self._before

    def was_checkpointed(self, source: SourceId) -> bool:
        """Whether every shard of a source has had a saved position."""
        return any(row.held for row in self._followed.values() if row.source == source)

    async def checkpointed(self, source: SourceId) -> None:
        """Remember that every shard of a source has a saved position."""
        rows = [replace(row, held=True) for row in self._followed.values() if row.source == source and not row.held]
        if rows:
            await self._retry(lambda: self._store.save_table_sources(rows))
            self._followed.update((row.table, row) for row in rows)

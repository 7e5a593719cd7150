"""Cleaning up tombstones: up to when nothing can come back that one of them still holds down, and when to look.

A tombstone may go only when no older row of its key can be written any more. So everything that could still write one
is asked, all of it from what is durable: it does not matter which process looks, or what others are in the middle of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dyncdc.errors import DyncdcError
from dyncdc.model.checkpoints import Checkpoint
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.ports.tombstones import Tombstones
from dyncdc.pipeline.snapshot.plan import SnapshotsStanding
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

MARGIN_SECONDS: Final = 3600.0
"""How much older than anything that could be replayed a tombstone must be: records come late, clocks differ."""

INTERVAL_SECONDS: Final = 3600.0
FIRST_SECONDS: Final = 5.0
"""Until the first look of a session, and between two looks while that one could not be made."""


@dataclass(frozen=True, slots=True)
class TableToClean:
    """A table whose tombstones are cleaned up. ``table`` is DynamoDB's name, ``source`` the stream of its changes.

    ``standing``: whether the saved states of its snapshots may be believed; None where the session loads none.
    """

    table: str
    source: Source
    destination_uuid: str
    standing: SnapshotsStanding | None = None


@dataclass(frozen=True, slots=True)
class DurableState:
    """What ClickHouse knows of a table at one time: all that could still write an old row."""

    rows: Sequence[Checkpoint]
    snapshots: Sequence[Snapshot]
    checkpointed: bool
    """Every shard of the table's stream has, or had, a durable position."""
    dead_letters: int
    """Open dead letters of the table, and those that do not name theirs."""
    gaps: int
    """Open ones: a snapshot is to come."""
    at: float = 0.0
    """When that was, at the earliest, by the clock that dates snapshots."""


def clean_before(
    cleaned: TableToClean, durable: DurableState, *, now: float, margin_seconds: float, replay_seconds: float = 0.0
) -> int | None:
    """Return the version (microseconds) below which tombstones may go, None where none may. ``now``: the stream's time.

    What Kinesis still holds is not older than the retention, what was read and is not written not older than the
    positions, what a snapshot brings not older than its version. A dead letter may hold any of them.
    ``replay_seconds``: what ClickHouse acknowledged so shortly before a restart is read again.
    """
    retention_seconds = cleaned.source.retention_seconds
    marks = [row.mark for row in durable.rows if row.source == cleaned.source.id and not row.mark.finished]
    if retention_seconds is None or not durable.checkpointed or durable.dead_letters or durable.gaps or not marks:
        return None
    bounds = [now - retention_seconds, *(mark.read_until for mark in marks)]
    for snapshot in unfinished(durable.snapshots, cleaned, durable.at - replay_seconds - margin_seconds):
        if not snapshot.version:
            return None  # an export that someone names may be of any age
        bounds.append(snapshot.version / 1_000_000)
    return int((min(bounds) - margin_seconds) * 1_000_000)


def unfinished(snapshots: Sequence[Snapshot], cleaned: TableToClean, since: float) -> list[Snapshot]:
    """Return the snapshots of a destination that may still write, the oldest first: all since the last complete one.

    One that has failed counts as long as no other is complete: its last rows may be on their way. One that is complete
    ``since`` then counts, too: its files are read again should ClickHouse be restarted.
    """
    mine = [
        each for each in snapshots if (each.table, each.destination_uuid) == (cleaned.table, cleaned.destination_uuid)
    ]
    last = max(
        (index for index, each in enumerate(mine) if each.state == "complete" and each.saved_at < since), default=-1
    )
    return mine[last + 1 :]


@dataclass(frozen=True, slots=True)
class TombstoneStores:
    """The tombstones, and all that could still write an old row."""

    checkpoints: CheckpointStore
    snapshots: SnapshotStore
    recovery: RecoveryStore
    tombstones: Tombstones


class TombstoneCleaner:
    """Looks at each table now and then. What keeps it from cleaning is no failure of the pipeline: it looks again."""

    def __init__(
        self,
        tables: Sequence[TableToClean],
        stores: TombstoneStores,
        health: TaskHealth,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        margin_seconds: float = MARGIN_SECONDS,
        replay_seconds: float = 300.0,
    ) -> None:
        self._tables = tables
        self._stores = stores
        self._health = health
        self._interval_seconds = interval_seconds
        self._margin_seconds = margin_seconds
        self._replay_seconds = replay_seconds

    async def run(self) -> None:
        """Look forever, until cancelled; raises nothing that a later look could fix."""
        with self._health.task("tombstones") as task:
            await self._rest(FIRST_SECONDS, task)
            while True:
                looked = True
                for cleaned in self._tables:
                    task.waiting_for(f"ClickHouse to clean up {cleaned.table}")
                    try:
                        looked = await self.clean(cleaned) and looked
                    except DyncdcError as error:
                        self._health.log_retry(f"tombstones:{cleaned.table}", error, self._interval_seconds)
                    task.moved()
                await self._rest(self._interval_seconds if looked else FIRST_SECONDS, task)

    async def clean(self, cleaned: TableToClean) -> bool:
        """Clean up one table, as far as that is safe; return whether one could look: its stream is held, its snapshots
        are judged.

        The limit is durable before anything is deleted, and is kept: an export that is older comes too late from then
        on. One that was faster is seen by the second look.
        """
        before = await self._before(cleaned)
        if before is None:
            return False
        if not await self._stores.tombstones.count(cleaned.table, before):
            return True
        await self._stores.tombstones.promise(cleaned.table, before)
        again = await self._before(cleaned)
        if again is not None and again >= before:
            keys = await self._stores.tombstones.clean(cleaned.table, before)
            self._health.log_info("tombstones cleaned up", table=cleaned.table, keys=keys, before=before)
        return True

    async def _before(self, cleaned: TableToClean) -> int | None:
        if cleaned.standing is not None and not await cleaned.standing.holds():
            return None
        at = await self._stores.recovery.server_time()
        followed = {row.table: row for row in await self._stores.recovery.table_sources()}.get(cleaned.table)
        gaps = [
            gap for gap in await self._stores.recovery.open_gaps() if gap.table == cleaned.table and not gap.accepted
        ]
        durable = DurableState(
            rows=await self._stores.checkpoints.load(),
            snapshots=await self._stores.snapshots.load(),
            checkpointed=followed is not None and followed.source == cleaned.source.id and followed.held,
            dead_letters=await self._stores.tombstones.open_dead_letters(cleaned.table),
            gaps=len(gaps),
            at=at,
        )
        return clean_before(
            cleaned,
            durable,
            now=cleaned.source.server_time,
            margin_seconds=self._margin_seconds,
            replay_seconds=self._replay_seconds,
        )

    @staticmethod
    async def _rest(seconds: float, task: TaskProgress) -> None:
        task.waiting_for("the next look at tombstones", for_seconds=seconds)
        await asyncio.sleep(seconds)

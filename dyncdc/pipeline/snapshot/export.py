"""Export: from a snapshot's first row to an export that can be read. Waits for coverage, asks once, follows up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dyncdc.errors import ConfigError, CorruptSnapshotError
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.snapshots import Origin
from dyncdc.pipeline.recovery.gaps import needs_snapshot
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.telemetry.task_health import TaskProgress

from .plan import Coverage, Journal, SnapshotPlan

EXPORT_FUZZ_SECONDS = 60.0
"""An export's time is exact to a minute only. Source: AWS, ExportTableToPointInTime."""

POLL_FIRST_SECONDS = 0.5
POLL_CEILING_SECONDS = 20.0
"""Pauses between two looks at an export: AWS takes minutes, a local one less than a second."""


COVER_POLL_SECONDS = 5.0
UNSEEN_SECONDS = 10.0
"""A streaming destination may be off and on again while AWS does not answer for longer than that."""

DESTINATION = "DynamoDB to show the streaming destination"
COVERING = (
    "the stream must have brought the table's changes for that long before its snapshot begins (settle_seconds, and"
    " margin_seconds where the destination has rows)"
)
EXPORTING = "AWS exports the table, which takes minutes, of large tables hours"


class SnapshotExport:
    """The first two states of a table's snapshots: ``waiting`` and ``exporting``."""

    def __init__(
        self, plan: SnapshotPlan, origin: Origin, journal: Journal, coverage: Coverage, recovery: Recovery
    ) -> None:
        self._plan = plan
        self._origin = origin
        self._journal = journal
        self._coverage = coverage
        self._recovery = recovery
        self._seen_all_along = True
        """Whether the streaming destination was ACTIVE whenever this session looked, and AWS let it look."""

    async def run(self, snapshot: Snapshot, version_floor: int, task: TaskProgress) -> Snapshot:
        """Return the snapshot once it can be loaded. ``version_floor`` (microseconds): its rows must be newer.

        Raises CorruptSnapshotError when there will be no export, ConfigError for a given one that is too old, and what
        ``Journal.ask`` does not wait for.
        """
        if snapshot.state == "waiting":
            snapshot = await self._ask(await self._cover(snapshot, version_floor, task), task)
        if snapshot.state == "exporting":
            snapshot = await self._exported(snapshot, version_floor, task)
        return snapshot

    async def _cover(self, snapshot: Snapshot, version_floor: int, task: TaskProgress) -> Snapshot:
        """Wait until an export asked for now shows nothing older than what the stream brings."""
        if self._plan.export_arn:
            return await self._seen_active(snapshot, task)
        told = False
        while True:
            snapshot = await self._seen_active(snapshot, task)
            task.waiting_for(DESTINATION)
            now = await self._journal.call_aws(self._origin.covered_at, task)
            gaps = self._recovery.gaps(self._plan.table)
            if now is None or needs_snapshot(snapshot, gaps):  # what was covered has a hole now
                # Changes that were read before the hole may be younger than an export at the usual distance would say.
                snapshot = replace(snapshot, covered_from=0.0, had_rows=True)
                task.planned("")
                await self._journal.save(snapshot)
                continue
            # Rows of a later snapshot must win over those of an earlier one.
            newer = version_floor / 1_000_000 + self._plan.margin_seconds + 1.0 if version_floor else 0.0
            missing = max(snapshot.covered_from + self._needed_seconds(snapshot), newer) - now
            if missing <= 0:
                if await self._has_older_rows(snapshot):
                    snapshot = replace(snapshot, had_rows=True)
                    await self._journal.save(snapshot)
                    continue
                task.planned("")
                return snapshot
            task.moved()  # AWS has answered, and the table is covered all the while
            task.planned(COVERING, for_seconds=missing)
            if not told:
                told = True
                self._journal.tell("snapshot waits", table=self._plan.table, reason=COVERING, seconds=round(missing))
            pause_seconds = min(missing, COVER_POLL_SECONDS)
            task.waiting_for("the stream to cover the table", for_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)

    def _needed_seconds(self, snapshot: Snapshot) -> float:
        """How far the export must lie behind the start of coverage; rows from elsewhere may be as old as the margin."""
        return self._plan.settle_seconds + (self._plan.margin_seconds if snapshot.had_rows else 0.0)

    async def _seen_active(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        loop = asyncio.get_running_loop()
        while not snapshot.covered_from:
            task.waiting_for("positions in the stream")
            await self._coverage.held.wait()
            asked_at = loop.time()
            seen = await self._journal.call_aws(self._origin.covered_at, task)
            if seen is None or seen < self._lost_until or loop.time() - asked_at > UNSEEN_SECONDS:
                self._seen_all_along = False
            if seen is None or seen < self._lost_until or not self._coverage.held.is_set():
                task.waiting_for("the table's streaming destination to become ACTIVE")
                await asyncio.sleep(1.0)
                continue
            had_rows = snapshot.had_rows or await self._has_older_rows(snapshot)
            snapshot = replace(snapshot, covered_from=seen, had_rows=had_rows)
            await self._journal.save(snapshot)
        return snapshot

    async def _has_older_rows(self, snapshot: Snapshot) -> bool:
        """Whether rows that came from the stream may be older than changes that no stream has."""
        if snapshot.had_rows or self._seen_all_along:
            return False
        return await self._journal.retry(self._plan.has_rows)

    @property
    def _lost_until(self) -> float:
        """Until when changes of the table were lost: coverage can begin only then."""
        return max((gap.end for gap in self._recovery.gaps(self._plan.table)), default=0.0)

    async def _ask(self, snapshot: Snapshot, task: TaskProgress) -> Snapshot:
        """Make AWS export the table, once: the row is durable before the call, and the call carries its id."""
        if not self._plan.export_arn:
            snapshot = replace(snapshot, state="exporting")
            await self._journal.save(snapshot)
            return snapshot
        export = await self._journal.call_aws(lambda: self._origin.describe_export(self._plan.export_arn), task)
        missing = snapshot.covered_from + self._needed_seconds(snapshot) - export.export_time
        if missing > 0:
            if not self._plan.accept_gap:
                raise ConfigError(
                    f"loading {self._plan.table}: the given export is {missing:.0f} s too old: what changed between it"
                    " and the first position in the stream would be missing",
                    hint="make another export now and name it, or set snapshot.accept_gap = true to take the gap",
                )
            begin, end = export.export_time - self._plan.margin_seconds, snapshot.covered_from
            await self._journal.accept_gap(self._plan.table, export.arn, begin, end)
        if await self._too_old(export.export_time):
            raise ConfigError(self._comes_too_late, hint="make another export now and name it")
        snapshot = replace(snapshot, state="exporting", export_arn=export.arn)
        await self._journal.save(snapshot)
        return snapshot

    @property
    def _comes_too_late(self) -> str:
        return (
            f"loading {self._plan.table}: the export is older than the tombstones that were cleaned up: items deleted"
            " since then would come back"
        )

    async def _too_old(self, export_time: float) -> bool:
        """Whether an export may show items whose tombstones are already deleted. Its time is exact to a minute."""
        oldest = export_time - max(self._plan.margin_seconds, EXPORT_FUZZ_SECONDS)
        return oldest * 1_000_000 < await self._journal.retry(self._plan.cleaned_before)

    async def _exported(self, snapshot: Snapshot, version_floor: int, task: TaskProgress) -> Snapshot:
        """Wait for AWS to finish the export."""
        export = await self._journal.call_aws(
            (lambda: self._origin.describe_export(snapshot.export_arn))
            if snapshot.export_arn
            else (lambda: self._origin.request_export(snapshot.id)),
            task,
        )
        snapshot = replace(
            snapshot,
            export_arn=export.arn,
            export_time=export.export_time,
            segments=export.segments,
            version=int((export.export_time - self._plan.margin_seconds) * 1_000_000),
        )
        if snapshot.version <= version_floor:
            await self._journal.save(replace(snapshot, state="failed", version=0))
            raise CorruptSnapshotError(
                f"exporting {self._plan.table}: the export is not newer than the snapshot before it",
                hint="ask for a snapshot once more",
            )
        await self._journal.save(snapshot)
        # Behind the save: the cleaner looks for unfinished snapshots once more after raising the limit.
        if await self._too_old(export.export_time):
            await self._journal.save(replace(snapshot, state="failed"))
            raise CorruptSnapshotError(self._comes_too_late, hint="ask for a snapshot once more")
        pause_seconds = POLL_FIRST_SECONDS
        while export.status == "IN_PROGRESS":
            task.moved()
            task.planned(EXPORTING)
            task.waiting_for("AWS to export the table", for_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)
            task.waiting_for("AWS to describe the export")
            pause_seconds = min(pause_seconds * 1.5, POLL_CEILING_SECONDS)
            export = await self._journal.call_aws(lambda: self._origin.describe_export(snapshot.export_arn), task)
        task.planned("")
        if export.status == "FAILED":
            await self._journal.save(replace(snapshot, state="failed"))
            raise CorruptSnapshotError(
                f"exporting {self._plan.table}: AWS gave up: {export.failure}",
                hint=f"fix it, then run `dyncdc snapshot {self._plan.table}` or restart: that asks for another",
            )
        snapshot = replace(snapshot, state="loading")
        await self._journal.save(snapshot)
        return snapshot

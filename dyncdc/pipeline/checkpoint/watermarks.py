"""Watermarks: up to which instant the destination holds everything. Reads what is durable; decides nothing else.

Positions are taken before anything is asked about dead letters, gaps and snapshots: what a position has passed is, by
then, a row, or a dead letter that the question shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dyncdc.errors import RetryableError
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.model.watermarks import Watermark
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.watermarks import WatermarkStore
from dyncdc.pipeline.recovery.rewind import Rewind
from dyncdc.pipeline.runtime import Instruments, Retrier

INTERVAL_SECONDS = 5.0
STREAM_DELAY_SECONDS = 60.0
"""A change may reach the stream this long after it was made, or longer where that was seen of late."""

LAST_SECONDS = 2.0
"""How long a session that ends tries to say how far it came."""


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """One table. ``complete_until``: of its stream, as its reader reports it; ``delay``: seconds into that, as seen.

    ``destination_uuid``: what a snapshot must have been made for; None where there is no snapshot to wait for.
    """

    table: str
    source: SourceId
    complete_until: Callable[[], float | None]
    delay: Callable[[], float]
    destination_uuid: str | None


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What is known to be missing, whatever the positions say."""

    loaded: bool
    """Whether a first snapshot is complete, or there is none to wait for."""
    open_dead_letters: bool
    open_gaps: bool


def complete_until(read_until: float | None, last: float | None, obstacles: Obstacles, delay: float) -> float | None:
    """Return up to which instant a table is complete, in seconds; None while no instant can be named.

    ``read_until``: what the positions say. ``last``: what was true before, and so still is: an open dead letter or gap,
    or a position that is not known yet, holds the watermark where it was.
    """
    if not obstacles.loaded:
        return None
    if obstacles.open_dead_letters or obstacles.open_gaps or read_until is None:
        return last
    return max(read_until - delay, last or 0.0)


def least(rows: Iterable[Watermark]) -> dict[str, float | None]:
    """Return for each table the least over all members; None while one of them is missing. ``rows``: newest last."""
    assignments: dict[str, dict[int, Watermark]] = {}
    for row in rows:
        members = assignments.setdefault(row.table, {})
        if any(other.members != row.members for other in members.values()):
            members.clear()  # another assignment came after that one
        members[row.member] = row
    found: dict[str, float | None] = {}
    for table, members in assignments.items():
        marks = [row.complete_until for row in members.values()]
        known = [mark for mark in marks if mark is not None]
        whole = all(len(members) >= row.members for row in members.values()) and len(known) == len(marks)
        found[table] = min(known) if whole else None
    return found


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class WatermarkStores:
    """Where watermarks are kept, and what says whether a table is complete."""

    watermarks: WatermarkStore
    snapshots: SnapshotStore
    gaps: RecoveryStore


@dataclass(frozen=True, slots=True)
class WatermarkChecks:
    """``before_look`` is called before each pause. ``still_there`` raises when what the positions say may be lost."""

    before_look: Callable[[], None] = lambda: None
    still_there: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True)
class WatermarkTiming:
    """``delay_seconds``: a change may reach its stream so long after it was made."""

    delay_seconds: float = STREAM_DELAY_SECONDS
    interval_seconds: float = INTERVAL_SECONDS


class Watermarks:
    """This member's watermarks, kept in the metrics and in ``dyncdc_watermarks``."""

    def __init__(
        self,
        tables: Sequence[WatchedTable],
        assignment: Assignment,
        stores: WatermarkStores,
        instruments: Instruments,
        checks: WatermarkChecks,
        timing: WatermarkTiming,
    ) -> None:
        self._tables = tables
        self._assignment = assignment
        self._stores = stores
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._retry = Retrier(instruments, "watermarks", "watermarks")
        self._checks = checks
        self._timing = timing
        self._last: dict[str, float | None] | None = None

    async def run(self) -> None:
        """Look, and say so, until cancelled. Raises FatalError."""
        with self._health.task("watermarks") as task:
            while True:
                task.waiting_for("ClickHouse to take the watermarks")
                with self._retry.tolerate(self._timing.interval_seconds):
                    await self.mark()
                    task.moved()
                task.waiting_for("the next watermarks", for_seconds=self._timing.interval_seconds)
                self._checks.before_look()
                await asyncio.sleep(self._timing.interval_seconds)

    async def last(self) -> None:
        """Say once more how far this session came, if that can be said quickly."""
        with suppress(RetryableError, TimeoutError):  # what was said before stays true
            async with asyncio.timeout(LAST_SECONDS):
                await self.mark()

    async def mark(self) -> None:
        """Find out how far each table is, and make that durable. Raises RetryableError, FatalError."""
        if self._last is None:
            self._last = await self._before()
        read_until = {each.table: each.complete_until() for each in self._tables}  # before everything else: see above
        dead_letters = await self._stores.watermarks.open_dead_letters()
        gaps = {gap.table for gap in await self._stores.gaps.open_gaps()}
        snapshots = await self._stores.snapshots.load()
        found = {}
        for each in self._tables:
            obstacles = Obstacles(
                loaded=_loaded(each, snapshots),
                open_dead_letters=any(
                    table == each.table or (not table and source == each.source) for table, source in dead_letters
                ),
                open_gaps=each.table in gaps,
            )
            delay_seconds = max(self._timing.delay_seconds, each.delay())
            found[each.table] = complete_until(
                read_until[each.table], self._last.get(each.table), obstacles, delay_seconds
            )
        await self._say(found)

    async def take_back(self, rewind: Rewind) -> None:
        """Name no instant any more where what made a former one true may be lost. Raises FatalError.

        A watermark runs ahead of the saved positions, so it may be lost where there is nothing to rewind.
        """
        nothing: dict[str, float | None] = {each.table: None for each in self._tables}
        with self._health.task("watermarks") as task:
            task.waiting_for("ClickHouse to take back the watermarks")
            known = await self._retry(self._stores.watermarks.load)
            if rewind.marks or any(rewind.acknowledged_before(row.saved_at) for row in known):
                await self._retry(lambda: self._say(nothing))

    async def _say(self, found: dict[str, float | None]) -> None:
        await self._checks.still_there()
        await self._stores.watermarks.save(
            [Watermark(table, self._assignment.member, self._assignment.members, at) for table, at in found.items()]
        )
        self._last = found
        for table, at in found.items():
            self._metrics.completed(table, at)

    async def _before(self) -> dict[str, float | None]:
        """What earlier sessions could say for sure: the least of what all of the newest assignment said."""
        tables: Collection[str] = {each.table for each in self._tables}
        known: Mapping[str, float | None] = least(await self._stores.watermarks.load())
        return {table: at for table, at in known.items() if table in tables}


def _loaded(each: WatchedTable, snapshots: Sequence[Snapshot]) -> bool:
    """While a table is loaded again it is as complete as it was."""
    return each.destination_uuid is None or any(
        (found.table, found.destination_uuid, found.state) == (each.table, each.destination_uuid, "complete")
        for found in snapshots
    )

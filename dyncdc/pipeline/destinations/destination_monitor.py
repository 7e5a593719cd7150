"""Destination monitor: is every destination still the ClickHouse table that was written, holding what it held?

A table exchanged for another ends the session; the next one begins with the table that stands there. What a table
missed while another stood under its name, and rows that were taken out of it, become gaps: recovery decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.shard_progress import ShardProgress
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments, Retrier
from dyncdc.telemetry.task_health import TaskProgress

from .binding_changes import EMPTIED, EarlierBindings, blocks_of, is_bound, is_emptied, missed_by, proven_until
from .bindings import Binding, DestinationContents, DestinationState, DestinationStore, Target
from .known_contents import SAVE_SECONDS, KnownContents
from .schema_evolution import DestinationChangedError

T = TypeVar("T")

LOOK_SECONDS = 5.0
MISSING_LOOKS = 2
"""A table renamed and another renamed into its place: for a moment there is none."""


@dataclass(frozen=True, slots=True)
class MonitoredTable:
    """A table, by DynamoDB's name: where its changes go, and the stream that brings them."""

    table: str
    target: Target
    source: Source


class DestinationMonitor:
    """All destinations of one pipeline."""

    def __init__(
        self,
        pipeline: str,
        tables: Sequence[MonitoredTable],
        store: DestinationStore,
        snapshots: SnapshotStore,
        recovery: Recovery,
        instruments: Instruments,
    ) -> None:
        self._pipeline = pipeline
        self._targets = {each.table: each.target for each in tables}
        self._sources = {each.table: each.source for each in tables}
        self._store = store
        self._snapshots = snapshots
        self._recovery = recovery
        self._instruments = instruments
        self._retry = Retrier(instruments, "destinations", self.name, first_seconds=0.5)
        self._bound: dict[str, Binding] = {}
        self._contents = KnownContents(store, self._retry)
        self._missing: dict[str, int] = {}
        self._reported_blind = False

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return "destinations"

    async def begin(self, progress: ShardProgress, *, leads: bool) -> None:
        """Write down what the tables missed and where their changes go from now on, in this order.

        Once per session, before anything is read. ``leads``: also find out whether rows were taken away meanwhile.

        Raises FatalError when a gap may not, or cannot, be made good.
        """
        bindings = list(await self._retry(self._store.bindings))
        snapshots = await self._retry(self._snapshots.load)
        gaps: list[Gap] = []
        new: list[Binding] = []
        for table, target in self._targets.items():
            held = [row for row in bindings if row.target.uuid == target.uuid]
            if held:
                self._contents.note(table, held[-1].held, held[-1].saved_at)
            mine = [row for row in bindings if (row.pipeline, row.target.table) == (self._pipeline, table)]
            theirs = [one for one in snapshots if one.table == table]
            end = self._instant(table, theirs)
            gap = missed_by(target, EarlierBindings(mine, theirs), self._sources[table].id, end)
            if gap is not None and all(known.end < end for known in self._recovery.gaps(table)):
                gaps.append(gap)
            if is_bound(target, mine, bindings):
                self._bound[table] = mine[-1]
                continue
            marks = progress.saved(self._sources[table].id)
            number = max((row.number for row in bindings), default=0) + 1
            row = Binding(self._pipeline, target, number, proven_until(marks, self._sources[table].server_time))
            self._bound[table] = row
            bindings.append(row)
            new.append(row)
        await self._recovery.missed(gaps)
        await self._retry(lambda: self._store.save_bindings(new))
        if leads:
            with self._instruments.health.task("destinations") as task:
                task.waiting_for("ClickHouse to show the destinations, from a replica that has all parts")
                await self._retry(partial(self._look, task))
                while not self._reported_blind and self._suspects(await self._retry(self._all)):
                    await asyncio.sleep(1.0)
                    await self._retry(partial(self._look, task))

    def _instant(self, table: str, snapshots: Sequence[Snapshot]) -> float:
        """Now, and not before the coverage of any snapshot began: it is no proof for what was missed until now."""
        begun = max((one.covered_from for one in snapshots if one.table == table), default=0.0)
        return max(self._sources[table].server_time, begun + 0.001)

    async def run(self) -> None:
        """Look forever. Raises DestinationChangedError, and FatalError for a gap that may not be made good."""
        with self._instruments.health.task("destinations") as task:
            while True:
                task.waiting_for("the next look at the destinations", for_seconds=LOOK_SECONDS)
                await asyncio.sleep(LOOK_SECONDS)
                task.waiting_for("ClickHouse to show the destinations")
                with self._retry.tolerate(LOOK_SECONDS):
                    await self._look(task)
                    task.moved()

    async def _all(self) -> Mapping[str, DestinationState]:
        return await self._store.read_state([target.destination for target in self._targets.values()])

    async def _look(self, task: TaskProgress) -> None:
        # first, so that rows taken away meanwhile show as missing and not as never there
        live = {
            table: await self._contents.is_live(table, target.destination, pause_seconds=LOOK_SECONDS)
            for table, target in self._targets.items()
        }
        standings = await self._all()
        self._demand(standings, task)
        if any(standing.blind for standing in standings.values()):
            self._report_blind()
            return
        suspects = self._suspects(standings)
        kept = [
            self._keep(table, standings[target.destination], live[table])
            for table, target in self._targets.items()
            if table not in suspects and standings[target.destination].uuid
        ]
        await self._save([row for row in kept if row is not None])
        for table in suspects:
            await self._confirm(table)

    def _report_blind(self) -> None:
        if not self._reported_blind:
            self._reported_blind = True
            hint = "grant SELECT ON system.parts to the user; `dyncdc ddl` prints all grants"
            self._instruments.health.log_error("rows taken out of a destination would not be noticed", hint=hint)

    def _demand(self, standings: Mapping[str, DestinationState], task: TaskProgress) -> None:
        """Raise DestinationChangedError for a table that is another one or gone; a detached one is waited for."""
        problems = []
        for table, target in self._targets.items():
            standing, name = standings[target.destination], target.destination
            missing = 0 if standing.uuid or standing.detached else self._missing.get(table, 0) + 1
            self._missing[table] = missing
            if standing.detached:
                problems.append(f"{name} is detached: run ATTACH TABLE {name}")
            elif standing.uuid == target.uuid and standing.hazards != target.hazards:
                raise DestinationChangedError(f"looking at {name}: its TTL, projections or constraints were changed")
            elif missing >= MISSING_LOOKS or standing.uuid not in ("", target.uuid):
                how = "it is another table now" if standing.uuid else "it is gone"
                raise DestinationChangedError(f"looking at {name}: {how}", hint="what stands there now is loaded")
        task.failed("; ".join(problems))

    def _suspects(self, standings: Mapping[str, DestinationState]) -> list[str]:
        return [
            table
            for table, target in self._targets.items()
            if standings[target.destination].uuid == target.uuid
            and is_emptied(self._contents.of(table), standings[target.destination])
        ]

    async def _confirm(self, table: str) -> None:
        """Write the gap down if the rows are missing for good, and not just on a replica that lags."""
        name = self._targets[table].destination
        if not await self._store.caught_up(name):
            return
        live = await self._store.any_live(name)
        standing = (await self._all())[name]
        if standing.uuid != self._targets[table].uuid or not is_emptied(self._contents.of(table), standing):
            return
        begin = self._contents.known_at(table)
        end = max(self._instant(table, await self._snapshots.load()), begin + 0.001)
        await self._recovery.missed([Gap(table, self._sources[table].id, "", begin, end, reason=EMPTIED)])
        row = self._keep(table, standing, live, replaced=True)
        await self._save([row] if row is not None else [])

    def _keep(self, table: str, standing: DestinationState, live: bool, *, replaced: bool = False) -> Binding | None:
        """Remember what a destination holds; return the row to write down, now and then and for other partitions.

        ``replaced``: nothing of what is written down is there any more.
        """
        bound = self._bound[table]
        rows = sum(partition.rows for partition in standing.partitions.values())
        held = DestinationContents(blocks_of(standing), rows, live)
        self._contents.note(table, held, standing.at)
        same = held.blocks.keys() == bound.held.blocks.keys() and held.live == bound.held.live
        if same and not replaced and standing.at < bound.saved_at + SAVE_SECONDS:
            return None
        return replace(bound, held=held, revision=bound.revision + 1, saved_at=standing.at)

    async def _save(self, rows: Sequence[Binding]) -> None:
        await self._store.save_bindings(rows)
        self._bound.update((row.target.table, row) for row in rows)

"""History monitor: whether every history is still the ClickHouse table that was written, and holds what it held.

Nothing brings changes back into a history: what is gone is written down with its time, and told, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from dyncdc.pipeline.runtime import Instruments, Retrier
from dyncdc.telemetry.task_health import TaskProgress

from .binding_changes import blocks_of, is_emptied
from .bindings import DestinationContents, DestinationState
from .destination_monitor import LOOK_SECONDS, MISSING_LOOKS
from .known_contents import SAVE_SECONDS
from .schema_evolution import DestinationChangedError

OTHER_TABLE = "it is another table than the one that was written before"
EMPTIED_HISTORY = "all of its rows were taken out (TRUNCATE, DROP PARTITION, DELETE or TTL)"


@dataclass(frozen=True, slots=True)
class KeptHistory:
    """From ``since`` on (ClickHouse's clock) a history has the changes of ``table``; ``reason``: why not from before.

    Until its next row, that is: ``number`` grows with each. ``held``: as of ``saved_at``.
    """

    table: str
    history: str
    uuid: str
    number: int
    since: float
    reason: str = ""
    held: DestinationContents = field(default_factory=DestinationContents)
    revision: int = 0
    saved_at: float = 0.0


class HistoryStore(Protocol):
    """``dyncdc_histories``, and the histories themselves. Every call raises RetryableError, FatalError."""

    async def kept(self) -> Sequence[KeptHistory]:
        """The newest row of each history of the pipeline."""

    async def keep(self, rows: Sequence[KeptHistory]) -> None:
        """Append rows."""

    async def look(self, histories: Collection[str]) -> Mapping[str, DestinationState]:
        """How each history, by ClickHouse's name, is now."""

    async def caught_up(self, history: str) -> bool:
        """Whether the server that answers has all rows that any replica has acknowledged."""


class HistoryMonitor:
    """All histories of one pipeline, in its leading member. ``histories``: ClickHouse's name by DynamoDB's."""

    def __init__(self, histories: Mapping[str, str], store: HistoryStore, instruments: Instruments) -> None:
        self._histories = histories
        self._store = store
        self._health = instruments.health
        self._retry = Retrier(instruments, "histories", "histories")
        self._kept: dict[str, KeptHistory] = {}
        self._missing: dict[str, int] = {}
        self._begun = asyncio.Event()

    async def begin(self) -> None:
        """Compare with what earlier sessions knew, before anything is written. Raises RetryableError, FatalError.

        A history may be another table by now: this session has found it safe, and takes it as it is.
        """
        known = {(row.table, row.history): row for row in await self._store.kept()}
        standings = await self._store.look(self._histories.values())
        for table, history in self._histories.items():
            standing, before = standings[history], known.get((table, history))
            if not standing.uuid:
                raise DestinationChangedError(f"looking at {history}: it is gone")
            if before is not None and before.uuid == standing.uuid:
                self._kept[table] = before
            elif before is not None:
                await self._lost(before, standing, OTHER_TABLE)
            else:
                await self._save(self._row(KeptHistory(table, history, standing.uuid, 1, standing.at), standing))
        await self._judge(standings)
        self._begun.set()

    async def run(self) -> None:
        """Look forever, once begun. Raises DestinationChangedError when a history is another table, or gone."""
        await self._begun.wait()
        with self._health.task("histories") as task:
            while True:
                task.waiting_for("the next look at the histories", for_seconds=LOOK_SECONDS)
                await asyncio.sleep(LOOK_SECONDS)
                task.waiting_for("ClickHouse to show the histories")
                with self._retry.tolerate(LOOK_SECONDS):
                    standings = await self._store.look(self._histories.values())
                    self._demand(standings, task)
                    await self._judge(standings)
                    task.moved()

    def _demand(self, standings: Mapping[str, DestinationState], task: TaskProgress) -> None:
        detached = []
        for table, history in self._histories.items():
            standing = standings[history]
            missing = 0 if standing.uuid or standing.detached else self._missing.get(table, 0) + 1
            self._missing[table] = missing
            if standing.detached:
                detached.append(f"{history} is detached: run ATTACH TABLE {history}")
            elif missing >= MISSING_LOOKS or standing.uuid not in ("", self._kept[table].uuid):
                how = "it is another table now" if standing.uuid else "it is gone"
                raise DestinationChangedError(f"looking at {history}: {how}", hint="it is checked, and made if need be")
        task.failed("; ".join(detached))

    async def _judge(self, standings: Mapping[str, DestinationState]) -> None:
        """Record what the histories hold, and report those that lost what they held."""
        for table, history in self._histories.items():
            standing, kept = standings[history], self._kept[table]
            if standing.blind or standing.uuid != kept.uuid:
                continue
            # A part of the partitions may go: that is how old changes are put away.
            if not is_emptied(kept.held, replace(standing, cleaned=True)):
                await self._hold(kept, standing)
            elif await self._store.caught_up(history):
                again = (await self._store.look([history]))[history]
                if again.uuid == kept.uuid and is_emptied(kept.held, replace(again, cleaned=True)):
                    await self._lost(kept, again, EMPTIED_HISTORY)

    async def _hold(self, kept: KeptHistory, standing: DestinationState) -> None:
        same = kept.held.blocks.keys() == standing.partitions.keys()
        if not same or standing.at >= kept.saved_at + SAVE_SECONDS:
            await self._save(self._row(replace(kept, revision=kept.revision + 1), standing))

    async def _lost(self, before: KeptHistory, standing: DestinationState, reason: str) -> None:
        row = KeptHistory(before.table, before.history, standing.uuid, before.number + 1, standing.at, reason)
        self._health.log_error(
            "history lost changes",
            table=before.table,
            history=before.history,
            reason=reason,
            hint="no snapshot brings them back: restore its rows from a backup, by INSERT",
        )
        await self._save(self._row(row, standing))  # only now: a process killed in between reports it again

    @staticmethod
    def _row(kept: KeptHistory, standing: DestinationState) -> KeptHistory:
        rows = sum(partition.rows for partition in standing.partitions.values())
        return replace(kept, held=DestinationContents(blocks_of(standing), rows, live=True), saved_at=standing.at)

    async def _save(self, row: KeptHistory) -> None:
        await self._store.keep([row])
        self._kept[row.table] = row

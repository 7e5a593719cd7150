"""New attributes become columns. Decides which and when; how a column is added is the destination's business.

Never in the way of the rows: those are right at once, with the attribute in the spill. A column that cannot be added
is told, and its attribute stays there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from dyncdc.errors import FatalError, RetryableError
from dyncdc.pipeline.runtime import Instruments, Retrier
from dyncdc.schema.inference import Sample, infer_columns
from dyncdc.schema.naming import RESERVED_NAMES, column_name
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.unmapped import UnmappedAttributes
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

GATHER_SECONDS: Final = 0.5
"""From the first news to the decision: attributes that appear together become columns in one statement."""

REFUSED_PAUSE_SECONDS: Final = 60.0
"""Pause before columns are tried again that ClickHouse does not let us add."""

MOST_AT_ONCE: Final = 10_000
"""Columns decided about at the same time; ``max_columns`` is what bounds them."""

DICTIONARY_KEYS: Final = 12
"""As ``infer`` sees it: a map with more different keys than this, and far more than any one has, is a dictionary."""


class DestinationChangedError(FatalError):
    """A destination is no longer what its rows were made for. Another session reads how it is now; nothing is lost."""


class Columns(Protocol):
    """The columns of all destinations. ``table`` is DynamoDB's name."""

    async def add(self, table: str, columns: Sequence[ColumnSpec]) -> None:
        """Add columns, read back what is there, and let the decoders go on with that. Idempotent.

        Raises RetryableError, FatalError (not allowed), DestinationChangedError.
        """

    async def refresh(self, table: str) -> None:
        """Someone has added columns: let the decoders go on with what is there. Raises as ``add``."""


@dataclass(slots=True)
class EvolvingTable:
    """One table that may get columns. ``columns`` and ``taken`` (names) are kept up by who reads them back."""

    unmapped: UnmappedAttributes
    max_columns: int
    columns: tuple[ColumnSpec, ...] = ()
    taken: Collection[str] = ()
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """``columns`` to add; ``full``: there would be more, but the table may not have them."""

    columns: tuple[ColumnSpec, ...]
    full: bool


def decide(sample: Sample, evolved: EvolvingTable) -> Decision:
    """Return the columns for what a sample holds, by the rules of inference; pure."""
    room = max(0, evolved.max_columns - len(evolved.columns))
    taken = RESERVED_NAMES | set(evolved.taken)
    found = infer_columns((), sample, max_columns=MOST_AT_ONCE, reserved=taken)
    found = _whole_dictionaries(found, evolved, taken)
    known = {column.path for column in evolved.columns}
    found = tuple(column for column in found if column.path not in known)
    return Decision(found[:room], len(found) > room)


def _whole_dictionaries(
    found: tuple[ColumnSpec, ...], evolved: EvolvingTable, taken: Collection[str]
) -> tuple[ColumnSpec, ...]:
    """A map that grows keys forever gets one column for all of it instead of one for each key."""
    inside: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for column in (*evolved.columns, *found):
        if len(column.path) > 1:
            inside.setdefault(column.path[:-1], set()).add(column.path)
    largest = evolved.unmapped.maps
    whole = {
        path
        for path, paths in inside.items()
        if path in largest and len(paths) > max(DICTIONARY_KEYS, 2 * largest[path])
    }
    kept = [column for column in found if column.path[:-1] not in whole]
    names = {*taken, *(column.name for column in kept)}
    for path in sorted({column.path[:-1] for column in found} & whole):
        name = column_name(path, names)
        names.add(name)
        kept.append(ColumnSpec(name, "Nullable(String)", path, ("M",)))
    return tuple(kept)


@dataclass(slots=True)
class SchemaEvolution:
    """One task for all tables. ``note`` and ``changed`` may be called by anybody on the loop; they never wait."""

    columns: Columns
    tables: Mapping[str, EvolvingTable]
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: set[str] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: dict[str, tuple[ColumnSpec, ...]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _said: dict[str, str] = field(default_factory=dict)
    """By table what was last said of columns that could not be added: once is enough."""

    def note(self) -> None:
        """There is something to decide about."""
        self._news.set()

    def changed(self, table: str) -> None:
        """A table, by DynamoDB's name, has columns that its rows are not made for."""
        self._changed.add(table)
        self._news.set()

    def stop(self) -> None:
        """Nothing more is read: do what is left, once, and let ``run`` return."""
        self._stopping.set()
        self._news.set()

    async def run(self, instruments: Instruments) -> None:
        """Add columns until stopped. Raises DestinationChangedError."""
        loop = asyncio.get_running_loop()
        while True:
            await self._next_news(loop.time)
            with instruments.health.task("columns") as task:
                last = self._stopping.is_set()
                self._news.clear()
                await self._look_again(instruments, task, last=last)
                for table, evolved in self.tables.items():
                    if last or loop.time() >= evolved.retry_at:
                        await self._evolve(table, evolved, instruments, task, last=last)
            if last:
                return

    async def _next_news(self, now: Callable[[], float]) -> None:
        """Wait for news and for those that come with it, or until what was refused is worth another try."""
        due = [evolved.retry_at for table, evolved in self.tables.items() if table in self._pending]
        try:
            async with asyncio.timeout(max(0.0, min(due) - now()) if due else None):
                await self._news.wait()
        except TimeoutError:
            return
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _look_again(self, instruments: Instruments, task: TaskProgress, *, last: bool) -> None:
        while self._changed and not last:
            table = self._changed.pop()
            task.waiting_for(f"the columns of {table}")
            await self._retried(partial(self.columns.refresh, table), instruments, task)

    async def _evolve(
        self,
        table: str,
        evolved: EvolvingTable,
        instruments: Instruments,
        task: TaskProgress,
        *,
        last: bool,
    ) -> None:
        decision = decide(evolved.unmapped.drain(), evolved)
        if decision.full:
            self._tell_full(table, evolved, instruments.health)
        waiting = {column.path: column for column in (*self._pending.pop(table, ()), *decision.columns)}
        if not waiting:
            return
        columns = tuple(waiting.values())
        task.waiting_for(f"new columns of {table}")
        try:
            if last:
                await self.columns.add(table, columns)
            else:
                await self._retried(partial(self.columns.add, table, columns), instruments, task)
        except DestinationChangedError:
            raise
        except (RetryableError, FatalError) as error:
            self._refused(table, columns, error, instruments)
        else:
            self._said.pop(table, None)
            instruments.health.log_info("columns added", table=table, columns=[column.name for column in columns][:20])

    def _refused(
        self,
        table: str,
        columns: tuple[ColumnSpec, ...],
        error: RetryableError | FatalError,
        instruments: Instruments,
    ) -> None:
        """Keep the columns for another try; their attributes are in the spill meanwhile."""
        self._pending[table] = columns
        self.tables[table].retry_at = asyncio.get_running_loop().time() + REFUSED_PAUSE_SECONDS
        instruments.metrics.error("evolve", error)
        if self._said.get(table) != str(error):
            self._said[table] = str(error)
            hint = error.hint or 'or set evolve = "spill"'
            instruments.health.log_error("columns not added", table=table, error=str(error), hint=hint)

    def _tell_full(self, table: str, evolved: EvolvingTable, health: TaskHealth) -> None:
        evolved.unmapped.closed = True
        if table not in self._told:
            self._told.add(table)
            hint = "new attributes stay in the spill; raise tables.max_columns, or `dyncdc promote` the ones you need"
            health.log_error("max_columns reached", table=table, max_columns=evolved.max_columns, hint=hint)

    async def _retried(
        self, operation: Callable[[], Awaitable[None]], instruments: Instruments, task: TaskProgress
    ) -> None:
        await Retrier(instruments, "evolve", "columns")(operation)
        task.moved()

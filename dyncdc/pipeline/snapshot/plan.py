"""What the steps of a snapshot share: its rules, the coverage of its stream, the journal that makes steps durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from dyncdc.errors import ConfigError, FatalError
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.snapshots import SnapshotStore
from dyncdc.pipeline.runtime import Instruments, Retrier, is_recoverable
from dyncdc.telemetry.task_health import TaskProgress

T = TypeVar("T")

REFUSED_PAUSE_SECONDS = 30.0
"""Until AWS is asked again for what it has refused: a person has to fix that."""


async def _never() -> int:
    return 0


async def _no_rows() -> bool:
    return False


async def _nothing() -> None:
    return None


class SnapshotsStanding:
    """Whether the saved states of a table's snapshots may be believed.

    One that was complete is read again where ClickHouse may have lost some of it, however long ago that was: until this
    session has saved that it is loading, and again once the server may be another or an older one, no one can tell.
    """

    def __init__(self) -> None:
        self._still_there: Callable[[], Awaitable[None]] | None = None

    def judged(self, still_there: Callable[[], Awaitable[None]]) -> None:
        """The session has judged them, and saved what it found. ``still_there`` raises when that may be lost."""
        self._still_there = still_there

    async def holds(self) -> bool:
        """False while no one has judged them. Raises RetryableError, FatalError when ClickHouse may have gone back."""
        if self._still_there is None:
            return False
        await self._still_there()
        return True


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """What is to be loaded, and under which rules (SEMANTICS: export time is fuzzy by a minute either way).

    ``table`` is the DynamoDB table's name. ``destination_uuid`` and ``had_rows``: see Snapshot. ``sweeps``: keys that a
    snapshot does not hold are marked as deleted, in a destination that had rows. ``cleaned_before`` asks below
    which version (microseconds) the destination has no tombstones any more, ``has_rows`` whether it has a row now.
    ``standing``: whether this session knows which of the table's snapshots it reads again.
    """

    table: str
    destination_uuid: str
    had_rows: bool
    margin_seconds: float
    settle_seconds: float
    export_arn: str = ""
    accept_gap: bool = False
    sweeps: bool = True
    cleaned_before: Callable[[], Awaitable[int]] = _never
    has_rows: Callable[[], Awaitable[bool]] = _no_rows
    standing: SnapshotsStanding = field(default_factory=SnapshotsStanding, compare=False)

    @property
    def task(self) -> str:
        """The name of the task that loads the table, in health and logs."""
        return f"snapshot:{self.table}"


class Coverage(Protocol):
    """How far the stream is that carries the table's changes."""

    @property
    def held(self) -> asyncio.Event:
        """Set while every shard has a durable position."""

    def read_past(self, instant: float) -> bool:
        """Whether all that the stream held before ``instant`` (seconds, server clock) is durable in the destination."""


class Journal:
    """Writes down the states of one table's snapshots, and repeats what may succeed later."""

    def __init__(
        self,
        store: SnapshotStore,
        instruments: Instruments,
        name: str,
        *,
        epoch: int,
        wait_for_fix: bool = True,
        still_there: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._still_there = still_there
        self._store = store
        self._instruments = instruments
        self._name = name
        self._epoch = epoch
        self.wait_for_fix = wait_for_fix
        self.retry = Retrier(instruments, "snapshot", name, first_seconds=0.5)
        """Repeats what raises RetryableError."""

    async def load(self, plan: SnapshotPlan) -> list[Snapshot]:
        """All snapshots of the plan's destination, the oldest first."""
        return [
            snapshot
            for snapshot in await self.retry(self._store.load)
            if snapshot.table == plan.table and snapshot.destination_uuid == plan.destination_uuid
        ]

    async def save(self, snapshot: Snapshot) -> None:
        """Make a snapshot's new state durable. Raises FatalError when what it follows from may be lost."""

        async def proven() -> None:
            await self._still_there()  # at each attempt: between two of them it may have been restored
            await self._store.save(replace(snapshot, epoch=self._epoch))

        await self.retry(proven)
        self._instruments.health.log_info("snapshot saved", table=snapshot.table, state=snapshot.state, id=snapshot.id)

    def judged(self, plan: SnapshotPlan) -> None:
        """All that this session thinks of the plan's snapshots is durable."""
        plan.standing.judged(self._still_there)

    def tell(self, event: str, **keys: object) -> None:
        """Log what an operator should know of."""
        self._instruments.health.log_info(event, **keys)

    async def accept_gap(self, table: str, source: str, begin: float, end: float) -> None:
        """Write down a gap that the user takes."""
        await self.retry(lambda: self._store.record_gap(table, source, begin, end))

    async def call_aws(self, operation: Callable[[], Awaitable[T]], task: TaskProgress) -> T:
        """Ask AWS, and ask again while it refuses: the bucket or the permission of one table must not end the others.

        Health names what is refused. Raises ConfigError and FatalError at once where it may not wait (``--once``),
        and for what no answer of AWS has caused.
        """
        while True:
            try:
                answer = await self.retry(operation)
            except (ConfigError, FatalError) as error:
                if not self.wait_for_fix or not is_recoverable(error):
                    raise
                self._instruments.metrics.error("snapshot", error)
                self._instruments.health.log_retry(self._name, error, REFUSED_PAUSE_SECONDS)
                task.failed(str(error))
                await asyncio.sleep(REFUSED_PAUSE_SECONDS)
            else:
                task.failed("")
                return answer

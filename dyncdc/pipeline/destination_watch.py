"""DestinationWatch: looks whether a table still sends its changes to the stream: silence looks like health.

It reads nothing and loads nothing: what was missed becomes a gap, and recovery decides.
"""

from __future__ import annotations

import asyncio

from ..errors import RetryableError
from ..model import Gap, SourceId
from ..telemetry.progress import TaskProgress
from .ports import Origin
from .pump import Engine
from .recovery import Recovery

WATCH_INTERVAL_SECONDS = 60.0
"""A destination switched off and on again between two looks is not noticed: AWS keeps no record of it."""

OFF = "its changes do not reach the stream: the streaming destination is not ACTIVE"


class DestinationWatch:
    """One table's streaming destination, from when it was first seen ACTIVE."""

    def __init__(self, table: str, source: SourceId, origin: Origin, recovery: Recovery, engine: Engine) -> None:
        self._table = table
        self._source = source
        self._origin = origin
        self._recovery = recovery
        self._engine = engine
        self._active_at = 0.0
        self._off = False

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return f"destination:{self._table}"

    async def run(self) -> None:
        """Look for ever. Raises FatalError when what was missed may not, or cannot, be made good."""
        with self._engine.progress.task(self.name) as task:
            while True:
                await self._look(task)
                task.waiting_for("the next look at the streaming destination", for_seconds=WATCH_INTERVAL_SECONDS)
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def _look(self, task: TaskProgress) -> None:
        try:
            seen = await self._origin.covered_at()
        except RetryableError as error:  # AWS is away: that says nothing about the destination
            self._engine.metrics.retry("destination", error)
            self._engine.progress.report(self.name, error, WATCH_INTERVAL_SECONDS)
            return
        task.moved()
        if seen is None:
            if self._active_at and not self._off:
                self._off = True
                task.failed(OFF)
                self._engine.progress.alarm("destination off", table=self._table)
            return
        if self._off:
            gap = Gap(self._table, self._source, "", self._active_at, seen, reason="its streaming destination was off")
            await self._recovery.missed([gap])
            self._off = False
            task.failed("")
        self._active_at = seen

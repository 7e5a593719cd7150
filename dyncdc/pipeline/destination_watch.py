"""DestinationWatch: looks whether a table still sends its changes to the stream: silence looks like health.

It reads nothing and loads nothing: what was missed becomes a gap, and recovery decides.
"""

from __future__ import annotations

import asyncio

from ..errors import AccessDeniedError, ConfigError, DyncdcError, FatalError, RetryableError
from ..model import Gap
from ..telemetry.progress import TaskProgress
from .ports import Origin, Source
from .pump import Engine
from .recovery import Recovery

WATCH_INTERVAL_SECONDS = 60.0
"""A destination switched off and on again between two looks is not noticed: AWS keeps no record of it."""

OFF = "its changes do not reach the stream: the streaming destination is not ACTIVE"
WAS_OFF = "its streaming destination was off"


class DestinationWatch:
    """One table's streaming destination, from when it was first seen ACTIVE, by whichever life.

    The gap is durable as soon as the destination is seen off: whoever is restarted meanwhile finds it ACTIVE again, and
    nothing else would tell.
    """

    def __init__(self, table: str, source: Source, origin: Origin, recovery: Recovery, engine: Engine) -> None:
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
                task.waiting_for("DynamoDB to show the streaming destination")
                await self._look(task)
                task.waiting_for("the next look at the streaming destination", for_seconds=WATCH_INTERVAL_SECONDS)
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def _look(self, task: TaskProgress) -> None:
        failure = ""
        try:
            seen = await self._origin.covered_at()
        except (AccessDeniedError, FatalError) as error:  # that we may not look says nothing about the destination
            task.failed(self._trouble(error))
            return
        except RetryableError as error:  # nor does it when AWS is away; everything else goes on
            self._engine.metrics.retry("destination", error)
            self._engine.progress.report(self.name, error, WATCH_INTERVAL_SECONDS)
            return
        except ConfigError as error:  # the table is gone, and its destination with it
            seen, failure = None, self._trouble(error)
        task.moved()
        if seen is None:
            await self._switched_off()
            task.failed(failure or (OFF if self._off else ""))
            return
        if self._off:
            await self._missed_until(seen)
            self._off = False
        task.failed("")
        self._active_at = seen

    async def _switched_off(self) -> None:
        self._active_at = self._active_at or self._recovery.covered(self._table)
        if self._active_at and not self._off:
            self._off = True
            self._engine.progress.alarm("destination off", table=self._table)
            # It was switched off after it was last seen: coverage that began before does not close this gap.
            await self._missed_until(max(self._source.server_time, self._active_at + 1.0))

    async def _missed_until(self, instant: float) -> None:
        await self._recovery.missed([Gap(self._table, self._source.id, "", self._active_at, instant, reason=WAS_OFF)])

    def _trouble(self, error: DyncdcError) -> str:
        self._engine.metrics.error("destination", error)
        self._engine.progress.report(self.name, error, WATCH_INTERVAL_SECONDS)
        return str(error)

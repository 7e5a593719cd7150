"""Streaming monitor: checks that a table still sends its changes to the stream: silence looks like health.

It reads nothing and loads nothing: what was missed becomes a gap, and recovery decides.
"""

from __future__ import annotations

import asyncio

from dyncdc.errors import AccessDeniedError, ConfigError, DyncdcError, FatalError, RetryableError
from dyncdc.model.gaps import Gap
from dyncdc.pipeline.recovery.recovery import Recovery, SourceLostError
from dyncdc.pipeline.runtime import Instruments, Retrier
from dyncdc.pipeline.session.services import SnapshotTask
from dyncdc.telemetry.task_health import TaskProgress

LOOK_SECONDS = 5.0
"""A destination switched off and on again between two looks is not noticed: AWS keeps no record of it. But DISABLING
and ENABLING, which it shows meanwhile, count as off."""

LOOKS_PER_SECOND = 10.0
"""Of all tables together, two calls each. Source: AWS, 2,500 calls of the control plane a second and account."""

OFF = "its changes do not reach the stream: the streaming destination is not ACTIVE"
WAS_OFF = "its streaming destination was off"


def monitor_seconds(tables: int) -> float:
    """The pause between two looks at a table, so that those at all tables keep to the rate."""
    return max(LOOK_SECONDS, tables / LOOKS_PER_SECOND)


class StreamingMonitor:
    """One table's identity, and its streaming destination from when it was first seen ACTIVE, by whichever session.

    The gap is durable as soon as the destination is seen off: a process restarted meanwhile finds it ACTIVE again, and
    nothing else would tell.
    """

    def __init__(
        self,
        task: SnapshotTask,
        recovery: Recovery,
        instruments: Instruments,
        *,
        table_id: str = "",
        pause_seconds: float = LOOK_SECONDS,
    ) -> None:
        """``table_id``: what the table was known by as this session began; "" where no one asks."""
        self._table_id = table_id
        self._pause_seconds = pause_seconds
        self._table = task.plan.table
        self._source = task.stream
        self._origin = task.origin
        self._recovery = recovery
        self._instruments = instruments
        self._active_at = 0.0
        self._off = False

    @property
    def name(self) -> str:
        """The task's name in health and logs."""
        return f"destination:{self._table}"

    async def run(self) -> None:
        """Look forever. Raises FatalError when what was missed may not, or cannot, be made good.

        SourceLostError when the table is another one: the next session writes down what was missed, and may find that
        the destination does not fit its key.
        """
        with self._instruments.health.task(self.name) as task:
            while True:
                task.waiting_for("DynamoDB to show the streaming destination")
                await self._look(task)
                task.waiting_for("the next look at the streaming destination", for_seconds=self._pause_seconds)
                await asyncio.sleep(self._pause_seconds)

    async def _look(self, task: TaskProgress) -> None:
        failure = ""
        try:
            seen = await self._origin.covered_at()
            found = await self._origin.identity() if self._table_id else ""
        except (AccessDeniedError, FatalError) as error:  # that we may not look says nothing about the destination
            task.failed(self._report(error))
            return
        except RetryableError as error:  # nor does it when AWS is away; everything else goes on
            Retrier(self._instruments, "destination", self.name).failed(error, self._pause_seconds)
            return
        except ConfigError as error:  # the table is gone, and its destination with it
            seen, found, failure = None, "", self._report(error)
        task.moved()
        if found not in ("", self._table_id):
            self._instruments.health.log_error("table recreated", table=self._table)
            raise SourceLostError(f"watching table {self._table}: it was deleted and created again")
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
            self._instruments.health.log_error("streaming destination disabled", table=self._table)
            # It was switched off after it was last seen: coverage that began before does not close this gap.
            await self._missed_until(max(self._source.server_time, self._active_at + 1.0))

    async def _missed_until(self, instant: float) -> None:
        await self._recovery.missed([Gap(self._table, self._source.id, "", self._active_at, instant, reason=WAS_OFF)])

    def _report(self, error: DyncdcError) -> str:
        self._instruments.metrics.error("destination", error)
        self._instruments.health.log_retry(self.name, error, self._pause_seconds)
        return str(error)

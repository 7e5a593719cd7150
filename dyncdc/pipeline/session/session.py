"""One session of the pipeline, from loading the checkpoints to the last save.

Composes and nests (sink > checkpointer > writer > readers) and keeps the drain's deadline; decides nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dyncdc.errors import FatalError, RetryableError
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.members.sessions import SessionClaim
from dyncdc.pipeline.members.succession import Predecessor
from dyncdc.pipeline.reading.resources import ReadResources
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments, Retrier, ungrouped
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter, LimitReached, LimitStop
from dyncdc.pipeline.writing.rejections import DeadLetterHandling
from dyncdc.pipeline.writing.writer import Writer

from .coordinator import Coordinator
from .services import Destination, Services, Settings, SnapshotTask, StreamTask, recovery_policy

LEAVE_SECONDS = 2.0
KEEP_SECONDS = 10.0
"""How long a session that ends by too many dead letters tries to tell the next one."""


@dataclass(frozen=True, slots=True)
class SessionControl:
    """How a session is told to end, and tells how far its begin is.

    ``draining`` is set to end it. ``on_claimed`` is called with its epoch once it is claimed; nothing is read before
    that has ended. ``on_ready`` is called once the checkpoints are loaded, too.
    """

    draining: asyncio.Event
    on_claimed: Callable[[int], Awaitable[None]] | None = None
    on_ready: Callable[[int], None] = lambda _: None


async def run_session(
    streams: Sequence[StreamTask],
    snapshots: Sequence[SnapshotTask],
    destination: Destination,
    settings: Settings,
    instruments: Instruments,
    control: SessionControl,
) -> None:
    """Keep the destination equal to the streams' tables until it is to drain or, with ``once``, all is done.

    Returns after a clean drain. Leaving by exception or cancellation skips the drain; nothing is lost, it replays.

    Raises the error itself, never a group: FatalError (SourceLostError, DestinationChangedError when another session
    could go on), with ``once`` also what made a snapshot fail.
    """
    tables = {table for stream in streams for table in stream.tables}
    session = _Session(destination, settings, tables, instruments, control)
    try:
        with ungrouped():
            await session.run(streams, snapshots)
    except LimitReached as error:
        if not error.again:
            await session.keep(error.stop)
        raise


class _Session:
    """The parts of one session and the order in which they end."""

    def __init__(
        self,
        destination: Destination,
        settings: Settings,
        tables: Collection[str],
        instruments: Instruments,
        control: SessionControl,
    ) -> None:
        self._destination = destination
        self._settings = settings
        self._control = control
        self._instruments = instruments
        self._health = instruments.health
        self._budget = ByteBudget(settings.budget_bytes)
        self._dead_letter_limiter = DeadLetterLimiter(settings.dead_letter_limiter)
        self._passed: asyncio.Queue[LimitStop] = asyncio.Queue()
        self._checkpointer = Checkpointer(
            destination.checkpoints,
            instruments,
            interval_seconds=settings.checkpoint_interval_seconds,
            member=settings.assignment.member,
            replay_seconds=settings.replay_seconds,
            went_back=settings.went_back,
        )
        self._membership = Membership(
            settings.assignment,
            destination.members,
            tables,
            instruments,
            since=settings.since,
            after=settings.after,
        )
        self._claim = SessionClaim(
            settings.assignment, destination.sessions, destination.members, settings.succession.process
        )
        self._checkpointer.ownership.still_alone = self._claim.check
        instruments.metrics.watch_budget(lambda: self._budget.held_bytes, settings.budget_bytes)

    async def run(self, streams: Sequence[StreamTask], snapshots: Sequence[SnapshotTask]) -> None:
        """Begin, work, and end in order."""
        if not await _unless(self._control.draining, self._begin(), name="checkpointer", on_end=lambda: None):
            return
        self._control.on_ready(self._checkpointer.ownership.epoch)
        writer = self._writer()
        coordinator = self._coordinator(streams, snapshots, writer)
        try:
            async with asyncio.timeout(None) as deadline:
                await self._run(coordinator, writer, deadline)
        except TimeoutError:
            raise FatalError(
                f"draining within {self._settings.drain_seconds:g} s: ClickHouse has not taken everything in time;"
                f" nothing is lost, {self._budget.held_bytes:,} bytes are read again at the next start",
                hint="see why inserts or checkpoints are slow, or raise run.shutdown_seconds",
            ) from None

    async def _run(self, coordinator: Coordinator, writer: Writer, deadline: asyncio.Timeout) -> None:
        """Nested, so that each part outlives everything that feeds it; an exception in any of them ends all."""
        async with asyncio.TaskGroup() as belonging:
            seen = belonging.create_task(self._membership.run(), name="members")
            await self._work(coordinator, writer, deadline)
            await self._retry_checkpoints("the last checkpoints", self._checkpointer.save)
            if coordinator.watermarks is not None:
                await coordinator.watermarks.last()
            seen.cancel()
        with suppress(RetryableError, TimeoutError):  # the next process then waits until our row is old
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._membership.leave()

    async def _work(self, coordinator: Coordinator, writer: Writer, deadline: asyncio.Timeout) -> None:
        async with asyncio.TaskGroup() as saving:
            saving.create_task(self._checkpointer.run(), name="checkpointer")
            closing = saving.create_task(self._close_passed(), name="limit stops")
            async with asyncio.TaskGroup() as writing:
                writing.create_task(writer.run(), name="writer")
                evolving = self._destination.schema_evolution
                if evolving is not None:
                    writing.create_task(evolving.run(self._instruments), name="columns")
                reading = coordinator.run(once=self._settings.once)
                await _unless(self._control.draining, reading, name="coordinator", on_end=lambda: self._limit(deadline))
                writer.drain()
                if evolving is not None:
                    evolving.stop()
            self._checkpointer.stop()
            closing.cancel()

    async def _begin(self) -> None:
        """Wait until no one else is at work, load what was saved, take an epoch, and be a member."""
        await self._membership.wait_until_alone()
        there, settings = self._destination, self._settings
        await self._retry_checkpoints("looking for sessions", self._claim.look)
        before = Predecessor(settings.assignment, there.members, there.sessions, settings.succession, self._health)
        with self._health.task("start") as task:
            await before.wait(settings.after, task)
        await self._retry_checkpoints("loading checkpoints", self._load)
        await self._retry_checkpoints("beginning a session", self._take_epoch)
        # The process before may have saved until now. A shard that it knew and this one does not would look lost.
        await self._retry_checkpoints("loading what was saved meanwhile", self._checkpointer.peers.load_again)
        if self._control.on_claimed is not None:
            await self._control.on_claimed(self._checkpointer.ownership.epoch)
            # A process that began meanwhile may not have seen what was noted; one that begins from here on does.
            await self._retry_checkpoints("looking for a later session", self._claim.check)
        await self._membership.join(self._checkpointer.ownership.epoch)

    async def _take_epoch(self) -> None:
        self._checkpointer.ownership.epoch = await self._claim.take(self._checkpointer.ownership.epoch)

    async def _load(self) -> None:
        await self._checkpointer.load()
        stops = self._destination.limit_stops
        found = await stops.open_limit_stops() if stops is not None else ()
        self._dead_letter_limiter = DeadLetterLimiter(
            self._settings.dead_letter_limiter, found, on_passed=self._passed.put_nowait
        )
        for stop in found:
            if not stop.stands(self._settings.dead_letter_limiter):
                self._passed.put_nowait(stop)

    async def keep(self, stop: LimitStop) -> None:
        """Let the next session stop where this one did. Gives up after a while: it would then stop a little later."""
        stops = self._destination.limit_stops
        if stops is None:
            return
        with suppress(TimeoutError, FatalError):  # what stops the session is worth saying, this is not
            async with asyncio.timeout(KEEP_SECONDS):
                await self._retry_checkpoints("keeping why this session stops", lambda: stops.save_limit_stop(stop))

    async def _close_passed(self) -> None:
        """Forget what earlier sessions have stopped at and this one has passed."""
        stops = self._destination.limit_stops
        while stops is not None:
            stop = await self._passed.get()
            self._health.log_info("dead-letter limit passed", limit=stop.limit, table=stop.table)
            await self._retry_checkpoints("closing a limit stop", partial(stops.close_limit_stop, stop))

    def _limit(self, deadline: asyncio.Timeout) -> None:
        """Let the time begin in which readers leave, the writer drains and the last checkpoints are saved."""
        deadline.reschedule(asyncio.get_running_loop().time() + self._settings.drain_seconds)

    def _writer(self) -> Writer:
        settings, checkpointer = self._settings, self._checkpointer
        return Writer(
            self._destination.sink,
            self._budget,
            settings.batch,
            self._instruments,
            token_prefix=f"{settings.pipeline}/{settings.assignment.member}/{checkpointer.ownership.epoch}/{self._claim.session.id}",
            dead_letters=DeadLetterHandling(self._destination.dead_letters, self._dead_letter_limiter),
        )

    def _coordinator(
        self, streams: Sequence[StreamTask], snapshots: Sequence[SnapshotTask], writer: Writer
    ) -> Coordinator:
        policy = recovery_policy(
            self._settings.on_lost_position, streams, snapshots, shared=self._membership.assignment.shared
        )
        recovery = Recovery(self._destination.recovery, policy, self._instruments, self._membership)
        return Coordinator(
            streams,
            snapshots,
            self._destination,
            self._settings,
            Services(self._instruments, self._checkpointer, self._membership, recovery),
            ReadResources(
                self._instruments,
                self._budget,
                writer,
                self._settings.fetch_ceiling_bytes,
                self._dead_letter_limiter,
            ),
        )

    async def _retry_checkpoints(self, what: str, operation: Callable[[], Coroutine[object, object, None]]) -> None:
        with self._health.task("checkpointer") as task:
            task.waiting_for(what)
            await Retrier(self._instruments, "checkpoint", "checkpointer")(operation)


async def _unless(
    stopping: asyncio.Event, work: Coroutine[object, object, None], *, name: str, on_end: Callable[[], None]
) -> bool:
    """Run ``work`` until it ends or ``stopping`` is set; return whether it ended by itself.

    ``on_end`` is called before the work is cancelled.
    """
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work, name=name)
        waiting = tasks.create_task(stopping.wait(), name=f"stop:{name}")
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        ended = working.done()
        on_end()
        working.cancel()
        waiting.cancel()
    return ended

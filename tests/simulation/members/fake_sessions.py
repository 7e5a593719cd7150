"""What a ClickHouse keeps of one member's processes, by a clock that may be ahead or behind; and these processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dyncdc.errors import RetryableError
from dyncdc.model.members import Member, Session
from simulation.fakes.aws import FakeStream
from simulation.fakes.clickhouse import CheckpointClient, ClickHouse
from simulation.process_run import Life, server_time
from simulation.recovery.losing import Losses
from simulation.world import ShardLog


@dataclass(slots=True)
class Kept:
    """What outlives every process, beside the server of ``simulate``."""

    losses: Losses = field(default_factory=lambda: Losses(86_400.0))
    ahead_seconds: float = 0.0
    members: dict[int, Member] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    forgetful: bool = False
    """Whether rows of sessions have been lost: an epoch may then be taken again, and only the tokens differ."""
    epochs: dict[int, One] = field(default_factory=dict)
    processes: dict[str, One] = field(default_factory=dict)

    def now(self) -> float:
        """The date by ClickHouse's clock."""
        return server_time() + self.ahead_seconds


@dataclass(slots=True, eq=False)
class One:
    """One process."""

    session: Life
    take_over: bool = False
    patient: bool = True
    ready: bool = False
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    asks_until_frozen: int | None = None
    """Questions for members and sessions that are answered before the process is frozen."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def task(self) -> asyncio.Task[None]:
        assert self.session.task is not None
        return self.session.task

    @property
    def label(self) -> str:
        return "a process"

    @property
    def running(self) -> bool:
        """Whether it has neither ended nor lost its power."""
        return not self.session.dead and not self.task.done()

    def ended_by(self, what: str) -> bool:
        """Whether it has ended by an error that says so."""
        return self.task.done() and not self.task.cancelled() and what in str(self.task.exception())


class LastingStream(FakeStream):
    """A stream that forgets nothing that a process which is at work may not know to be finished."""

    def _visible(self) -> list[ShardLog]:
        now = asyncio.get_running_loop().time()
        return [log for log in self._script.shards.values() if log.opened <= now]


class ClockedCheckpoints(CheckpointClient):
    """Checkpoints of a server whose clock is not right."""

    def __init__(self, server: ClickHouse, session: Life, kept: Kept) -> None:
        super().__init__(server, session)
        self._kept = kept

    async def server_time(self) -> float:
        await self._session.takes(0.001, 0.01)
        return self._kept.now()


class KeptClient:
    """``dyncdc_members`` and ``dyncdc_sessions`` as one session sees them."""

    def __init__(self, kept: Kept, one: One) -> None:
        self._kept = kept
        self._one = one
        self._session = one.session

    async def _call(self) -> None:
        await self._session.takes(0.001, 0.05)
        if self._one.asks_until_frozen is not None:
            if self._one.asks_until_frozen == 0:
                await self._one.woken.wait()
            else:
                self._one.asks_until_frozen -= 1
        if self._session.happens(self._session.faults.save_failed):
            raise RetryableError("asking for members: no answer")

    async def members(self) -> Sequence[Member]:
        await self._call()
        newest = max(self._kept.members.values(), key=lambda one: one.epoch, default=None)
        return [] if newest is None else [replace(newest, age_seconds=self._kept.now() - newest.seen_at)]

    async def save_member(self, member: Member) -> None:
        await self._call()
        self._kept.members[member.epoch] = replace(member, seen_at=self._kept.now())

    async def newest_sessions(self) -> Sequence[Session]:
        await self._call()
        return sorted(self._kept.sessions, key=lambda one: one.rank)[-2:]

    async def later_session(self, session: Session) -> Session | None:
        await self._call()
        newest = max(self._kept.sessions, key=lambda one: one.rank, default=session)
        return newest if newest.rank > session.rank else None

    async def save_session(self, session: Session) -> None:
        await self._call()
        self._kept.sessions.append(replace(session, began_at=self._kept.now()))
        if self._session.happens(self._session.faults.save_unanswered):
            raise RetryableError("saving a session: timed out")

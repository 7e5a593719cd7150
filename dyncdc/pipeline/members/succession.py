"""Succession: when a process may take the place of another one with its pipeline name and member number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from dyncdc.errors import FatalError
from dyncdc.model.members import Member, Process, Session
from dyncdc.pipeline.ports.members import MemberStore, SessionStore
from dyncdc.pipeline.runtime import Backoff, retry_forever
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress
from dyncdc.timestamps import timestamp

from .assignment import Assignment, replaced
from .liveness import LIVE_SECONDS, Sightings

T = TypeVar("T")

POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Succession:
    """How this process takes the place of another one with the same pipeline name and member number.

    ``is_gone``: whether the process with this mark has certainly ended. ``take_over``: do not wait for one that
    runs. ``waits``: wait for its end, and do not refuse.
    """

    process: Process = field(default_factory=Process)
    is_gone: Callable[[str], bool] = lambda mark: False
    take_over: bool = False
    waits: bool = True

    def in_the_way(self, member: Member, sessions: Iterable[Session]) -> Session | None:
        """The session of a member that is alive, unless its process has certainly ended or is this one."""
        key = member.member, member.members, member.epoch
        found = next((one for one in sessions if (one.member, one.members, one.epoch) == key), None)
        found = found or Session(*key, "")
        mark = found.process.mark
        return None if mark and (mark == self.process.mark or self.is_gone(mark)) else found

    def refused(self, member: Member, session: Session) -> FatalError:
        """Say that someone else is at work."""
        return FatalError(
            f"being member {member.member}/{member.members}: another dyncdc process with this pipeline name is at work"
            f" ({at_work(member, session)})",
            hint="stop it, or take its place with `--take-over`; after its sudden death on another host wait"
            f" {LIVE_SECONDS:.0f} s",
        )


def at_work(member: Member, session: Session) -> str:
    """Name a process that is alive: where, since when, how lately seen."""
    host = session.process.host or "an unknown host"
    since = f" since {timestamp(session.began_at)}" if session.began_at else ""
    return f"on {host}{since}, seen {max(0.0, member.age_seconds):.0f} s ago"


class Predecessor:
    """The process at work as the member that this process is to be."""

    def __init__(
        self, assignment: Assignment, members: MemberStore, sessions: SessionStore, how: Succession, health: TaskHealth
    ) -> None:
        self._assignment = assignment
        self._members = members
        self._sessions = sessions
        self._how = how
        self._health = health
        self._sightings = Sightings()

    async def wait(self, after: int, task: TaskProgress) -> bool:
        """Return when no one is at work, and whether someone was; with ``take_over`` at once.

        Who has ended in order is not waited for, nor who runs no more on this machine. Anybody else is, until not seen
        for ``LIVE_SECONDS``, and health shows it by ``task``. ``after``: the epoch of our session before. Raises
        FatalError if it may not wait for that, and if the other process began after that session: it has
        taken our place, and a replaced process does not stand by.
        """
        waited = False
        while not self._how.take_over and (found := await self._find(after)):
            if after:
                raise replaced(self._assignment, found[0][0].epoch, after)
            if not self._how.waits:
                raise self._how.refused(*found[0])
            what = at_work(*found[0])
            task.moved()
            task.planned(f"another dyncdc process with this pipeline name and member number is at work: {what}")
            if not waited:
                self._health.log_info("waiting for another process to end", other=what)
            waited = True
            await asyncio.sleep(POLL_SECONDS)
        task.planned("")
        return waited

    async def _find(self, after: int) -> list[tuple[Member, Session]]:
        seen = await self._retry(self._members.members)
        self._sightings.look(seen)
        mine = self._assignment.member, self._assignment.members
        there = [
            one
            for one in self._sightings.alive(seen)
            if (one.member, one.members) == mine and not 0 < one.epoch <= after
        ]
        begun = await self._retry(self._sessions.newest_sessions) if there else ()
        found = [(one, self._how.in_the_way(one, begun)) for one in there]
        return [(one, session) for one, session in found if session is not None]

    async def _retry(self, operation: Callable[[], Awaitable[T]]) -> T:
        told = partial(self._health.log_retry, "start")
        return await retry_forever(operation, backoff=Backoff(first_seconds=0.5), on_retry=told)

"""Sessions: an epoch is one session's and no one else's, and it is durable before the session does anything.

Written first, then looked at: of two that begin together at least the later one sees both rows, so never do both go
on unnoticed. Clocks decide nothing: an epoch is above every one that was seen, and two of one epoch differ in their id.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from dyncdc.errors import FatalError
from dyncdc.model.members import Member, Process, Session
from dyncdc.pipeline.ports.members import MemberStore, SessionStore

from .assignment import Assignment

ID_BYTES = 12
"""Random ones; what a session inserts carries them, so that no row looks like a retry of another session's."""


class AnotherBegunError(FatalError):
    """Another process has begun as this member while this one was starting. Another session sees if it is at work."""


class SessionClaim:
    """The row in ``dyncdc_sessions`` of one session of a process."""

    def __init__(self, assignment: Assignment, store: SessionStore, members: MemberStore, process: Process) -> None:
        self._assignment = assignment
        self._store = store
        self._members = members
        self.session = Session(assignment.member, assignment.members, 0, secrets.token_hex(ID_BYTES), process)
        self._begun = 0

    async def look(self) -> None:
        """Note the newest session of this member, before it is decided if one is at work. Raises RetryableError."""
        self._begun = max((one.epoch for one in await self._seen() if self._same_member(one)), default=0)

    async def take(self, epoch: int) -> int:
        """Begin the session under this epoch or a later one, and return which. Raises RetryableError.

        Raises AnotherBegunError when another process has begun as this member since ``look``: this one may have been
        frozen meanwhile, and must not end the one that is at work by now. Raises FatalError when another process
        begins at the same time, and later than this one.
        """
        while True:
            seen = await self._seen()
            known = max(self._begun, self.session.epoch)
            if any(self._same_member(one) and one.epoch > known for one in seen):
                raise AnotherBegunError(f"beginning as member {self._assignment}: another process has begun meanwhile")
            epoch = max([epoch, *(one.epoch + 1 for one in seen)])
            self.session = replace(self.session, epoch=epoch)
            await self._store.save_session(self.session)
            rivals = [one for one in await self._store.newest_sessions() if one.id != self.session.id]
            mine = [one for one in rivals if self._same_member(one)]
            if any(one.rank > self.session.rank for one in mine):
                raise took_over(max(mine, key=lambda one: one.rank), self.session)
            if all(one.epoch < epoch for one in mine):
                return epoch

    async def check(self) -> None:
        """Raise FatalError when another process has begun as this member since. Raises RetryableError."""
        later = await self._store.later_session(self.session)
        if later is not None:
            raise took_over(later, self.session)

    async def _seen(self) -> list[Session | Member]:
        return [*await self._store.newest_sessions(), *await self._members.members()]

    def _same_member(self, one: Session | Member) -> bool:
        return (one.member, one.members) == (self.session.member, self.session.members)


def took_over(later: Session, ours: Session) -> FatalError:
    """Say that another process has taken the place of this one."""
    return FatalError(
        f"being member {Assignment(ours.member, ours.members)}: another dyncdc process with this pipeline name took"
        f" over (on {later.process.host or 'an unknown host'}, its epoch {later.epoch}, ours {ours.epoch})",
        hint="run one process per member of a pipeline, or give this one another `pipeline` name",
    )

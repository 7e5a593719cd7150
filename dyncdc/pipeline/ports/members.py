"""Where members and sessions write themselves down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dyncdc.model.members import Member, Session


class MemberStore(Protocol):
    """``dyncdc_members``. Every call raises RetryableError, FatalError."""

    async def members(self) -> Sequence[Member]:
        """The newest row of every member of every assignment: of the greatest epoch, those that have left included."""

    async def save_member(self, member: Member) -> None:
        """Append this process's row, seen now by the store's own clock."""


class SessionStore(Protocol):
    """``dyncdc_sessions``. Every call raises RetryableError, FatalError."""

    async def newest_sessions(self) -> Sequence[Session]:
        """The two sessions of the greatest rank of every member of every assignment, read consistently."""

    async def later_session(self, session: Session) -> Session | None:
        """The session of the greatest rank of the same member, if it is a later one than this."""

    async def save_session(self, session: Session) -> None:
        """Append a session; durable when it returns."""

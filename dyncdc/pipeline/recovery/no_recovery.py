"""Stores of a pipeline that keeps nothing of losses: they end with the session. Enough without snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.members import Member, Session
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.orphan_rows import Counted, Swept


class NoRecovery:
    """Implements ``RecoveryStore``, ``MemberStore``, ``SessionStore`` and ``OrphanRows`` by forgetting."""

    async def server_time(self) -> float:
        """No time."""
        return 0.0

    async def open_gaps(self) -> Sequence[Gap]:
        """None."""
        return ()

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        """Forget them."""

    async def open_requests(self) -> Sequence[Request]:
        """None."""
        return ()

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        """Forget them."""

    async def table_sources(self) -> Sequence[TableSource]:
        """None."""
        return ()

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        """Forget them."""

    async def members(self) -> Sequence[Member]:
        """None."""
        return ()

    async def save_member(self, member: Member) -> None:
        """Forget it."""

    async def newest_sessions(self) -> Sequence[Session]:
        """None."""
        return ()

    async def later_session(self, session: Session) -> Session | None:
        """None."""

    async def save_session(self, session: Session) -> None:
        """Forget it."""

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        """None."""
        return 0

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        """Count nothing."""
        return Counted(0, 0, None)

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        """No one has said anything."""
        return False

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        """Sweep nothing."""
        return Swept(0, None)

"""``dyncdc_sessions`` in ClickHouse: the session and process that each epoch belongs to."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.model.members import Process, Session
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse, Row

from .rows import MICROSECONDS, append_rows, catch_up
from .tables import SESSIONS

_FIELDS = "member, members, epoch, id, host, process, toUnixTimestamp64Micro(began_at)"


class ClickHouseSessions:
    """The sessions of one pipeline. Implements ``SessionStore``."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline

    async def newest_sessions(self) -> Sequence[Session]:
        """The two of the greatest rank of every member: of two that took one epoch both are seen."""
        await catch_up(self._clickhouse, SESSIONS)
        rows = await self._clickhouse.fetch(
            f"SELECT {_FIELDS} FROM {SESSIONS} WHERE pipeline = {quote_text(self._pipeline)}"
            " ORDER BY members, member, epoch DESC, id DESC LIMIT 2 BY members, member",
            doing="looking for sessions",
        )
        return [_session(row) for row in rows]

    async def later_session(self, session: Session) -> Session | None:
        """The one of the greatest rank of the same member, if it is a later one."""
        rows = await self._clickhouse.fetch(
            f"SELECT {_FIELDS} FROM {SESSIONS} WHERE pipeline = {quote_text(self._pipeline)}"
            f" AND members = {session.members} AND member = {session.member} AND epoch >= {session.epoch}"
            f" AND (epoch, id) > ({session.epoch}, {quote_text(session.id)}) ORDER BY epoch DESC, id DESC LIMIT 1",
            doing="looking for a later session",
        )
        return _session(rows[0]) if rows else None

    async def save_session(self, session: Session) -> None:
        """Append the row."""
        row = {
            "pipeline": self._pipeline,
            "member": session.member,
            "members": session.members,
            "epoch": session.epoch,
            "id": session.id,
            "host": session.process.host,
            "process": session.process.mark,
        }
        await append_rows(self._clickhouse, SESSIONS, [row], f"saving the session of member {session.member}")


def _session(row: Row) -> Session:
    member, members, epoch, id_, host, mark, began_at = row
    return Session(member, members, epoch, id_, Process(host, mark), began_at / MICROSECONDS)

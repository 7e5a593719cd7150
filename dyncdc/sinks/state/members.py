"""``dyncdc_members`` in ClickHouse: who works on a pipeline, as each process says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from dyncdc.model.members import Member
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse

from .rows import MICROSECONDS, append_rows, catch_up
from .tables import MEMBERS


class ClickHouseMembers:
    """The members of one pipeline. Implements ``MemberStore``. Only ClickHouse's clock is used."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._heartbeats = 0

    async def members(self) -> Sequence[Member]:
        """The newest row of every member: of its greatest epoch, and of that the one seen last."""
        await catch_up(self._clickhouse, MEMBERS)
        rows = await self._clickhouse.fetch(
            "SELECT member, members, max(epoch), toUnixTimestamp64Micro(argMax(seen_at, (epoch, seen_at))) AS seen,"
            " toUnixTimestamp64Micro(now64(6)) - seen, argMax(tables, (epoch, seen_at)),"
            " argMax(`left`, (epoch, seen_at)), argMax(errors, (epoch, seen_at))"
            f" FROM {MEMBERS} WHERE pipeline = {quote_text(self._pipeline)} GROUP BY member, members"
            " ORDER BY members, member",
            doing="looking for members",
        )
        return [
            Member(
                member,
                members,
                epoch,
                seen_at / MICROSECONDS,
                age / MICROSECONDS,
                tuple(tables),
                bool(left),
                orjson.loads(errors) if errors else {},
            )
            for member, members, epoch, seen_at, age, tables, left, errors in rows
        ]

    async def save_member(self, member: Member) -> None:
        """Append the row, seen now."""
        self._heartbeats += 1
        row = {
            "pipeline": self._pipeline,
            "member": member.member,
            "members": member.members,
            "epoch": member.epoch,
            "heartbeat": self._heartbeats,
            "tables": list(member.tables),
            "left": int(member.left),
            "errors": orjson.dumps(dict(member.errors)).decode() if member.errors else "",
        }
        doing = f"saving member {member.member}/{member.members}"
        await append_rows(self._clickhouse, MEMBERS, [row], doing)

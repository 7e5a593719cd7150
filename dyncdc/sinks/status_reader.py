"""What ClickHouse holds of a pipeline, as ``dyncdc status`` and the status page show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.members.liveness import alive
from dyncdc.pipeline.recovery.gaps import in_words
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.telemetry.status.clickhouse_state import ClickHouseState, newest_snapshots
from dyncdc.telemetry.status.model import DeadLettersStatus, GapStatus, MemberStatus, TableFacts, TableStatus

from .client.client import ClickHouse
from .state.dead_letters.store import ClickHouseDeadLetters
from .state.members import ClickHouseMembers
from .state.progress.snapshots import ClickHouseSnapshots
from .state.recovery import ClickHouseRecovery
from .state.tables import MEMBERS


class StatusReader:
    """Reads one pipeline. Dead letters are counted again only when their table has changed since the last call."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._snapshots = ClickHouseSnapshots(clickhouse, pipeline)
        self._recovery = ClickHouseRecovery(clickhouse, pipeline)
        self._members = ClickHouseMembers(clickhouse, pipeline)
        self._dead_letters = ClickHouseDeadLetters(clickhouse, pipeline)

    async def read(self, tables: Collection[TableFacts]) -> ClickHouseState:
        """Ask for everything. Raises what ClickHouse's calls raise."""
        dead_letters = [DeadLettersStatus(*found) for found in await self._dead_letters.count_by_reason()]
        gaps = await self._recovery.open_gaps()
        snapshots, loaded = newest_snapshots(await self._snapshots.load())
        requests = await self._recovery.open_requests()
        rows = await self._count_rows([MEMBERS, *(facts.destination for facts in tables)])
        counts: Counter[str] = Counter()
        for found in dead_letters:
            counts[found.table] += found.count
        return ClickHouseState(
            dead_letters=dead_letters,
            gaps=[_gap(gap) for gap in gaps],
            requested=sorted({request.table for request in requests}),
            # A database of an older version has no such table.
            members=await self._read_members() if MEMBERS in rows else [],
            tables={
                facts.destination: _table(
                    facts, snapshots.get(facts.table), rows.get(facts.destination), counts[facts.table]
                )
                for facts in tables
            },
            snapshots=snapshots,
            loaded=loaded,
        )

    async def _count_rows(self, tables: Collection[str]) -> dict[str, int | None]:
        """Rows of those tables that exist, None where the engine does not count them."""
        rows = await self._clickhouse.fetch(
            "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() AND name IN"
            f" ({', '.join(map(quote_text, tables))})",
            doing="counting rows",
        )
        return dict(rows)

    async def _read_members(self) -> list[MemberStatus]:
        """Those of the newest assignment; of others only those that are alive."""
        members = await self._members.members()
        newest = max((member.epoch, member.members) for member in members)[1] if members else 0
        living = alive(members)
        return [
            MemberStatus(f"{member.member}/{member.members}", member in living, max(0.0, member.age_seconds))
            for member in members
            if member.members == newest or member in living
        ]


def _table(facts: TableFacts, snapshot: Snapshot | None, rows: int | None, dead_letters: int) -> TableStatus:
    table = facts.status()
    if snapshot is not None and table.snapshot != "none":
        table.snapshot = snapshot.state
    table.rows, table.dead_letters = rows, dead_letters
    return table


def _gap(gap: Gap) -> GapStatus:
    return GapStatus(
        table=gap.table,
        source=gap.source,
        shard=gap.shard,
        begin=gap.begin,
        end=gap.end,
        noticed_at=gap.noticed_at,
        accepted=gap.accepted,
        words=in_words(gap),
    )

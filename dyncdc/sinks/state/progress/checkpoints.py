"""Checkpoints in ClickHouse: append-only rows, read back by rank. Never deleted, never rewritten."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dyncdc.model.checkpoints import Checkpoint, Mark, Past, PastMark, Proof, Rollback, Server
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.rows import MICROSECONDS, ORDINAL_BITS, append_rows, catch_up, time_text
from dyncdc.sinks.state.tables import CHECKPOINTS, SNAPSHOTS

from . import checkpoint_history

FINISHED, REOPENED = 1, 2
"""What ``finished`` says of a row, 0 apart."""

STARTED_AT = "toUnixTimestamp64Micro(now64(6)) - 1000000 * toInt64(uptime())"

SHARDS_A_QUERY = 500
"""A statement may have 256 KiB; the key of an export's file up to 1 KiB is unusual, 100 bytes are usual."""


class ClickHouseCheckpoints:
    """``dyncdc_checkpoints`` of one pipeline, and their history.

    A shard's finished row wins, whatever its rank, unless one that reopens the shard has a greater; then the greatest
    rank does.
    """

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._alone = True
        """Whether one server alone holds the data, so that its restart may have lost some."""

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return self._clickhouse.connects

    async def load(self) -> Sequence[Checkpoint]:
        """Every shard's winning row. ``epoch`` is the greatest that any row of the shard carries.

        Without the files of snapshots that a later one of the same table has followed: no one goes back to these, and
        with the years they become many. A replica that does not know of the later one yet only leaves out less.
        """
        await catch_up(self._clickhouse, CHECKPOINTS)
        return await self._winners(f" AND source NOT IN ({self._followed_snapshots()})", "loading checkpoints")

    def _followed_snapshots(self) -> str:
        begun = (
            "SELECT id, any(table) AS of, any(destination_uuid) AS into, (min(updated_at), id) AS place"
            f" FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} GROUP BY id"
        )
        newest = f"SELECT argMax(id, place) FROM ({begun}) GROUP BY of, into"
        return f"SELECT id FROM {SNAPSHOTS} WHERE pipeline = {quote_text(self._pipeline)} AND id NOT IN ({newest})"

    async def refresh(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        """As ``load``, of some sources, as this replica has them."""
        if not sources:
            return []
        names = ", ".join(map(quote_text, sources))
        return await self._winners(f" AND source IN ({names})", "looking at the checkpoints of other members")

    async def _winners(self, where: str, doing: str) -> list[Checkpoint]:
        row = "(position, toUnixTimestamp64Micro(read_until), ordinal, member, toUnixTimestamp64Micro(saved_at))"
        rows = await self._clickhouse.fetch(
            f"SELECT source, shard, max(finished = {FINISHED}) AND maxIf(rank, finished = {FINISHED})"
            f" >= maxIf(rank, finished = {REOPENED}) AS done, max(epoch),"
            f" if(done, argMaxIf({row}, rank, finished = {FINISHED}), argMaxIf({row}, rank, finished != {FINISHED}))"
            f" FROM {CHECKPOINTS} WHERE pipeline = {quote_text(self._pipeline)}{where} GROUP BY source, shard",
            doing=doing,
        )
        return [
            Checkpoint(
                SourceId(source),
                ShardId(shard),
                Mark(Position(position), read_until / MICROSECONDS, finished=bool(finished)),
                epoch,
                ordinal,
                member,
                saved_at=saved_at / MICROSECONDS,
            )
            for source, shard, finished, epoch, (position, read_until, ordinal, member, saved_at) in rows
        ]

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        """Append the rows in one insert."""
        await append_rows(
            self._clickhouse,
            CHECKPOINTS,
            [
                {
                    "pipeline": self._pipeline,
                    "source": row.source,
                    "shard": row.shard,
                    "position": row.mark.position,
                    "finished": REOPENED if row.reopened else FINISHED * row.mark.finished,
                    "read_until": time_text(row.mark.read_until),
                    "epoch": row.epoch,
                    "ordinal": row.ordinal,
                    "rank": str(row.epoch << ORDINAL_BITS | row.ordinal),
                    "member": row.member,
                }
                for row in rows
            ],
            doing=f"saving {len(rows)} checkpoints",
        )

    async def proof(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        """The greatest epoch that any row of these shards carries, and whether ``last`` is still there."""
        proof = await self._look_for(shards, last)
        if not proof.held:  # of several replicas this one may only lag
            await catch_up(self._clickhouse, CHECKPOINTS)
            proof = await self._look_for(shards, last)
        return proof

    async def _look_for(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        asked = sorted(shards)
        newest, held, started_at = 0, True, 0
        ours = "0" if last is None else f"{_of_shards([(last.source, last.shard)])} AND {_at_least(last)}"
        for first in range(0, max(1, len(asked)), SHARDS_A_QUERY):
            theirs = _of_shards(asked[first : first + SHARDS_A_QUERY])
            rows = await self._clickhouse.fetch(
                f"SELECT maxIf(epoch, {theirs}), max({ours}), {STARTED_AT} FROM {CHECKPOINTS}"
                f" WHERE pipeline = {quote_text(self._pipeline)} AND ({theirs} OR ({ours}))",
                doing="looking for our last checkpoints and a newer epoch",
            )
            found, there, started_at = rows[0]
            newest, held = max(newest, int(found)), held and (last is None or bool(there))
        return Proof(newest, held, started_at / MICROSECONDS if self._alone else 0.0)

    async def server(self) -> Server:
        """The server that answers. Of replicas that a quorum keeps equal, none counts as restarted."""
        doing = "asking which ClickHouse this is"
        (engine,) = await self._clickhouse.fetch(
            f"SELECT any(engine) FROM system.tables WHERE database = currentDatabase() AND name = '{CHECKPOINTS}'",
            doing=doing,
        )
        kind = str(engine[0])
        self._alone = not kind.startswith(("Replicated", "Shared"))
        if kind.startswith("Replicated"):
            (replicas,) = await self._clickhouse.fetch(
                "SELECT max(total_replicas) FROM system.replicas WHERE database = currentDatabase()"
                f" AND table = '{CHECKPOINTS}'",
                doing=doing,
            )
            self._alone = int(replicas[0]) <= 1
        ((id_, started_at),) = await self._clickhouse.fetch(f"SELECT toString(serverUUID()), {STARTED_AT}", doing=doing)
        return Server("" if kind.startswith("Shared") else id_, started_at / MICROSECONDS if self._alone else 0.0)

    async def remember(self, marks: Sequence[PastMark]) -> None:
        """Append to the history, in one insert."""
        await checkpoint_history.remember(self._clickhouse, self._pipeline, marks)

    async def past(self, server: Server, rows: int) -> Past:
        """The newest past marks of each shard, and when a server before this one took the last of all."""
        return await checkpoint_history.past(self._clickhouse, self._pipeline, server, rows)

    async def note_rollback(self, member: int) -> None:
        """Append to ``dyncdc_rollbacks``."""
        await checkpoint_history.note_rollback(self._clickhouse, self._pipeline, member)

    async def rollbacks(self) -> Sequence[Rollback]:
        """Those of the days for which past marks are kept, oldest first."""
        return await checkpoint_history.rollbacks(self._clickhouse, self._pipeline)

    async def server_time(self) -> float:
        """Seconds since the epoch by ClickHouse's clock."""
        rows = await self._clickhouse.fetch("SELECT toUnixTimestamp64Micro(now64(6))", doing="asking ClickHouse's time")
        return int(rows[0][0]) / MICROSECONDS


def _of_shards(shards: Sequence[tuple[SourceId, ShardId]]) -> str:
    """The condition that a row is of one of these shards."""
    by_source: dict[SourceId, list[str]] = {}
    for source, shard in shards:
        by_source.setdefault(source, []).append(quote_text(shard))
    found = (
        f"(source = {quote_text(source)} AND shard IN ({', '.join(names)}))" for source, names in by_source.items()
    )
    return f"({' OR '.join(found)})" if by_source else "0"


def _at_least(row: Checkpoint) -> str:
    """The condition that a row was saved by the process that saved this one, then or later."""
    return f"epoch = {row.epoch} AND member = {row.member} AND ordinal >= {row.ordinal}"

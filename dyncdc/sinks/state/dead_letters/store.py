"""The dead letters of one pipeline in ClickHouse: counted, found, appended and closed. Append-only.

All that is read of them, and all that is written but by the writer's inserts, is here.

A dead letter is open while no row of its id has a ``replayed_at``. Closing one appends a copy of it that has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dyncdc.decode.dead_letters.rows import raw_of_text, text_of_raw
from dyncdc.model.shards import SourceId
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse, Row
from dyncdc.sinks.client.query_settings import WAIT_FOR_DELETES
from dyncdc.sinks.state.rows import MICROSECONDS, append_rows, catch_up, size_of, until_made_again
from dyncdc.sinks.state.tables import DEAD_LETTERS

DROPPED: Final = "dropped: "
"""What the error of a dead letter begins with that was closed without being replayed."""

IDS_PER_STATEMENT: Final = 1_000
_COPIED: Final = "id, pipeline, `table`, reason, `column`, {error}, source, shard, position, raw, received_at"
_TIME: Final = "toUnixTimestamp64Micro"
_OPEN: Final = "HAVING max(replayed_at) IS NULL"
"""What is open, of rows by id."""
_FIELDS: Final = (
    "id, any(`table`), any(reason), any(`column`), argMax(error, ifNull(replayed_at, toDateTime64(0, 6))), any(source),"
    f" any(shard), any(position), {_TIME}(min(received_at)), {_TIME}(max(replayed_at))"
)


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """One dead letter. ``table`` is DynamoDB's; times in seconds since the epoch, ``replayed_at`` None while open."""

    id: str
    table: str
    reason: str
    column: str
    error: str
    source: str
    shard: str
    position: str
    received_at: float
    replayed_at: float | None
    raw: bytes | None = None
    """The record as it was read; None where it was not asked for."""

    @property
    def state(self) -> str:
        """``open``, ``replayed`` or ``dropped``."""
        if self.replayed_at is None:
            return "open"
        return "dropped" if self.error.startswith(DROPPED) else "replayed"


@dataclass(slots=True)
class _Answer:
    """Rows of a query, and the size of the table just before it was read."""

    rows: Sequence[Row]
    size: tuple[int, int] | None = None


class ClickHouseDeadLetters:
    """``dyncdc_dead_letters`` of one pipeline. Raises what ClickHouse's calls raise."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._counted = _Answer([])
        self._sources = _Answer([])

    async def count_open(
        self, *, source: str | None = None, table: str | None = None, all_replicas: bool = False
    ) -> int:
        """How many dead letters are open. With ``source``, of one stream or snapshot: a snapshot is whole only at 0.

        ``all_replicas``: with what any replica has acknowledged, for what is decided by it.
        """
        opened = self._opened("id", source=source, table=table)
        with until_made_again():
            if all_replicas:
                await catch_up(self._clickhouse, DEAD_LETTERS)
            rows = await self._clickhouse.fetch(f"SELECT count() FROM ({opened})", doing="counting dead letters")
        return int(rows[0][0])

    async def open_sources(self) -> Collection[tuple[str, SourceId]]:
        """Tables and sources with open dead letters; table "" for a record that names none.

        Asked every few seconds: dead letters, closed ones included, are read only where the table has changed since.
        """
        opened = self._opened("id, any(`table`) AS t, any(source) AS s")
        with until_made_again():
            await catch_up(self._clickhouse, DEAD_LETTERS)
            rows = await self._read_changed(
                self._sources, f"SELECT DISTINCT t, s FROM ({opened})", "looking for open dead letters"
            )
        return frozenset((table, SourceId(source)) for table, source in rows)

    async def count_by_reason(self) -> list[tuple[str, str, str, int, float]]:
        """Open dead letters by table, reason and column: how many, and when the newest came (seconds); most first.

        Read again only where the table has changed since: an open status page asks every few seconds.
        """
        opened = self._opened(
            f"id, any(`table`) AS t, any(reason) AS r, any(`column`) AS c, {_TIME}(min(received_at)) AS at"
        )
        rows = await self._read_changed(
            self._counted,
            f"SELECT t, r, c, count() AS n, max(at) FROM ({opened}) GROUP BY t, r, c ORDER BY n DESC, t, r, c",
            "counting dead letters",
        )
        return [(table, reason, column, int(n), at / MICROSECONDS) for table, reason, column, n, at in rows]

    async def find(
        self,
        *,
        ids: Sequence[str] | None = None,
        prefix: str = "",
        table: str | None = None,
        reason: str | None = None,
        only_open: bool = True,
        limit: int | None = None,
        with_raw: bool = False,
    ) -> list[StoredDeadLetter]:
        """Dead letters, newest first. ``ids`` and ``prefix`` (of an id) narrow them; ``with_raw``: the records too."""
        if ids is not None and len(ids) > IDS_PER_STATEMENT:
            raise ValueError(f"more than {IDS_PER_STATEMENT} ids at a time")
        if ids is not None and not ids:
            return []
        where = self._where(table=table, reason=reason, ids=ids, prefix=prefix)
        having = _OPEN if only_open else ""
        limited = f"LIMIT {limit}" if limit is not None else ""
        rows = await self._clickhouse.fetch(
            f"SELECT {_FIELDS}{', any(raw)' if with_raw else ''} FROM {DEAD_LETTERS} WHERE {where}"
            f" GROUP BY id {having} ORDER BY min(received_at) DESC, any(source), any(shard),"
            f" length(any(position)) DESC, any(position) DESC, id {limited}",
            doing="reading dead letters",
        )
        return [_letter(row) for row in rows]

    async def append(self, dead_letter: StoredDeadLetter, doing: str) -> None:
        """Append one that is no record's. The server says when it came."""
        row = {
            "id": dead_letter.id,
            "pipeline": self._pipeline,
            "table": dead_letter.table,
            "reason": dead_letter.reason,
            "column": dead_letter.column,
            "error": dead_letter.error,
            "source": dead_letter.source,
            "shard": dead_letter.shard,
            "position": dead_letter.position,
            "raw": text_of_raw(dead_letter.raw or b""),
        }
        await append_rows(self._clickhouse, DEAD_LETTERS, [row], doing)

    async def close(self, ids: Sequence[str], *, dropped: bool = False) -> None:
        """Mark dead letters as replayed, or as dropped. Closing one again changes nothing that counts."""
        fields = _COPIED.format(error="error")
        values = _COPIED.format(error=f"concat({quote_text(DROPPED)}, error)" if dropped else "error")
        for first in range(0, len(ids), IDS_PER_STATEMENT):
            some = ids[first : first + IDS_PER_STATEMENT]
            await self._clickhouse.execute(
                f"INSERT INTO {DEAD_LETTERS} ({fields}, replayed_at) SELECT {values}, now64(6) FROM {DEAD_LETTERS}"
                f" WHERE {self._where(ids=some)} AND replayed_at IS NULL ORDER BY received_at LIMIT 1 BY id",
                doing=f"closing {len(some)} dead letters",
            )

    async def forget_closed(self, days: int) -> int:
        """Delete the dead letters that were closed more than so many days ago; return how many.

        What says that a dead letter is closed goes last: interrupted in between, none is open that was not before.
        """
        closed = (
            f"SELECT id FROM {DEAD_LETTERS} WHERE {self._where()} AND replayed_at IS NOT NULL"
            f" GROUP BY id HAVING max(replayed_at) < now64(6) - toIntervalDay({days})"
        )
        doing = "deleting closed dead letters"
        rows = await self._clickhouse.fetch(f"SELECT count() FROM ({closed})", doing=doing)
        for which in ("IS NULL", "IS NOT NULL"):
            await self._clickhouse.execute(
                f"DELETE FROM {DEAD_LETTERS} WHERE {self._where()} AND replayed_at {which} AND id IN ({closed})",
                settings=WAIT_FOR_DELETES,
                doing=doing,
            )
        return int(rows[0][0])

    async def _read_changed(self, answer: _Answer, sql: str, doing: str) -> Sequence[Row]:
        """The rows of a query over the whole table, read again only where the table has changed since."""
        size = await size_of(self._clickhouse, DEAD_LETTERS)
        if size is None or size != answer.size:
            answer.rows = await self._clickhouse.fetch(sql, doing=doing)
            answer.size = size
        return answer.rows

    def _opened(self, fields: str, *, source: str | None = None, table: str | None = None) -> str:
        """Select the open dead letters, a row each."""
        where = self._where(source=source, table=table)
        return f"SELECT {fields} FROM {DEAD_LETTERS} WHERE {where} GROUP BY id {_OPEN}"

    def _where(
        self,
        *,
        source: str | None = None,
        table: str | None = None,
        reason: str | None = None,
        ids: Sequence[str] | None = None,
        prefix: str = "",
    ) -> str:
        found = [f"pipeline = {quote_text(self._pipeline)}"]
        if source is not None:
            found.append(f"source = {quote_text(source)}")
        if table is not None:
            found.append(f"`table` = {quote_text(table)}")
        if reason is not None:
            found.append(f"reason = {quote_text(reason)}")
        if ids is not None:
            found.append(f"id IN ({', '.join(map(quote_text, ids))})")
        if prefix:
            found.append(f"startsWith(id, {quote_text(prefix)})")
        return " AND ".join(found)


def _letter(row: Row) -> StoredDeadLetter:
    id_, table, reason, column, error, source, shard, position, received_at, replayed_at, *rest = row
    closed = replayed_at / MICROSECONDS if replayed_at else None
    raw = raw_of_text(rest[0]) if rest else None
    return StoredDeadLetter(
        id_, table, reason, column, error, source, shard, position, received_at / MICROSECONDS, closed, raw
    )

"""The dead letters of one pipeline in ClickHouse: found, counted and closed. Append-only.

A dead letter is open while no row of its id has a ``replayed_at``. Closing one appends a copy of it that has.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import orjson

from dyncdc.errors import FatalError
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.pipeline.writing.dead_letter_limits import Limit, LimitStop
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.types.reject_reasons import LIMIT_REACHED
from dyncdc.sinks.client.client import ClickHouse, Row
from dyncdc.sinks.client.query_settings import WAIT_FOR_DELETES

from .rows import append_rows, size_of, until_made_again
from .tables import DEAD_LETTERS

DROPPED: Final = "dropped: "
"""What the error of a dead letter begins with that was closed without being replayed."""

IDS_PER_STATEMENT: Final = 1_000
_COPIED: Final = "id, pipeline, `table`, reason, `column`, {error}, source, shard, position, raw, received_at"
_TIME: Final = "toUnixTimestamp64Micro"
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


class _LimitStopRaw(msgspec.Struct):
    limit: Limit
    value: float
    refused: bool


class ClickHouseDeadLetters:
    """``dyncdc_dead_letters`` of one pipeline. Raises what ClickHouse's calls raise."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._counted: list[tuple[str, str, str, int, float]] = []
        self._counted_size: tuple[int, int] | None = None
        """Of the table, just before it was counted."""

    async def count_open(self, *, source: str | None = None, table: str | None = None) -> int:
        """How many dead letters are open. With ``source``, of one stream or snapshot: a snapshot is whole only at 0."""
        with until_made_again():
            rows = await self._clickhouse.fetch(
                f"SELECT count() FROM (SELECT id FROM {DEAD_LETTERS} WHERE {self._where(source=source, table=table)}"
                " GROUP BY id HAVING max(replayed_at) IS NULL)",
                doing="counting dead letters",
            )
        return int(rows[0][0])

    async def count_by_reason(self) -> list[tuple[str, str, str, int, float]]:
        """Open dead letters by table, reason and column: how many, and when the newest came (seconds); most first.

        Read again only where the table has changed since: an open status page asks every few seconds.
        """
        size = await size_of(self._clickhouse, DEAD_LETTERS)
        if size is not None and size == self._counted_size:
            return self._counted
        rows = await self._clickhouse.fetch(
            "SELECT t, r, c, count() AS n, max(at) FROM (SELECT id, any(`table`) AS t, any(reason) AS r,"
            f" any(`column`) AS c, {_TIME}(min(received_at)) AS at FROM {DEAD_LETTERS} WHERE {self._where()}"
            " GROUP BY id HAVING max(replayed_at) IS NULL) GROUP BY t, r, c ORDER BY n DESC, t, r, c",
            doing="counting dead letters",
        )
        self._counted = [(table, reason, column, int(n), at / 1_000_000) for table, reason, column, n, at in rows]
        self._counted_size = size
        return self._counted

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
        having = "HAVING max(replayed_at) IS NULL" if only_open else ""
        limited = f"LIMIT {limit}" if limit is not None else ""
        rows = await self._clickhouse.fetch(
            f"SELECT {_FIELDS}{', any(raw)' if with_raw else ''} FROM {DEAD_LETTERS} WHERE {where}"
            f" GROUP BY id {having} ORDER BY min(received_at) DESC, any(source), any(shard),"
            f" length(any(position)) DESC, any(position) DESC, id {limited}",
            doing="reading dead letters",
        )
        return [_letter(row) for row in rows]

    async def open_limit_stops(self) -> Sequence[LimitStop]:
        """What earlier sessions have stopped at and no one has closed."""
        found = await self.find(reason=LIMIT_REACHED, with_raw=True)
        return [_halt(dead_letter) for dead_letter in found]

    async def save_limit_stop(self, stop: LimitStop) -> None:
        """Keep what a session has stopped at."""
        limit = {"limit": stop.limit, "value": stop.value, "refused": stop.refused}
        row = {
            "id": stop.id,
            "pipeline": self._pipeline,
            "table": stop.table,
            "reason": LIMIT_REACHED,
            "column": stop.column,
            "error": stop.message,
            "source": stop.source,
            "shard": stop.shard,
            "position": stop.position,
            "raw": base64.b64encode(orjson.dumps(limit)).decode(),
        }
        await append_rows(self._clickhouse, DEAD_LETTERS, [row], doing="keeping why dyncdc stops")

    async def close_limit_stop(self, stop: LimitStop) -> None:
        """Mark one as done with."""
        await self.close([stop.id])

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
    closed = replayed_at / 1_000_000 if replayed_at else None
    raw = _decoded(rest[0]) if rest else None
    return StoredDeadLetter(
        id_, table, reason, column, error, source, shard, position, received_at / 1_000_000, closed, raw
    )


def _halt(dead_letter: StoredDeadLetter) -> LimitStop:
    try:
        limit = msgspec.json.decode(dead_letter.raw or b"", type=_LimitStopRaw)
    except msgspec.MsgspecError:
        raise FatalError(
            f"reading dead letter {dead_letter.id}: it says that a limit was reached, and not which",
            hint=f"it was edited; drop it: `dyncdc dead-letters drop {dead_letter.id}`",
        ) from None
    return LimitStop(
        dead_letter.id,
        limit.limit,
        limit.value,
        dead_letter.error,
        SourceId(dead_letter.source),
        ShardId(dead_letter.shard),
        Position(dead_letter.position),
        dead_letter.table,
        dead_letter.column,
        limit.refused,
    )


def _decoded(raw: str) -> bytes:
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:  # someone wrote it by hand
        return raw.encode()

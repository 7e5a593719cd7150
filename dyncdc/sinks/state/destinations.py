"""What stands under a destination's name, and ``dyncdc_destinations``: into which table changes went from when on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from dyncdc.errors import AccessDeniedError, FatalError, RetryableError
from dyncdc.pipeline.destinations.bindings import Binding, DestinationContents, DestinationState, Partition, Target
from dyncdc.schema.existing.compatibility import ENGINE
from dyncdc.schema.existing.hazards import find_hazards
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError

from .rows import MICROSECONDS, append_rows, catch_up, time_text, until_made_again
from .tables import DESTINATIONS, TOMBSTONES

_MICRO: Final = "toUnixTimestamp64Micro"
_HERE: Final = "database = currentDatabase()"
_PARTS: Final = (
    "SELECT `table`, partition_id AS id, min(min_block_number) AS first, max(max_block_number) AS last,"
    " sum(rows) AS size FROM system.parts WHERE database = currentDatabase() AND active AND rows > 0"
    " AND `table` IN ({names}) GROUP BY `table`, id"
)
_NO_PARTS: Final = "SELECT '' AS `table`, '' AS id, 0 AS first, 0 AS last, 0 AS size"


class ClickHouseDestinations:
    """Implements ``bindings.DestinationStore``. ``deleted``: the column that marks deleted items, by destination."""

    def __init__(self, clickhouse: ClickHouse, deleted: Mapping[str, str]) -> None:
        self._clickhouse = clickhouse
        self._deleted = deleted

    async def bindings(self) -> Sequence[Binding]:
        """Every row of every pipeline, the first one first."""
        with until_made_again():
            return await read_bindings(self._clickhouse)

    async def save_bindings(self, rows: Sequence[Binding]) -> None:
        """Append rows in one insert."""
        with until_made_again():
            await write_bindings(self._clickhouse, rows)

    async def read_state(self, destinations: Collection[str]) -> Mapping[str, DestinationState]:
        """One query for all. Only parts that hold rows count: TRUNCATE leaves empty ones for a while."""
        names = ", ".join(map(quote_text, sorted(destinations)))
        blind = False
        try:
            rows = await self._standing(names, _PARTS.format(names=names))
        except AccessDeniedError:  # a user made for an earlier version has no grant on system.parts
            rows, blind = await self._standing(names, _NO_PARTS), True
        found: dict[str, DestinationState] = {}
        partitions: dict[str, dict[str, Partition]] = {}
        for name, uuid, engine_full, create_query, id_, first, last, size, at, cleaned in rows:
            mine = partitions.setdefault(name, {})
            if size:
                mine[id_] = Partition(first, last, size)
            hazards = str(find_hazards(engine_full, create_query))
            found[name] = DestinationState(uuid, at / MICROSECONDS, mine, bool(cleaned), hazards=hazards, blind=blind)
        for name in set(destinations) - found.keys():
            found[name] = DestinationState("", 0.0, detached=await is_detached(self._clickhouse, name))
        return found

    async def _standing(self, names: str, parts: str) -> Sequence[tuple[Any, ...]]:
        with until_made_again():
            return await self._clickhouse.fetch(
                "SELECT t.name, toString(t.uuid), t.engine_full, t.create_table_query, p.id, p.first, p.last, p.size,"
                f" {_MICRO}(now64(6)), toString(t.uuid) IN (SELECT destination_uuid FROM {TOMBSTONES})"
                " FROM (SELECT name, uuid, engine_full, create_table_query FROM system.tables"
                f" WHERE {_HERE} AND name IN ({names})) AS t LEFT JOIN ({parts}) AS p ON p.`table` = t.name",
                settings={"join_use_nulls": 0},
                doing="looking at the destinations",
            )

    async def caught_up(self, destination: str) -> bool:
        """Whether no part is on its way from another replica: without a grant that a destination's user may lack."""
        engine = await self._engine(destination)
        if engine.startswith("Shared"):
            await self._clickhouse.fetch(
                f"SELECT 1 FROM {qualified(destination)} LIMIT 1",
                settings={"select_sequential_consistency": 1},
                doing=f"waiting for all parts of {destination}",
            )
        if not engine.startswith("Replicated"):
            return bool(ENGINE.fullmatch(engine))
        lagging = await self._clickhouse.fetch(
            f"SELECT count() FROM system.replicas WHERE {_HERE} AND `table` = {quote_text(destination)} AND NOT"
            " (is_readonly OR is_session_expired OR inserts_in_queue > 0 OR log_pointer <= log_max_index)",
            doing=f"looking at the replica of {destination}",
        )
        return bool(lagging[0][0])

    async def _engine(self, destination: str) -> str:
        rows = await self._clickhouse.fetch(
            f"SELECT engine FROM system.tables WHERE {_HERE} AND name = {quote_text(destination)}",
            doing=f"looking at {destination}",
        )
        return str(rows[0][0]) if rows else ""

    async def any_live(self, destination: str) -> bool:
        """Whether a reader would find any item: the winning row of some key is no tombstone."""
        if not ENGINE.fullmatch(await self._engine(destination)):  # another table, which the next look shows
            return False
        deleted = self._deleted.get(destination)
        where = f" WHERE {quote_name(deleted)} = 0" if deleted else ""
        try:
            rows = await self._clickhouse.fetch(
                f"SELECT 1 FROM {qualified(destination)} FINAL{where} LIMIT 1",
                settings={"max_threads": 1},
                doing=f"looking into {destination}",
            )
        except TableGoneError:
            return False
        return bool(rows)


async def read_bindings(clickhouse: ClickHouse) -> list[Binding]:
    """``dyncdc_destinations`` as it is, the first row first. Raises TableGoneError when there is none."""
    await catch_up(clickhouse, DESTINATIONS)
    rows = await clickhouse.fetch(
        f"SELECT number, pipeline, `table`, destination, uuid, arn, table_id, {_MICRO}(since), mapKeys(blocks),"
        f" mapValues(blocks), rows, live, revision, {_MICRO}(saved_at) FROM {DESTINATIONS} FINAL"
        " ORDER BY number, pipeline, `table`, saved_at",
        doing="loading where each table's changes went",
    )
    return [
        Binding(
            pipeline,
            Target(table, destination, uuid, arn, table_id),
            number,
            since / MICROSECONDS,
            DestinationContents(dict(zip(partitions, blocks, strict=True)), held_rows, bool(live)),
            revision,
            saved_at / MICROSECONDS,
        )
        for (
            number,
            pipeline,
            table,
            destination,
            uuid,
            arn,
            table_id,
            since,
            partitions,
            blocks,
            held_rows,
            live,
            revision,
            saved_at,
        ) in rows
    ]


async def write_bindings(clickhouse: ClickHouse, rows: Sequence[Binding]) -> None:
    """Append rows to ``dyncdc_destinations``; each replaces those of its number that are of a lesser revision."""
    if not rows:
        return
    values = [
        {
            "number": row.number,
            "pipeline": row.pipeline,
            "table": row.target.table,
            "destination": row.target.destination,
            "uuid": row.target.uuid,
            "arn": row.target.arn,
            "table_id": row.target.table_id,
            "since": time_text(row.since),
            "blocks": row.held.blocks,
            "rows": row.held.rows,
            "live": int(row.held.live),
            "revision": row.revision,
        }
        for row in rows
    ]
    await append_rows(clickhouse, DESTINATIONS, values, doing=f"saving where the changes of {len(rows)} tables go")


class DetachedError(RetryableError):
    """A table is there and waits for ATTACH TABLE."""


async def refuse_detached(clickhouse: ClickHouse, name: str) -> None:
    """Raise DetachedError while a table that is not there is only detached: another one must not take its place."""
    if await is_detached(clickhouse, name):
        hint = f"run: ATTACH TABLE {qualified(name)}"
        raise DetachedError(f"reading the definition of {name}: it is detached; {hint}", hint=hint)


async def is_detached(clickhouse: ClickHouse, name: str) -> bool:
    """Whether a table that is not there only waits for ATTACH TABLE. Not every server, and not every user, can say."""
    try:
        rows = await clickhouse.fetch(
            f"SELECT 1 FROM system.detached_tables WHERE {_HERE} AND `table` = {quote_text(name)} LIMIT 1",
            doing=f"looking for a detached {name}",
        )
    except (FatalError, AccessDeniedError):  # no such system table, or not for us
        return False
    return bool(rows)


async def count_rows(clickhouse: ClickHouse, name: str) -> int:
    """How many rows a table has, replaced and deleted ones included: of all its parts, without reading them."""
    rows = await clickhouse.fetch(f"SELECT count() FROM {qualified(name)}", doing=f"counting the rows of {name}")
    return int(rows[0][0])

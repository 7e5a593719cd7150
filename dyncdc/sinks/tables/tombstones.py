"""Old tombstones in ClickHouse: which are there, and how they go without bringing anything back.

Two deletes, in this order: first the rows that a tombstone hides, then tombstones of keys that have nothing else. Parts
are rewritten one after the other, and after a restart of the server the rest is decided again; between any two steps
every key that is deleted still has its tombstone. One statement for both would not be safe (see docs/decisions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dyncdc.errors import RetryableError
from dyncdc.schema.sql.ddl import key_columns
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import present_tables
from dyncdc.sinks.client.query_settings import WAIT_FOR_DELETES
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.rows import append_rows, catch_up
from dyncdc.sinks.state.tables import TOMBSTONES

from .orphan_rows import full_version, version_literal

SLICE_KEYS: Final = 1_000_000
"""Keys that one delete names at most, about: the set of them is in ClickHouse's memory."""

MOST_SLICES: Final = 256


@dataclass(frozen=True, slots=True)
class CleanedTable:
    """A destination whose tombstones are cleaned up, as it is now."""

    spec: TableSpec
    uuid: str


class ClickHouseTombstones:
    """Implements ``ports.Tombstones``. ``tables``: by DynamoDB's name."""

    def __init__(self, clickhouse: ClickHouse, pipeline: str, tables: Mapping[str, CleanedTable]) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._dead_letters = ClickHouseDeadLetters(clickhouse, pipeline)
        self._tables = tables

    async def open_dead_letters(self, table: str) -> int:
        """How many dead letters are open that may be of the table: its own, and those that name no table."""
        own = await self._dead_letters.count_open(table=table, all_replicas=True)
        return own + await self._dead_letters.count_open(table="", all_replicas=True)

    async def cleaned_before(self, table: str) -> int:
        """The version (microseconds) below which the destination has no tombstones any more; 0 for one with all."""
        found = self._tables.get(table)
        return await cleaned_before(self._clickhouse, found.uuid) if found is not None else 0

    async def promise(self, table: str, before: int) -> None:
        """Make the limit durable, before anything is deleted."""
        await self._keep(table, before, 0)

    async def count(self, table: str, before: int) -> int:
        """How many tombstones are older than ``before``, those included that a newer row has replaced."""
        return await count_tombstones(self._clickhouse, self._tables[table].spec, before)

    async def clean(self, table: str, before: int) -> int:
        """Delete what counts as deleted since before ``before``, rows and all; return how many keys that were."""
        spec = self._tables[table].spec
        await self._refuse_beside_others(spec)
        slices = min(MOST_SLICES, await self.count(table, before) // SLICE_KEYS + 1)
        keys = 0
        for number in range(slices):
            slice_of = Slice(spec, before, number, slices)
            ((found,),) = await self._clickhouse.fetch(
                f"SELECT count() FROM ({slice_of.deleted_keys()})",
                doing=f"looking for old tombstones in {spec.destination}",
            )
            if found:
                for statement in slice_of.statements():
                    doing = f"cleaning up tombstones of {spec.destination}"
                    await self._clickhouse.execute(statement, settings=WAIT_FOR_DELETES, doing=doing)
            keys += int(found)
        await self._keep(table, before, keys)
        return keys

    async def _refuse_beside_others(self, spec: TableSpec) -> None:
        """A delete that outlasted its caller is still at work, or someone else's change of the table: wait for it."""
        ((running,),) = await self._clickhouse.fetch(
            "SELECT count() FROM system.mutations WHERE database = currentDatabase()"
            f" AND table = {quote_text(spec.destination)} AND NOT is_done",
            doing=f"looking at the mutations of {spec.destination}",
        )
        if running:
            raise RetryableError(f"cleaning up tombstones of {spec.destination}: another mutation of it is under way")

    async def _keep(self, table: str, before: int, keys: int) -> None:
        row = {
            "destination_uuid": self._tables[table].uuid,
            "pipeline": self._pipeline,
            "table": table,
            "cleaned_before": before,
            "keys": keys,
        }
        await append_rows(self._clickhouse, TOMBSTONES, [row], doing=f"keeping which tombstones of {table} are gone")


@dataclass(frozen=True, slots=True)
class Slice:
    """One of ``slices`` parts of a destination's keys, and the deletes of what is older than ``before`` there."""

    spec: TableSpec
    before: int
    number: int = 0
    slices: int = 1

    def deleted_keys(self) -> str:
        """Return the query for keys whose newest row is a delete older than the limit.

        Where rows of one version disagree, the live one may be what a query returns: then the key stays.
        """
        spec = self.spec
        version, deleted = quote_name(spec.version_column), quote_name(spec.deleted_column)
        return self._keys(f"argMax({deleted}, ({version}, 1 - {deleted})) = 1 AND max({version}) < {self._limit}")

    def statements(self) -> tuple[str, str]:
        """Return both deletes: of what tombstones hide, then of tombstones that hide nothing."""
        version, deleted = quote_name(self.spec.version_column), quote_name(self.spec.deleted_column)
        table = qualified(self.spec.destination)
        alone = self._keys(f"min({deleted}) = 1 AND max({version}) < {self._limit}")
        old = f"{version} < {self._limit}"
        return (
            f"DELETE FROM {table} WHERE {deleted} = 0 AND {old} AND ({self._names}) IN ({self.deleted_keys()})",
            f"DELETE FROM {table} WHERE {deleted} = 1 AND {old} AND ({self._names}) IN ({alone})",
        )

    @property
    def _names(self) -> str:
        return ", ".join(map(quote_name, key_columns(self.spec)))

    @property
    def _limit(self) -> str:
        return version_literal(self.spec, full_version(self.spec, self.before))

    def _keys(self, having: str) -> str:
        """Keys of this slice that have an old tombstone, and of whose rows ``having`` is true."""
        table, names = qualified(self.spec.destination), self._names
        old = f"{quote_name(self.spec.deleted_column)} = 1 AND {quote_name(self.spec.version_column)} < {self._limit}"
        mine = f" AND cityHash64({names}) % {self.slices} = {self.number}" if self.slices > 1 else ""
        return (
            f"SELECT {names} FROM {table} WHERE ({names}) IN (SELECT {names} FROM {table} WHERE {old}{mine})"
            f" GROUP BY {names} HAVING {having}"
        )


async def cleaned_before(clickhouse: ClickHouse, destination_uuid: str) -> int:
    """The version (microseconds) below which a destination has no tombstones any more; 0 for one that has all."""
    if not await present_tables(clickhouse, [TOMBSTONES]):
        return 0  # a database of an older version
    await catch_up(clickhouse, TOMBSTONES)
    rows = await clickhouse.fetch(
        f"SELECT max(cleaned_before) FROM {TOMBSTONES} WHERE destination_uuid = {quote_text(destination_uuid)}",
        doing="reading which tombstones are gone",
    )
    return int(rows[0][0])


async def count_tombstones(clickhouse: ClickHouse, spec: TableSpec, before: int | None = None) -> int:
    """How many rows of a destination are tombstones; only those older than ``before`` (microseconds) where given."""
    old = ""
    if before is not None:
        old = f" AND {quote_name(spec.version_column)} < {version_literal(spec, full_version(spec, before))}"
    rows = await clickhouse.fetch(
        f"SELECT count() FROM {qualified(spec.destination)} WHERE {quote_name(spec.deleted_column)} = 1{old}",
        doing=f"counting the tombstones of {spec.destination}",
    )
    return int(rows[0][0])

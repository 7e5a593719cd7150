"""Orphan rows: rows of items that a later snapshot does not hold. They get tombstones, range by range of the keys.

Every row of a snapshot carries exactly its version S, and every change that the stream holds a greater one. So a key
whose winning row is older than S is not in the snapshot: the item was deleted, and the change that said so was lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dyncdc.errors import FatalError, RejectedRowsError, RetryableError
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.orphan_rows import Counted, Swept
from dyncdc.schema.sql.ddl import key_columns
from dyncdc.schema.sql.history import vanished
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.schema.table_spec import SEQUENCE_BITS, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.recovery import acceptance, has_request

from .introspection import read_table

RANGE_ROWS: Final = 500_000
"""Rows that one step looks at: well below a second, and its memory does not grow with the table."""

READ_SETTINGS: Final = {"use_skip_indexes_if_final": 0, "optimize_move_to_prewhere_if_final": 0}
"""An index over versions, on a table that someone else made, must not hide the row that wins."""

WRITE_SETTINGS: Final = {**READ_SETTINGS, "insert_deduplicate": 0}
"""A range swept again may well insert the same rows: they must not look like a retry of something else."""


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    type: str


class ClickHouseOrphanRows:
    """Implements ``ports.OrphanRows``. ``specs``: by DynamoDB's name, as the tables are now."""

    def __init__(
        self, clickhouse: ClickHouse, pipeline: str, specs: Mapping[str, TableSpec], *, range_rows: int = RANGE_ROWS
    ) -> None:
        self._clickhouse = clickhouse
        self._pipeline = pipeline
        self._dead_letters = ClickHouseDeadLetters(clickhouse, pipeline)
        self._specs = specs
        self._range_rows = range_rows

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        """How many items of a snapshot are dead letters that no one has dealt with."""
        return await self._dead_letters.count_open(source=snapshot, all_replicas=True)

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        """Whether ``dyncdc snapshot --accept-deletes`` was said of this snapshot, or of its request."""
        names = [acceptance(name) for name in (snapshot, request) if name]
        return await has_request(self._clickhouse, self._pipeline, names)

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        """Count in the next range of keys what ``sweep`` would do. Raises RetryableError, FatalError."""
        spec = self._specs[table]
        if spec.deletes == "ignore" or not spec.deleted_column:
            return Counted(0, 0, None)
        keys = await self._keys(spec)
        upto = await self._boundary(spec, keys, after)
        where = " AND ".join([*beyond(keys, after), *within(keys, upto)]) or "1"
        marks = [f"{quote_name(name)} = 0" for name in (spec.deleted_column, spec.expired_column) if name]
        ((live, orphan_rows),) = await self._clickhouse.fetch(
            f"SELECT countIf({' AND '.join(marks)}), countIf({' AND '.join(_older(spec, version))})"
            f" FROM {qualified(spec.destination)} FINAL WHERE {where}",
            settings=READ_SETTINGS,
            doing=f"counting deleted items in {spec.destination}",
        )
        return Counted(live, orphan_rows, upto or None)

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        """Mark as deleted what is older than ``version`` in the next range of keys; nothing with ``deletes = ignore``.

        Raises RetryableError (which includes "timed out, may have been executed"), FatalError.
        """
        spec = self._specs[table]
        if spec.deletes == "ignore" or not spec.deleted_column:
            return Swept(0, None)
        keys = await self._keys(spec)
        upto = await self._boundary(spec, keys, after)
        where = " AND ".join([*beyond(keys, after), *within(keys, upto), *_older(spec, version)])
        orphan_rows = f"FROM {qualified(spec.destination)} FINAL WHERE {where}"
        doing = f"looking for deleted items in {spec.destination}"
        ((rows,),) = await self._clickhouse.fetch(f"SELECT count() {orphan_rows}", settings=READ_SETTINGS, doing=doing)
        if rows:
            if spec.history:  # first: once they are marked as deleted no one finds them again
                await self._insert(
                    vanished(spec, version, orphan_rows),
                    f"adding {rows:,} deleted items to {spec.history}",
                    spec.history,
                )
            await self._insert(
                tombstones(spec, keys, version, orphan_rows),
                f"marking {rows:,} items of {spec.destination} as deleted",
                spec.destination,
            )
        return Swept(rows, upto or None)

    async def _insert(self, statement: str, doing: str, table: str) -> None:
        """Insert; what a view, a constraint or a grant of the table refuses is waited for, and ends no other table."""
        try:
            await self._clickhouse.execute(statement, settings=WRITE_SETTINGS, doing=doing)
        except (FatalError, RejectedRowsError) as error:
            hint = error.hint if isinstance(error, RejectedRowsError) else ""
            raise RetryableError(str(error), hint=hint or f"look at the views and constraints of {table}") from error

    async def _keys(self, spec: TableSpec) -> list[_Key]:
        """The key columns in the order in which the table is sorted, so that a range is one stretch of each part."""
        found = await read_table(self._clickhouse, spec.destination)
        names = key_columns(spec)
        if found is not None and found.sorting_columns and set(found.sorting_columns) == set(names):
            names = found.sorting_columns
        types = {column.name: column.type for column in spec.columns}
        return [_Key(name, types[name]) for name in names]

    async def _boundary(self, spec: TableSpec, keys: Sequence[_Key], after: tuple[str, ...]) -> tuple[str, ...]:
        """The last key of the next range, () when the table ends before it."""
        where = " AND ".join(beyond(keys, after)) or "1"
        order = ", ".join(quote_name(key.name) for key in keys)
        texts = ", ".join(f"hex(toString({quote_name(key.name)}))" for key in keys)
        rows = await self._clickhouse.fetch(
            f"SELECT {texts} FROM {qualified(spec.destination)} WHERE {where}"
            f" ORDER BY {order} LIMIT 1 OFFSET {self._range_rows}",
            doing=f"looking through the keys of {spec.destination}",
        )
        return tuple(rows[0]) if rows else ()


def tombstones(spec: TableSpec, keys: Sequence[_Key], version: int, source: str) -> str:
    """Return the statement that marks rows (``source``: FROM and WHERE) as deleted just before ``version``."""
    names = [quote_name(key.name) for key in keys]
    columns = ", ".join([*names, quote_name(spec.version_column), quote_name(spec.deleted_column)])
    stamp = version_literal(spec, full_version(spec, version) - 1)
    return (
        f"INSERT INTO {qualified(spec.destination)} ({columns}) SELECT {', '.join(names)}, {stamp}, toUInt8(1) {source}"
    )


def full_version(spec: TableSpec, version: int) -> int:
    """A snapshot's version (microseconds) as the table counts: one less is above every change that is older."""
    return version << SEQUENCE_BITS if spec.version_type == "UInt256" else version


def _older(spec: TableSpec, version: int) -> list[str]:
    limit = version_literal(spec, full_version(spec, version))
    marks = [name for name in (spec.deleted_column, spec.expired_column) if name]
    # an expired item that is kept is in no later snapshot
    return [f"{quote_name(spec.version_column)} < {limit}", *(f"{quote_name(name)} = 0" for name in marks)]


def version_literal(spec: TableSpec, version: int) -> str:
    return f"CAST('{version}', {quote_text(spec.version_type)})"


def beyond(keys: Sequence[_Key], after: tuple[str, ...]) -> list[str]:
    """Conditions for keys behind ``after``; none for ()."""
    return _compare(keys, ">", after)


def within(keys: Sequence[_Key], upto: tuple[str, ...]) -> list[str]:
    """Conditions for keys up to ``upto``, itself included; none for ()."""
    return _compare(keys, "<=", upto)


def _compare(keys: Sequence[_Key], operator: str, key: tuple[str, ...]) -> list[str]:
    if not key:
        return []
    # as hexadecimal text: keys may hold any bytes
    literals = [f"CAST(unhex('{text}'), {quote_text(each.type)})" for each, text in zip(keys, key, strict=True)]
    names = [quote_name(each.name) for each in keys]
    if len(names) == 1:
        return [f"{names[0]} {operator} {literals[0]}"]
    # the first column alone again: a comparison of tuples does not use the primary key on every server
    return [
        f"{names[0]} {operator[0]}= {literals[0]}",
        f"({', '.join(names)}) {operator} ({', '.join(literals)})",
    ]

"""Whether an existing table can be a destination without losing rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dyncdc.config.attribute_paths import format_attribute_path
from dyncdc.schema.sql.ddl import add_column, add_mark_column, key_columns
from dyncdc.schema.sql.quoting import DATABASE_ITSELF, qualified, quote_name
from dyncdc.schema.table_spec import TableSpec

from .hazards import split_list
from .table import ExistingTable, is_replicated, unquoted

_USE_REPLACING: Final = "use a ReplacingMergeTree(version, deleted) table"
_OTHER_ENGINES: Final = {
    "Distributed": "name the table that it reads, on one shard: over several, versions of one item would never meet"
    " (docs/clickhouse.md#clusters-of-several-shards)",
    "View": "name the table that it reads, or another one",
    "MaterializedView": "name the table that it writes to, or another one",
    "CollapsingMergeTree": "a deleted item is no sign of -1 here; use a ReplacingMergeTree(version, deleted) table",
}

DELETED_COLUMN: Final = "_deleted"
VERSION_TYPES: Final = frozenset({"Int64", "UInt64", "Int128", "UInt128", "Int256", "UInt256"})

ENGINE: Final = re.compile(r"(?:Replicated|Shared)?ReplacingMergeTree")
"""Engines in which a row that comes again replaces itself."""
_CLEANUP: Final = re.compile(
    r"clean_deleted_rows = 'Always'|enable_replacing_merge_with_cleanup_for_min_age_to_force_merge = (?:1|true)"
)


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """Why a table cannot be used, and what to do."""

    reason: str
    todo: str


def incompatibilities(table: ExistingTable, spec: TableSpec, cluster: str | None = None) -> list[Incompatibility]:
    """Return every reason why a table cannot keep the rows of ``spec`` right; empty when it is safe."""
    if not ENGINE.fullmatch(table.engine):
        return [Incompatibility(f"its engine is {table.engine}", _OTHER_ENGINES.get(table.engine, _USE_REPLACING))]
    found = [*_of_version(table, spec), *_of_keys(table, spec), *_of_deletes(table, spec), *_of_columns(table, spec)]
    found += _of_hazards(table)
    if cluster is not None and not is_replicated(table.engine):
        found.append(one_server_only(table, cluster))
    return found


def one_server_only(table: ExistingTable, cluster: str) -> Incompatibility:
    """Say that a table is not replicated, where all servers must have its rows."""
    todo = "use a ReplicatedReplacingMergeTree table"
    if cluster == DATABASE_ITSELF:
        where = "only one server of its Replicated database"
    else:
        where, todo = f"only one server of cluster {cluster}", f"{todo}, or leave clickhouse.cluster out"
    return Incompatibility(f"its engine is {table.engine}: {where} has its rows", todo)


def _of_version(table: ExistingTable, spec: TableSpec) -> Iterator[Incompatibility]:
    if not table.engine_columns:
        yield Incompatibility("its ReplacingMergeTree has no version column", _USE_REPLACING)
        return
    version = table.engine_columns[0]
    if version != spec.version_column:
        yield Incompatibility(f"its version column is {version}", f'set tables.metadata.version = "{version}"')
        return
    column = table.column(version)
    if column is not None and column.computed:
        yield Incompatibility(
            f"its version column {version} is computed", "it must be a plain column, which dyncdc fills"
        )
    if column is not None and column.type not in VERSION_TYPES:
        yield Incompatibility(f"its version column {version} is {column.type}", _version_todo(table, version))


def _of_keys(table: ExistingTable, spec: TableSpec) -> Iterator[Incompatibility]:
    taken = {column.path[0] for column in spec.columns if column.key}
    missing = [key.name for key in spec.keys if key.name not in taken]
    if missing:
        todo = "give each key attribute a column of its own, by its name or by [[tables.columns]]"
        yield Incompatibility(f"it has no column for the key attribute {', '.join(missing)}", todo)
        return
    keys = key_columns(spec)
    if not _sorted_by(table, keys):
        wanted = ", ".join(keys)
        yield Incompatibility(
            f"its ORDER BY is ({table.sorting_key}), not exactly the key ({wanted}): different items would replace each"
            " other, or versions of one item never meet",
            f"use a table with ORDER BY ({wanted})",
        )
    if any(column.in_partition_key and column.name not in keys for column in table.columns):
        yield Incompatibility(
            f"its PARTITION BY is {table.partition_key}, which is not of the key alone: versions of one item in"
            " different partitions never replace each other",
            "use a table without PARTITION BY, or partitioned by key attributes only",
        )


def _sorted_by(table: ExistingTable, keys: tuple[str, ...]) -> bool:
    """Whether ORDER BY tells the keys apart, and nothing else. Expressions over keys alone may stand beside them."""
    if table.sorting_columns is not None:
        return set(table.sorting_columns) == set(keys)
    listed = {unquoted(each) for each in split_list(table.sorting_key)}
    return listed.issuperset(keys) and all(column.name in keys for column in table.columns if column.in_sorting_key)


def _version_todo(table: ExistingTable, version: str) -> str:
    return (
        "microseconds need a whole number of 64 bits or more, and a version column cannot be changed: make a table with"
        f" {quote_name(version)} Int64 and copy: INSERT INTO new SELECT * FROM {qualified(table.name)} FINAL"
    )


def _of_hazards(table: ExistingTable) -> Iterator[Incompatibility]:
    found, name = table.hazards, qualified(table.name)
    if found.row_ttl:
        yield Incompatibility(
            f"its TTL removes rows ({found.row_ttl}): the newest of an item may go and an older one show again, and a"
            " deleted item come back",
            f"run: ALTER TABLE {name} REMOVE TTL (DynamoDB's own TTL deletes items here too)",
        )
    for column in found.column_ttls:
        todo = f"run: ALTER TABLE {name} MODIFY COLUMN {quote_name(column)} REMOVE TTL"
        yield Incompatibility(f"the TTL of its column {column} takes values away", todo)
    for projection in found.projections:
        todo = (
            f"run: ALTER TABLE {name} DROP PROJECTION {quote_name(projection)}, or"
            f" ALTER TABLE {name} MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'"
        )
        yield Incompatibility(f"its projection {projection} may show rows that were replaced", todo)


def _of_deletes(table: ExistingTable, spec: TableSpec) -> Iterator[Incompatibility]:
    given = table.engine_columns[1] if len(table.engine_columns) > 1 else ""
    if spec.deletes == "tombstone" and not spec.deleted_column:
        statement = add_mark_column(table.name, given or DELETED_COLUMN)
        yield Incompatibility(
            "it has no column that marks deleted items", f'set deletes = "ignore", or run: {statement}'
        )
    elif given and spec.deleted_column not in ("", given):
        yield Incompatibility(f"its engine hides rows by {given}", f'set tables.metadata.deleted = "{given}"')
    if spec.ttl_deletes == "keep" and spec.expired_column and table.column(spec.expired_column) is None:
        statement = add_mark_column(table.name, spec.expired_column)
        yield Incompatibility(
            "it has no column that marks expired items", f'set ttl_deletes = "delete", or run: {statement}'
        )
    own = (spec.deleted_column, "UInt8"), (spec.spill_column, "String"), (spec.expired_column, "UInt8")
    for name, wanted in own:
        column = table.column(name) if name else None
        if column is not None and column.computed:
            yield Incompatibility(f"its column {name} is computed", "it must be a plain column, which dyncdc fills")
        if column is not None and column.type != wanted:
            yield Incompatibility(f"its column {name} is {column.type}", f"it must be {wanted}")
    cleanup = _CLEANUP.search(table.engine_full)
    if cleanup is not None:
        todo = "remove the setting: deleted items come back when an older change is read again after a merge"
        yield Incompatibility(f"it is set to {cleanup[0]}", todo)


def _of_columns(table: ExistingTable, spec: TableSpec) -> Iterator[Incompatibility]:
    for wanted in spec.columns:
        column = table.column(wanted.name)
        if column is None:
            attribute = format_attribute_path(wanted.path)
            yield Incompatibility(
                f"it has no column {wanted.name} for {attribute}",
                f"run: {add_column(table.name, wanted, spill=spec.spill_column)}",
            )
        elif column.computed:
            yield Incompatibility(
                f"its column {wanted.name} is computed", "map the attribute to another column, or to none"
            )
        elif column.type != wanted.type:
            todo = f'set its type = "{column.type}" in [[tables.columns]]'
            yield Incompatibility(f"its column {wanted.name} is {column.type}, not {wanted.type}", todo)

"""Existing tables: what the server says of one, and whether it can be a destination without losing rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..config.paths import format_attribute_path
from ..decode.spec import TableSpec
from .cluster import is_replicated
from .comments import Origin, read_comment
from .connection import ClickHouse
from .ddl import add_column, add_mark_column, key_columns
from .hazards import Hazards, find_hazards, split_list
from .kept import Kept
from .names import qualified, quote_name, quote_text

_USE_REPLACING: Final = "use a ReplacingMergeTree(version, deleted) table"
_OTHER_ENGINES: Final = {
    "Distributed": "name the table that it is made of, of a cluster of one shard: over several, keys would never meet",
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

_NAME: Final = r"(?:[A-Za-z_]\w*|`(?:[^`\\]|\\.)*`)"
_NAMES: Final = re.compile(rf"{_NAME}(?: DESC)?(?:, {_NAME}(?: DESC)?)*", re.ASCII)
_ARGUMENT: Final = re.compile(rf"'(?:[^'\\]|\\.)*'|{_NAME}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExistingColumn:
    """One column as ``system.columns`` shows it. ``computed``: MATERIALIZED, ALIAS or EPHEMERAL."""

    name: str
    type: str
    comment: str = ""
    computed: bool = False
    in_partition_key: bool = False
    in_sorting_key: bool = False
    default: str = ""
    """The expression of its DEFAULT, "" for none."""
    kept: Origin | None = None
    """What it was made for, where that is kept and counts for more than its comment."""

    @property
    def origin(self) -> Origin | None:
        """The attribute that it was made for; None where only its name can tell."""
        return self.kept or read_comment(self.comment)


@dataclass(frozen=True, slots=True)
class ExistingTable:
    """One table as ``system.tables`` shows it. ``engine_full`` begins with the engine's name and arguments."""

    name: str
    uuid: str
    engine: str
    engine_full: str
    sorting_key: str
    partition_key: str
    columns: tuple[ExistingColumn, ...]
    create_query: str = ""
    kept: Mapping[str, Kept] = field(default_factory=dict)
    """What is kept of its mapping by column: see ``mappings``."""

    @property
    def hazards(self) -> Hazards:
        """What the definition holds that takes rows away or shows old ones."""
        return find_hazards(self.engine_full, self.create_query)

    def column(self, name: str) -> ExistingColumn | None:
        """Return the column of that name, None when there is none."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def sorting_columns(self) -> tuple[str, ...] | None:
        """Columns of ORDER BY, None when it holds anything but plain columns."""
        if not self.sorting_key:
            return ()
        # 26.9 shows ORDER BY (a) as "(a)", and ORDER BY (a, b) as "a, b"
        listed = self.sorting_key[1:-1] if re.fullmatch(rf"\({_NAME}\)", self.sorting_key) else self.sorting_key
        if not _NAMES.fullmatch(listed):
            return None
        found = re.findall(rf"({_NAME})(?: DESC)?(?:, |$)", listed, re.ASCII)
        return tuple(map(_unquoted, found))

    @property
    def engine_columns(self) -> tuple[str, ...]:
        """Columns that the engine is given: of ReplacingMergeTree the version's, then that of deleted rows."""
        arguments = self.engine_full.removeprefix(self.engine)
        if not arguments.startswith("("):
            return ()
        found: list[str] = []
        at = 1
        while (argument := _ARGUMENT.match(arguments, at)) is not None:
            if not argument[0].startswith("'"):  # of a replicated table: its path and the name of the replica
                found.append(_unquoted(argument[0]))
            if arguments.startswith(")", argument.end()):  # what follows is ORDER BY
                break
            at = argument.end() + len(", ")
        return tuple(found)


async def read_table(clickhouse: ClickHouse, name: str) -> ExistingTable | None:
    """Read how a table of the connection's database is now, None when there is none. Also after every ALTER."""
    rows = await clickhouse.fetch(
        "SELECT toString(uuid), engine, engine_full, sorting_key, partition_key, create_table_query FROM system.tables"
        f" WHERE database = currentDatabase() AND name = {quote_text(name)}",
        doing=f"reading the definition of {name}",
    )
    if not rows:
        return None
    uuid, engine, engine_full, sorting_key, partition_key, create_query = rows[0]
    columns = await read_columns(clickhouse, name)
    return ExistingTable(name, uuid, engine, engine_full, sorting_key, partition_key, columns, create_query)


async def read_columns(clickhouse: ClickHouse, name: str) -> tuple[ExistingColumn, ...]:
    """Read the columns of a table as they are now, in their order."""
    rows = await clickhouse.fetch(
        "SELECT name, type, comment, default_kind IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL'), is_in_partition_key,"
        " is_in_sorting_key, if(default_kind = 'DEFAULT', default_expression, '')"
        f" FROM system.columns WHERE database = currentDatabase() AND table = {quote_text(name)} ORDER BY position",
        doing=f"reading the columns of {name}",
    )
    return tuple(
        ExistingColumn(column, kind, comment, bool(computed), bool(in_partition_key), bool(in_sorting_key), default)
        for column, kind, comment, computed, in_partition_key, in_sorting_key, default in rows
    )


async def has_rows(clickhouse: ClickHouse, name: str) -> bool:
    """Return whether a table holds any row, deleted ones included."""
    return bool(await clickhouse.fetch(f"SELECT 1 FROM {qualified(name)} LIMIT 1", doing=f"looking into {name}"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a table cannot be used, and what to do."""

    reason: str
    todo: str


def refusals(table: ExistingTable, spec: TableSpec, cluster: str | None = None) -> list[Refusal]:
    """Return every reason why a table cannot keep the rows of ``spec`` right; empty when it is safe."""
    if not ENGINE.fullmatch(table.engine):
        return [Refusal(f"its engine is {table.engine}", _OTHER_ENGINES.get(table.engine, _USE_REPLACING))]
    found = [*_of_version(table, spec), *_of_keys(table, spec), *_of_deletes(table, spec), *_of_columns(table, spec)]
    found += _of_hazards(table)
    if cluster and not is_replicated(table.engine):
        todo = "use a ReplicatedReplacingMergeTree table, or leave clickhouse.cluster out"
        found.append(Refusal(f"its engine is {table.engine}: only one server of cluster {cluster} has its rows", todo))
    return found


def _of_version(table: ExistingTable, spec: TableSpec) -> Iterator[Refusal]:
    if not table.engine_columns:
        yield Refusal("its ReplacingMergeTree has no version column", _USE_REPLACING)
        return
    version = table.engine_columns[0]
    if version != spec.version_column:
        yield Refusal(f"its version column is {version}", f'set tables.metadata.version = "{version}"')
        return
    column = table.column(version)
    if column is not None and column.computed:
        yield Refusal(f"its version column {version} is computed", "it must be a plain column, which dyncdc fills")
    if column is not None and column.type not in VERSION_TYPES:
        yield Refusal(f"its version column {version} is {column.type}", _version_todo(table, version))


def _of_keys(table: ExistingTable, spec: TableSpec) -> Iterator[Refusal]:
    taken = {column.path[0] for column in spec.columns if column.key}
    missing = [key.name for key in spec.keys if key.name not in taken]
    if missing:
        todo = "give each key attribute a column of its own, by its name or by [[tables.columns]]"
        yield Refusal(f"it has no column for the key attribute {', '.join(missing)}", todo)
        return
    keys = key_columns(spec)
    if not _sorted_by(table, keys):
        wanted = ", ".join(keys)
        yield Refusal(
            f"its ORDER BY is ({table.sorting_key}), not exactly the key ({wanted}): different items would replace each"
            " other, or versions of one item never meet",
            f"use a table with ORDER BY ({wanted})",
        )
    if any(column.in_partition_key and column.name not in keys for column in table.columns):
        yield Refusal(
            f"its PARTITION BY is {table.partition_key}, which is not of the key alone: versions of one item in"
            " different partitions never replace each other",
            "use a table without PARTITION BY, or partitioned by key attributes only",
        )


def _sorted_by(table: ExistingTable, keys: tuple[str, ...]) -> bool:
    """Whether ORDER BY tells the keys apart, and nothing else. Expressions over keys alone may stand beside them."""
    if table.sorting_columns is not None:
        return set(table.sorting_columns) == set(keys)
    listed = {_unquoted(each) for each in split_list(table.sorting_key)}
    return listed.issuperset(keys) and all(column.name in keys for column in table.columns if column.in_sorting_key)


def _version_todo(table: ExistingTable, version: str) -> str:
    return (
        "microseconds need a whole number of 64 bits or more, and a version column cannot be changed: make a table with"
        f" {quote_name(version)} Int64 and copy: INSERT INTO new SELECT * FROM {qualified(table.name)} FINAL"
    )


def _of_hazards(table: ExistingTable) -> Iterator[Refusal]:
    found, name = table.hazards, qualified(table.name)
    if found.row_ttl:
        yield Refusal(
            f"its TTL removes rows ({found.row_ttl}): the newest of an item may go and an older one show again, and a"
            " deleted item come back",
            f"run: ALTER TABLE {name} REMOVE TTL (DynamoDB's own TTL deletes items here too)",
        )
    for column in found.column_ttls:
        todo = f"run: ALTER TABLE {name} MODIFY COLUMN {quote_name(column)} REMOVE TTL"
        yield Refusal(f"the TTL of its column {column} takes values away", todo)
    for projection in found.projections:
        todo = (
            f"run: ALTER TABLE {name} DROP PROJECTION {quote_name(projection)}, or"
            f" ALTER TABLE {name} MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'"
        )
        yield Refusal(f"its projection {projection} may show rows that were replaced", todo)


def _of_deletes(table: ExistingTable, spec: TableSpec) -> Iterator[Refusal]:
    given = table.engine_columns[1] if len(table.engine_columns) > 1 else ""
    if spec.deletes == "tombstone" and not spec.deleted_column:
        statement = add_mark_column(table.name, given or DELETED_COLUMN)
        yield Refusal("it has no column that marks deleted items", f'set deletes = "ignore", or run: {statement}')
    elif given and spec.deleted_column not in ("", given):
        yield Refusal(f"its engine hides rows by {given}", f'set tables.metadata.deleted = "{given}"')
    if spec.ttl_deletes == "keep" and spec.expired_column and table.column(spec.expired_column) is None:
        statement = add_mark_column(table.name, spec.expired_column)
        yield Refusal("it has no column that marks expired items", f'set ttl_deletes = "delete", or run: {statement}')
    own = (spec.deleted_column, "UInt8"), (spec.spill_column, "String"), (spec.expired_column, "UInt8")
    for name, wanted in own:
        column = table.column(name) if name else None
        if column is not None and column.computed:
            yield Refusal(f"its column {name} is computed", "it must be a plain column, which dyncdc fills")
        if column is not None and column.type != wanted:
            yield Refusal(f"its column {name} is {column.type}", f"it must be {wanted}")
    cleanup = _CLEANUP.search(table.engine_full)
    if cleanup is not None:
        todo = "remove the setting: deleted items come back when an older change is read again after a merge"
        yield Refusal(f"it is set to {cleanup[0]}", todo)


def _of_columns(table: ExistingTable, spec: TableSpec) -> Iterator[Refusal]:
    for wanted in spec.columns:
        column = table.column(wanted.name)
        if column is None:
            attribute = format_attribute_path(wanted.path)
            yield Refusal(
                f"it has no column {wanted.name} for {attribute}",
                f"run: {add_column(table.name, wanted, spill=spec.spill_column)}",
            )
        elif column.computed:
            yield Refusal(f"its column {wanted.name} is computed", "map the attribute to another column, or to none")
        elif column.type != wanted.type:
            todo = f'set its type = "{column.type}" in [[tables.columns]]'
            yield Refusal(f"its column {wanted.name} is {column.type}, not {wanted.type}", todo)


def _unquoted(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith("`") else name

"""The history's own table: its statement, whether an existing one is safe, and the rows of items found missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dyncdc.schema.existing.compatibility import ENGINE, Incompatibility
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.history_columns import HISTORY_COLUMNS, history_keys, history_name
from dyncdc.schema.table_spec import TableSpec

from .ddl import deduplication, engine
from .quoting import on_cluster, qualified, quote_name, quote_text

_IDENTITY: Final = ("version", "event_id")
"""What tells changes of one item apart, whatever the batch they come in."""

_IMAGES: Final = frozenset({"old_image", "new_image"})


def history_columns(spec: TableSpec) -> dict[str, str]:
    """Return names and types of a history's columns in their order: keys as in the destination, then the change."""
    keys = {key.name: key.type for key in history_keys(spec)}
    return keys | {history_name(name, keys): kind for name, kind in HISTORY_COLUMNS.items()}


def identity_columns(spec: TableSpec) -> tuple[str, ...]:
    """Return the columns that a history is sorted by: a change that is read again replaces itself."""
    keys = [key.name for key in history_keys(spec)]
    return (*keys, *(history_name(name, keys) for name in _IDENTITY))


def create_history(spec: TableSpec, cluster: str | None = None) -> str:
    """Return the statement that creates a history, harmless when it exists."""
    images = {history_name(name, [key.name for key in history_keys(spec)]) for name in _IMAGES}
    columns = ",\n  ".join(
        f"{quote_name(name)} {kind}{' CODEC(ZSTD)' if name in images else ''}"
        for name, kind in history_columns(spec).items()
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(spec.history)}{on_cluster(cluster)} (\n  {columns}\n)"
        f" ENGINE = {engine('ReplacingMergeTree', '', cluster)}"
        f" ORDER BY ({', '.join(map(quote_name, identity_columns(spec)))}) {deduplication(cluster)}"
    )


def history_incompatibilities(table: ExistingTable, spec: TableSpec) -> list[Incompatibility]:
    """Return every reason why an existing table cannot be the history; empty when it is safe."""
    if not ENGINE.fullmatch(table.engine):
        reason = f"its history {table.name} has the engine {table.engine}: what is read again would be there twice"
        return [Incompatibility(reason, "move it away: the table that dyncdc makes is in `dyncdc ddl`")]
    return list(_refusals(table, spec))


def _refusals(table: ExistingTable, spec: TableSpec) -> Iterator[Incompatibility]:
    wanted = identity_columns(spec)
    if table.sorting_columns is None or set(table.sorting_columns) != set(wanted):
        listed = ", ".join(wanted)
        yield Incompatibility(
            f"its history {table.name} has ORDER BY ({table.sorting_key}): changes would replace each other, or be"
            " there twice",
            f"use a table with ORDER BY ({listed})",
        )
    if len(table.engine_columns) > 1:
        yield Incompatibility(
            f"its history {table.name} hides rows by {table.engine_columns[1]}", "use ReplacingMergeTree without it"
        )
    time = history_name("time", [key.name for key in history_keys(spec)])
    if any(column.in_partition_key and column.name not in (*wanted, time) for column in table.columns):
        yield Incompatibility(
            f"its history {table.name} has PARTITION BY {table.partition_key}: a change that is read again might not"
            " meet itself",
            f"partition it by {', '.join((*wanted, time))} only, or not at all",
        )
    for name, kind in history_columns(spec).items():
        column = table.column(name)
        if column is None or column.computed:
            state = "no column" if column is None else "a computed column"
            todo = f"run: ALTER TABLE {qualified(table.name)} ADD COLUMN {quote_name(name)} {kind}"
            yield Incompatibility(f"its history {table.name} has {state} {name}", todo)
        elif _plain(column.type) != _plain(kind):
            yield Incompatibility(f"its history {table.name} has {name} {column.type}", f"it must be {kind}")


def _plain(kind: str) -> str:
    """LowCardinality changes how a column is stored, not what it holds."""
    return kind.removeprefix("LowCardinality(").removesuffix(")") if kind.startswith("LowCardinality(") else kind


def vanished(spec: TableSpec, version: int, orphan_rows: str) -> str:
    """Return the statement that adds items which a snapshot of ``version`` (microseconds) does not hold any more.

    ``orphan_rows``: FROM and WHERE over the destination. Who deleted them, and when exactly, no one knows.
    """
    keys = [key.name for key in history_keys(spec)]
    values = {
        "event_name": quote_text("REMOVE"),
        "time": f"fromUnixTimestamp64Micro(toInt64({version - 1 + spec.base_microseconds}), 'UTC')",
        "version": str(version - 1),
    }
    names = [quote_name(name) for name in [*keys, *(history_name(name, keys) for name in values)]]
    return (
        f"INSERT INTO {qualified(spec.history)} ({', '.join(names)})"
        f" SELECT {', '.join([*map(quote_name, keys), *values.values()])} {orphan_rows}"
    )

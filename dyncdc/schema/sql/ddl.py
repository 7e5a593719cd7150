"""Statements that create destinations, their views and the columns that an older table lacks. Pure text.

With ``cluster`` (``clickhouse.cluster``, or ``DATABASE_ITSELF``) each is for every server of it, and tables are
replicated between them.
"""

from __future__ import annotations

import re
from typing import Final

from dyncdc.schema.table_spec import ColumnSpec, TableSpec

from .column_comments import column_comment
from .default_expressions import default_expression
from .quoting import on_cluster, qualified, quote_name, quote_text

DEDUPLICATION_WINDOW: Final = 1000
"""Inserts whose tokens ClickHouse remembers; without it a table that is not replicated ignores tokens."""

VIEW_SUFFIX: Final = "_current"
_REPLACE_VIEW: Final = "CREATE OR REPLACE VIEW "
_VIEW_HEAD: Final = re.compile(_REPLACE_VIEW + r"((?:`(?:[^`\\]|\\.)*`| ON CLUSTER )+) AS ")


def engine(name: str, arguments: str, cluster: str | None = None) -> str:
    """Return an engine's clause. Of a replicated table the server's own defaults name path and replica."""
    full = f"Replicated{name}" if cluster is not None else name
    return f"{full}({arguments})" if arguments else full


def deduplication(cluster: str | None = None) -> str:
    """Return the SETTINGS clause by which a table remembers the tokens of its inserts."""
    kind = "replicated" if cluster is not None else "non_replicated"
    return f"SETTINGS {kind}_deduplication_window = {DEDUPLICATION_WINDOW}"


def create_table(spec: TableSpec, cluster: str | None = None) -> str:
    """Return the statement that creates a destination, harmless when it exists."""
    lines = [column_line(column) for column in spec.columns]
    if spec.spill_column:
        lines.append(f"{quote_name(spec.spill_column)} String")
    lines.append(f"{quote_name(spec.version_column)} {spec.version_type}")
    if spec.deleted_column:
        lines.append(f"{quote_name(spec.deleted_column)} UInt8")
    if spec.expired_column:
        lines.append(f"{quote_name(spec.expired_column)} UInt8")
    columns = ",\n  ".join(lines)
    arguments = ", ".join(quote_name(name) for name in (spec.version_column, spec.deleted_column) if name)
    order = ", ".join(map(quote_name, key_columns(spec)))
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(spec.destination)}{on_cluster(cluster)} (\n  {columns}\n)"
        f" ENGINE = {engine('ReplacingMergeTree', arguments, cluster)} ORDER BY ({order}) {deduplication(cluster)}"
    )


def create_view(spec: TableSpec, cluster: str | None = None) -> str:
    """Return the statement that makes a destination's view again: the items as they are, without dyncdc's own columns.

    Expired items that are kept are in it, and so is the column that tells them.
    A view keeps the columns it was made with, so it is made again after every change of its table.
    """
    hidden = [name for name in (spec.spill_column, spec.version_column, spec.deleted_column) if name]
    alive = f" WHERE {quote_name(spec.deleted_column)} = 0" if spec.deleted_column else ""
    return (
        f"{_REPLACE_VIEW}{qualified(spec.destination + VIEW_SUFFIX)}{on_cluster(cluster)} AS"
        f" SELECT * EXCEPT ({', '.join(map(quote_name, hidden))}) FROM {qualified(spec.destination)} FINAL{alive}"
    )


def is_view(statement: str) -> bool:
    """Whether a statement is one of ``create_view``."""
    return statement.startswith(_REPLACE_VIEW)


def without_replacing(statement: str) -> tuple[str, str, str]:
    """Return the name of the view that a statement of ``create_view`` makes, and two statements that do the same.

    Readers find no view between the two.
    """
    head = _VIEW_HEAD.match(statement)
    if head is None:
        raise AssertionError("a statement of create_view")
    name = head[1].partition(" ON CLUSTER ")[0]
    created = statement.replace(_REPLACE_VIEW, "CREATE VIEW IF NOT EXISTS ", 1)
    return name, f"DROP VIEW IF EXISTS {head[1]}", created


def add_column(destination: str, column: ColumnSpec, cluster: str | None = None, spill: str = "") -> str:
    """Return the statement that gives a table a column, harmless when it has one of that name.

    ``spill``: the table's spill column, from which older rows then show their values.
    """
    line = column_line(column, (default_expression(column, spill) or "") if spill else "")
    return f"ALTER TABLE {qualified(destination)}{on_cluster(cluster)} ADD COLUMN IF NOT EXISTS {line}"


def add_mark_column(destination: str, column: str, cluster: str | None = None) -> str:
    """Return the statement that gives an older table the column that marks deleted, or expired, items."""
    table = f"{qualified(destination)}{on_cluster(cluster)}"
    return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {quote_name(column)} UInt8"


def key_columns(spec: TableSpec) -> tuple[str, ...]:
    """Return the columns of the key attributes, HASH first; those that no column takes are left out."""
    by_attribute = {column.path[0]: column.name for column in spec.columns if column.key}
    return tuple(by_attribute[key.name] for key in spec.keys if key.name in by_attribute)


def column_line(column: ColumnSpec, default: str = "") -> str:
    """Return a column as CREATE and ALTER declare it; ``default``: the expression of its DEFAULT."""
    given = f" DEFAULT {default}" if default else ""
    return f"{quote_name(column.name)} {column.type}{given} COMMENT {quote_text(column_comment(column))}"

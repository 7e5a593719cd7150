"""Columns added over the spill: the statements, and what the server says of a table's columns afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dyncdc.errors import FatalError
from dyncdc.schema.sql.ddl import column_line, create_view
from dyncdc.schema.sql.default_expressions import default_expression
from dyncdc.schema.sql.quoting import on_cluster, qualified
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import RefusedStatementError, UnknownCodeError

from .disk_space import require_space
from .introspection import read_table
from .views import make_view, view_name, view_state

STATEMENT_CHARS: Final = 100_000
"""One ALTER holds about so much text: ClickHouse parses 256 KB of it, and 50,000 nodes, unless told otherwise."""

VIEW_ATTEMPTS: Final = 5
"""So often a view is recreated while others add columns."""


def add_columns(
    destination: str,
    columns: Sequence[ColumnSpec],
    spill: str,
    cluster: str | None = None,
    beside: ColumnSpec | None = None,
) -> Iterator[str]:
    """Yield the statements that give a table columns which show what its rows hold in the spill (and ``beside``).

    Each is harmless when repeated, and changes no data. Raises FatalError for a type that has no expression.
    """
    head = f"ALTER TABLE {qualified(destination)}{on_cluster(cluster)} "
    parts: list[str] = []
    for column in columns:
        expression = default_expression(column, spill, beside)
        if expression is None:
            raise FatalError(
                f"adding column {column.name} to {destination}: {column.type} cannot be read from the spill",
                hint="give it another type",
            )
        part = f"ADD COLUMN IF NOT EXISTS {column_line(column, expression)}"
        if parts and sum(map(len, parts)) + len(part) > STATEMENT_CHARS:
            yield head + ", ".join(parts)
            parts = []
        parts.append(part)
    if parts:
        yield head + ", ".join(parts)


async def run_add_columns(
    clickhouse: ClickHouse,
    destination: str,
    columns: Sequence[ColumnSpec],
    spill: str,
    cluster: str | None = None,
    beside: ColumnSpec | None = None,
) -> None:
    """Add the columns. Raises as ``alter`` does, but FatalError for a statement that it cannot make sense of.

    One such column keeps none of the others away: those are added one by one before that is raised.
    """
    refused: list[RefusedStatementError | UnknownCodeError] = []
    for statement in add_columns(destination, columns, spill, cluster, beside):
        try:
            await alter(clickhouse, destination, statement)
        except (RefusedStatementError, UnknownCodeError) as error:
            refused.append(error)
    if not refused:
        return
    names = []
    for column in columns if len(columns) > 1 else ():
        try:
            await alter(clickhouse, destination, *add_columns(destination, [column], spill, cluster, beside))
        except (RefusedStatementError, UnknownCodeError):
            names.append(column.name)
    if names or len(columns) == 1:
        several = f" (of {len(columns)} columns these: {', '.join(names[:20])})" if names else ""
        raise FatalError(f"{refused[0]}{several}", hint="`dyncdc promote` may give it another type") from refused[0]


async def alter(clickhouse: ClickHouse, destination: str, statement: str) -> None:
    """Run one ALTER of a destination. Raises NoSpaceError before that."""
    await require_space(clickhouse, f"altering {destination}")
    # a single attribute's name may have 64 KB, and stands in the statement several times
    settings = {"max_query_size": 2**22}
    await clickhouse.define(statement, settings=settings, doing=f"altering {destination}")


async def refresh_view(clickhouse: ClickHouse, spec: TableSpec, cluster: str | None = None) -> None:
    """Make the view again where it does not show all columns; what is not ours under its name is left alone.

    Looks again afterwards: another member may have added columns, and made its view, while this one was made.
    """
    for _ in range(VIEW_ATTEMPTS):
        table = await read_table(clickhouse, spec.destination)
        if await view_state(clickhouse, spec, table) not in ("stale", "missing"):
            return
        await make_view(clickhouse, create_view(spec, cluster), f"making {view_name(spec)} again")

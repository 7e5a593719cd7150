"""The view that readers use: whether its name is free, ours and up to date, or someone else's; and how it is made."""

from __future__ import annotations

import re
from typing import Final, Literal

from dyncdc.errors import AccessDeniedError, FatalError
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.sql.ddl import VIEW_SUFFIX, without_replacing
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse

ViewState = Literal["missing", "current", "stale", "foreign"]

_NAME: Final = r"\w+|`(?:[^`\\]|\\.)*`"
_SOURCE: Final = re.compile(rf"(?:{_NAME})\.({_NAME}) FINAL\b")
_ESCAPED: Final = re.compile(r"\\(.)")


def view_name(spec: TableSpec) -> str:
    """The name of a destination's view."""
    return spec.destination + VIEW_SUFFIX


async def view_state(clickhouse: ClickHouse, spec: TableSpec, table: ExistingTable | None) -> ViewState:
    """Look at what stands under the view's name.

    "stale": ours, but the table has other columns now, and a view is fixed at its creation. "foreign": anything that is
    no view over the destination alone, such as a user's table, which must never be replaced.
    """
    name = quote_text(view_name(spec))
    rows = await clickhouse.fetch(
        f"SELECT engine, as_select FROM system.tables WHERE database = currentDatabase() AND name = {name}",
        doing=f"reading the definition of {view_name(spec)}",
    )
    if not rows:
        return "missing"
    engine, select = rows[0]
    if engine != "View" or not _reads(select, spec.destination):
        return "foreign"
    columns = await clickhouse.fetch(
        "SELECT name, type FROM system.columns"
        f" WHERE database = currentDatabase() AND table = {name} ORDER BY position",
        doing=f"reading the columns of {view_name(spec)}",
    )
    hidden = {spec.version_column, spec.deleted_column, spec.spill_column}
    plain = [column for column in table.columns if not column.computed] if table is not None else []
    shown = [(column.name, column.type) for column in plain if column.name not in hidden]
    filtered = " WHERE " in select.partition(" FINAL")[2]
    same = [tuple(column) for column in columns] == shown and filtered == bool(spec.deleted_column)
    return "current" if same else "stale"


async def make_view(clickhouse: ClickHouse, statement: str, doing: str) -> None:
    """Run a statement of ``create_view``. Raises as ``ClickHouse.define``.

    25.x replaces a view by way of a table of another name (``_tmp_replace_...``), and wants grants on that which no one
    can give before. There the view is dropped and created, which the grants on its own name allow.
    """
    try:
        await clickhouse.define(statement, doing=doing)
        return
    except AccessDeniedError as error:
        name, drop, create = without_replacing(statement)
        if not await _may_make(clickhouse, name):
            raise
        denied = error
    try:
        await clickhouse.define(drop, doing=doing)
        await clickhouse.define(create, doing=doing)
    except AccessDeniedError as error:
        raise error from denied


async def _may_make(clickhouse: ClickHouse, name: str) -> bool:
    """Whether the grants on the view itself are there: it is not dropped before that is known."""
    try:
        rows = await clickhouse.fetch(f"CHECK GRANT CREATE VIEW, DROP VIEW ON {name}", doing="looking at grants")
    except FatalError:  # the statement came in 2024; servers before that ask for no other grants
        return False
    return bool(rows[0][0])


def _reads(select: str, table: str) -> bool:
    """Whether a view's text, as the server prints it, reads the destination with FINAL."""
    _, _, source = select.partition(" FROM ")
    found = _SOURCE.match(source)
    return found is not None and _ESCAPED.sub(r"\1", found[1].strip("`")) == table

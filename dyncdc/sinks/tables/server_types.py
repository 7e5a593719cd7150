"""Types and names as the server has them: one spelling of each type, and the names that it keeps for itself."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError
from dyncdc.schema.sql.quoting import qualified, quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import RefusedStatementError

_VIRTUAL = "describe_include_virtual_columns"


async def server_type(clickhouse: ClickHouse, kind: str, doing: str) -> str:
    """Return a type as ``system.columns`` prints it, however it is written. Raises ConfigError when it is none."""
    try:
        (found,) = await _spelled(clickhouse, [kind], doing)
    except RefusedStatementError as error:
        raise ConfigError(str(error), hint="give a type as system.columns prints it") from None
    return found


async def with_server_types(clickhouse: ClickHouse, config: TableConfig) -> TableConfig:
    """Return the configuration of a table with the types of its columns in the server's spelling.

    Raises ConfigError, naming the column.
    """
    if not config.column_list:
        return config
    doing = f"mapping {config.dynamodb} to {config.destination}"
    kinds = list(dict.fromkeys(column.type for column in config.column_list))
    try:
        spelled = dict(zip(kinds, await _spelled(clickhouse, kinds, doing), strict=True))
    except RefusedStatementError:  # only one by one shows which column it is
        spelled = {}
        for column in config.column_list:
            one = f"{doing}, column {column.column!r} of type {column.type!r}"
            spelled[column.type] = await server_type(clickhouse, column.type, one)
    columns = tuple(column.model_copy(update={"type": spelled[column.type]}) for column in config.column_list)
    return config.model_copy(update={"columns": columns})


async def _spelled(clickhouse: ClickHouse, kinds: Sequence[str], doing: str) -> list[str]:
    names = ", ".join(f"toTypeName(defaultValueOfTypeName({quote_text(kind)}))" for kind in kinds)
    (row,) = await clickhouse.define(f"SELECT {names}", doing=doing)
    return list(map(str, row))


async def virtual_names(clickhouse: ClickHouse, table: str) -> frozenset[str]:
    """Return the names of the virtual columns of a table: a column of the same name hides them, or worse.

    Nothing where the server cannot say: it came with 23.10.
    """
    known = await clickhouse.fetch(
        f"SELECT 1 FROM system.settings WHERE name = {quote_text(_VIRTUAL)}", doing="looking for a setting"
    )
    if not known:
        return frozenset()
    rows = await clickhouse.fetch(
        f"DESCRIBE TABLE {qualified(table)}", settings={_VIRTUAL: 1}, doing=f"looking at the virtual columns of {table}"
    )
    return frozenset(str(row[0]) for row in rows if row[-1])

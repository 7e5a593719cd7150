"""Verification of one configured table: opens both sides, finds the mapping, and lets ``compare`` do the rest."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.app.assembly.table_plans import plan_table
from dyncdc.app.context import AppContext, open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config, TableConfig
from dyncdc.errors import ConfigError

from .compare import PAUSES_SECONDS, compare_table
from .destination import Destination
from .result import Verification


class _PatientQueries:
    """Queries that outlast a short absence of ClickHouse."""

    def __init__(self, context: AppContext, doing: str) -> None:
        self._context = context
        self._doing = doing

    async def fetch(self, query: str) -> Sequence[Sequence[object]]:
        return await self._context.retry(lambda: self._context.clickhouse.fetch(query, doing=self._doing))


async def verify_table(config: Config, table: str, *, pauses_seconds: Sequence[float] = PAUSES_SECONDS) -> Verification:
    """Compare a table, named as in DynamoDB. Keys that differ are read again after each pause.

    Raises ConfigError (not configured, or no destination yet), FatalError (an endpoint does not answer).
    """
    chosen = _configured(config, table)
    with limited(config, "verify") as startup_retry:
        async with open_context(config, startup_retry) as context:
            planned = await plan_table(context, chosen)
            if not planned.exists:
                raise ConfigError(
                    f"verifying {table}: ClickHouse has no table {chosen.destination}",
                    hint="start `dyncdc run` first, or name the right database in clickhouse.url",
                )
            destination = Destination(
                _PatientQueries(context, f"reading the rows of {chosen.destination}"), planned.spec
            )
            result = Verification(table, chosen.destination, not_compared=destination.not_compared)
            await compare_table(
                context.tables,
                destination,
                result,
                finds_extra_rows=planned.spec.deletes != "ignore",
                startup_retry=context.retry,
                pauses_seconds=pauses_seconds,
            )
            return result


def _configured(config: Config, name: str) -> TableConfig:
    for table in config.tables:
        if table.dynamodb == name:
            return table
    names = ", ".join(table.dynamodb for table in config.tables)
    raise ConfigError(f"verifying {name}: the configuration has no such table", hint=f"it has {names}")

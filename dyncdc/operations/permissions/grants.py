"""Which grants the ClickHouse user lacks, by asking the server. Changes nothing."""

from __future__ import annotations

from typing import Final

from dyncdc.app.assembly.table_plans import TablePlanned
from dyncdc.app.context import AppContext
from dyncdc.errors import FatalError
from dyncdc.operations.ddl import needed_for
from dyncdc.sinks.client.cluster import present_tables
from dyncdc.sinks.state.tables import own_tables

ALWAYS: Final = frozenset(("SELECT", "INSERT"))
MAKING: Final = frozenset(("CREATE TABLE", "CREATE VIEW", "TABLE ENGINE"))
"""Needed when something has to be made. All others are for what comes later: new columns, cleaning up."""


async def can_tell(context: AppContext) -> bool:
    """Whether the server can be asked: `CHECK GRANT` came in 2024. Raises what asking ClickHouse raises."""
    try:
        await _granted(context, "system.one", "SELECT")
    except FatalError:  # it does not know the statement
        return False
    return True


async def missing_grants(context: AppContext, planned: list[TablePlanned]) -> list[tuple[str, str, bool]]:
    """Return (place, privilege, whether ``run`` fails without it now) of each missing grant.

    Only for a server that ``can_tell``. Raises what asking ClickHouse raises.
    """
    present = await context.retry(lambda: present_tables(context.clickhouse, own_tables()))
    making = len(present) < len(own_tables()) or any(plan.statements for plan in planned)
    needed_now = ALWAYS | MAKING if making else ALWAYS
    lacking = [each for each in await needed_for(context, planned) if not await _granted(context, *each)]
    return [
        (place, privilege, privilege in needed_now)
        for place, privileges in lacking
        for privilege in privileges.split(", ")
        if not await _granted(context, place, privilege)
    ]


async def _granted(context: AppContext, place: str, privileges: str) -> bool:
    rows = await context.retry(
        lambda: context.clickhouse.fetch(f"CHECK GRANT {privileges} ON {place}", doing="looking at grants")
    )
    return bool(rows[0][0])

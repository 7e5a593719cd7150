"""``dyncdc ddl``: what has to be created or completed before ``run``, as statements, and the least grants for it."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.app.assembly.prepared_tables import as_configured, run_statements
from dyncdc.app.assembly.table_plans import TablePlanned, check_clickhouse, plan_table
from dyncdc.app.context import AppContext
from dyncdc.config import ClickHouseUrl
from dyncdc.schema.existing.table import is_replicated
from dyncdc.schema.sql.quoting import qualified, quote_name
from dyncdc.sinks.client.cluster import makes_shared_tables, present_tables
from dyncdc.sinks.client.durability import set_fsync, without_fsync
from dyncdc.sinks.state.tables import own_statements, own_tables
from dyncdc.sinks.tables.grants import GrantedTable, needed_grants

ENGINE_GRANTS_SINCE = 24
"""Source: ClickHouse changelog, 24.1: GRANT TABLE ENGINE. Earlier servers do not know it."""


@dataclass(frozen=True, slots=True)
class Ddl:
    """``statements`` in their order; ``grants``: what an administrator gives the user of ``clickhouse.url``."""

    statements: list[str]
    grants: list[str]


async def plan_statements(context: AppContext) -> Ddl:
    """Statements for dyncdc's own tables and for every destination that is missing or incomplete, in order.

    What would complete an existing table comes last; running it is up to the user. Raises ConfigError.
    """
    await check_clickhouse(context)
    planned = [await plan_table(context, table) for table in context.config.tables]
    offers = [text for plan in planned for text in plan.offers]
    made = [*own_statements(context.cluster), *(text for plan in planned for text in plan.statements)]
    settings = [set_fsync(table, context.cluster) for table in await unsynced_tables(context, planned)]
    statements = [*as_configured(context, made), *offers, *settings]
    user = quote_name(context.clickhouse.url.user)
    needed = await needed_for(context, planned)
    return Ddl(statements, [f"GRANT {privileges} ON {place} TO {user}" for place, privileges in needed])


async def unsynced_tables(context: AppContext, planned: list[TablePlanned]) -> list[str]:
    """Tables that are there and were made without ``clickhouse.insert_fsync``; none while it is not set."""
    if not context.config.clickhouse.insert_fsync:
        return []
    ours = [name for plan in planned for name in (plan.spec.destination, plan.spec.history) if name]
    return await context.retry(lambda: without_fsync(context.clickhouse, [*own_tables(), *ours]))


async def needed_for(context: AppContext, planned: list[TablePlanned]) -> list[tuple[str, str]]:
    """What the user of ``clickhouse.url`` needs, as (place, privileges with commas between)."""
    engines = await context.retry(lambda: present_tables(context.clickhouse, own_tables()))
    shared = await context.retry(lambda: makes_shared_tables(context.clickhouse))
    version = await context.retry(lambda: context.clickhouse.fetch("SELECT version()"))
    url: ClickHouseUrl = context.clickhouse.url
    unsynced = await unsynced_tables(context, planned)
    grants = needed_grants(
        url.database,
        [granted_table(plan) for plan in planned],
        cluster=context.cluster,
        replicated=shared or any(map(is_replicated, engines.values())),
        engines=int(str(version[0][0]).partition(".")[0]) >= ENGINE_GRANTS_SINCE,
    )
    return [*grants, *((qualified(table, url.database), "ALTER SETTINGS") for table in unsynced)]


def granted_table(plan: TablePlanned) -> GrantedTable:
    """What a plan will do to its destination."""
    grows = bool(plan.offers) or (plan.config.evolve == "add_columns" and plan.spec.spill_column != "")
    spec, cleaned = plan.spec, plan.config.clean_tombstones
    return GrantedTable(spec.destination, not plan.exists, grows, spec.history, cleaned)


async def apply_statements(context: AppContext, statements: list[str]) -> None:
    """Run what ``plan_statements`` has found."""
    await run_statements(context, statements)

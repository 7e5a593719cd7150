"""``dyncdc ddl``: what has to be created or completed before ``run``, as statements."""

from __future__ import annotations

from ..app.destinations import check_clickhouse, plan_table, run_statements
from ..app.world import World
from ..sinks.own_tables import own_statements


async def plan_statements(world: World) -> list[str]:
    """Statements for dyncdc's own tables and for every destination that is missing or incomplete, in order.

    What would complete an existing table comes last; running it is up to the user. Raises ConfigError.
    """
    await check_clickhouse(world)
    planned = [await plan_table(world, table) for table in world.config.tables]
    offers = [text for plan in planned for text in plan.offers]
    return [*own_statements(world.cluster), *(text for plan in planned for text in plan.statements), *offers]


async def apply_statements(world: World, statements: list[str]) -> None:
    """Run what ``plan_statements`` has found."""
    await run_statements(world, statements)

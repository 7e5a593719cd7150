"""``dyncdc ddl``: what has to be created or completed before ``run``, as statements."""

from __future__ import annotations

from ..app.destinations import plan_table, run_statements
from ..app.world import World
from ..sinks.own_tables import own_statements


async def plan_statements(world: World) -> list[str]:
    """Statements for dyncdc's own tables and for every destination that is missing or incomplete, in order.

    Raises ConfigError for a destination that cannot be used as it is.
    """
    statements = own_statements()
    for table in world.config.tables:
        planned = await plan_table(world, table)
        statements += planned.statements
        statements += planned.offers
    return statements


async def apply_statements(world: World, statements: list[str]) -> None:
    """Run what ``plan_statements`` has found."""
    await run_statements(world, statements)

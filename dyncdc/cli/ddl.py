"""``dyncdc ddl``: the statements that make, or complete, the destinations."""

from __future__ import annotations

import click
import orjson

from ..app.patience import limited
from ..app.world import open_world
from ..config import Config
from ..operations.ddl import apply_statements, plan_statements
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.option("--apply", "apply_them", is_flag=True, help="Run the statements instead of only printing them.")
@config_option
@json_option
@debug_option
def ddl(config_file: str | None, apply_them: bool, as_json: bool, debug: bool) -> None:
    """Print (or run) the DDL of all destinations.

    What exists already is left out; what would complete an existing table comes last.
    """
    del debug
    statements = run_async(_ddl(load(config_file), apply_them))
    if as_json:
        click.echo(orjson.dumps({"statements": statements, "applied": apply_them}).decode())
        return
    for statement in statements:
        click.echo(f"{statement};\n")


async def _ddl(config: Config, apply_them: bool) -> list[str]:
    with limited(config, "ddl") as patience:
        async with open_world(config, patience) as world:
            statements = await plan_statements(world)
            if apply_them:
                await apply_statements(world, statements)
    return statements

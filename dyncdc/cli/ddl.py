"""``dyncdc ddl``: the statements that make, or complete, the destinations."""

from __future__ import annotations

import click
import orjson

from dyncdc.app.context import open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config
from dyncdc.operations.ddl import Ddl, apply_statements, plan_statements

from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.option("--apply", "apply_them", is_flag=True, help="Run the statements instead of only printing them.")
@config_option
@json_option
@debug_option
def ddl(config_file: str | None, apply_them: bool, as_json: bool, debug: bool) -> None:
    """Print (or run) the DDL of all destinations.

    What exists already is left out; what would complete an existing table comes last. Then, as comments, the least
    grants that the user needs: never run here.
    """
    del debug
    found = run_async(_ddl(load(config_file), apply_them))
    if as_json:
        document = {"statements": found.statements, "grants": found.grants, "applied": apply_them}
        click.echo(orjson.dumps(document).decode())
        return
    for statement in found.statements:
        click.echo(f"{statement};\n")
    click.echo("-- The least that the user of clickhouse.url needs, for an administrator to run:")
    for grant in found.grants:
        click.echo(f"-- {grant};")


async def _ddl(config: Config, apply_them: bool) -> Ddl:
    with limited(config, "ddl") as startup_retry:
        async with open_context(config, startup_retry) as context:
            found = await plan_statements(context)
            if apply_them:
                await apply_statements(context, found.statements)
    return found

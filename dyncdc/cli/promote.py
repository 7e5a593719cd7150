"""``dyncdc promote TABLE ATTRIBUTE TYPE``: one line that says which column it has become."""

from __future__ import annotations

import click
import orjson

from dyncdc.app.context import open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config
from dyncdc.operations.promote import Promoted
from dyncdc.operations.promote import promote as run_promote

from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.argument("table")
@click.argument("attribute")
@click.argument("type_", metavar="TYPE")
@click.option("--keep-misfits", is_flag=True, help="Go on though some values do not fit: they stay in the spill.")
@config_option
@json_option
@debug_option
def promote(
    table: str, attribute: str, type_: str, keep_misfits: bool, config_file: str | None, as_json: bool, debug: bool
) -> None:
    """Make ATTRIBUTE of TABLE a column of TYPE, older rows included, without rewriting any.

    Dots in ATTRIBUTE step into maps. TYPE is ClickHouse's, as 'Nullable(Decimal(38, 2))'. Refused where it would blur a
    value. A running daemon fills the column from its next insert on.
    """
    del debug
    done = run_async(_promote(load(config_file), table, attribute, type_, keep_misfits))
    click.echo(orjson.dumps(done.document()).decode() if as_json else done.sentence)


async def _promote(config: Config, table: str, attribute: str, kind: str, keep_misfits: bool) -> Promoted:
    with limited(config, "promote") as startup_retry:
        async with open_context(config, startup_retry) as context:
            return await run_promote(context, table, attribute, kind, keep_misfits=keep_misfits)

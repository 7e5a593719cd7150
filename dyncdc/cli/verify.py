"""``dyncdc verify``: one line per differing key, then the verdict; exit 4 if source and destination differ."""

from __future__ import annotations

import click
import orjson

from dyncdc.operations.verify import verify_table

from .exit_codes import DIFFERENT, DONE
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.argument("table")
@config_option
@json_option
@debug_option
def verify(table: str, config_file: str | None, as_json: bool, debug: bool) -> int:
    """Compare TABLE with ClickHouse, item by item.

    Every item in DynamoDB with its row, and every row with its item.

    Meant for a quiet table: keys that differ are read again for some seconds, so changes on their way do not count.
    """
    del debug
    result = run_async(verify_table(load(config_file), table))
    if as_json:
        click.echo(orjson.dumps(result.document()).decode())
    else:
        for line in result.lines():
            click.echo(line)
        click.echo(result.verdict)
    return DONE if result.equal else DIFFERENT

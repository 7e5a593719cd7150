"""``dyncdc snapshot TABLE``: one line that says what was asked for."""

from __future__ import annotations

import click
import orjson

from ..operations.snapshot import request_snapshot
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.argument("table")
@config_option
@json_option
@debug_option
def snapshot(table: str, config_file: str | None, as_json: bool, debug: bool) -> None:
    """Ask the running, or the next, daemon for a fresh snapshot of TABLE.

    It heals rows that are stale, marks what is gone as deleted, and never touches what is newer.
    """
    del debug
    request = run_async(request_snapshot(load(config_file), table))
    if as_json:
        click.echo(orjson.dumps({"id": request, "table": table}).decode())
        return
    click.echo(f"asked for a snapshot of {table} (request {request}); `dyncdc status` shows how far it is")

"""``dyncdc snapshot TABLE``: one line that says what was asked for."""

from __future__ import annotations

import click
import orjson

from dyncdc.operations.snapshot import SnapshotRequest, request_snapshot
from dyncdc.operations.snapshot import accept_deletes as accept

from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.argument("table")
@click.option(
    "--accept-deletes",
    is_flag=True,
    help="Mark as deleted all that the table does not hold, even most of the rows or those of another table.",
)
@config_option
@json_option
@debug_option
def snapshot(table: str, accept_deletes: bool, config_file: str | None, as_json: bool, debug: bool) -> None:
    """Ask the running, or the next, daemon for a fresh snapshot of TABLE.

    It heals rows that are stale, marks what is gone as deleted, and never touches what is newer.
    """
    del debug
    config = load(config_file)
    asked = (
        run_async(accept(config, table))
        if accept_deletes
        else SnapshotRequest(run_async(request_snapshot(config, table)))
    )
    if as_json:
        click.echo(orjson.dumps({"id": asked.id, "table": table}).decode())
    elif asked.going_on:
        click.echo(f"snapshot {asked.id} of {table} goes on; `dyncdc status` shows how far it is")
    else:
        click.echo(f"asked for a snapshot of {table} (request {asked.id}); `dyncdc status` shows how far it is")

"""``dyncdc run``: the daemon."""

from __future__ import annotations

import click

from ..app import run_daemon
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.option("--once", is_flag=True, help="Stop when snapshots are complete and every shard was read to its tip.")
@config_option
@json_option
@debug_option
def run(config_file: str | None, once: bool, as_json: bool, debug: bool) -> int:
    """Replicate until told to stop (SIGTERM drains)."""
    del as_json, debug  # the daemon prints nothing; its log is JSON when stderr is no terminal
    return run_async(run_daemon(load(config_file), once=once))

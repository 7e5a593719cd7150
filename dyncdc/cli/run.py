"""``dyncdc run``: the daemon."""

from __future__ import annotations

import click

from ..app import run_daemon
from ..telemetry.logging import configure_logging
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.option("--once", is_flag=True, help="Stop when snapshots are complete and every shard was read to its tip.")
@config_option
@json_option
@debug_option
def run(config_file: str | None, once: bool, as_json: bool, debug: bool) -> int:
    """Replicate until told to stop (SIGTERM drains)."""
    config = load(config_file)
    configure_logging("debug" if debug else config.log.level, "json" if as_json else config.log.format)
    return run_async(run_daemon(config, once=once))

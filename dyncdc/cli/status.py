"""``dyncdc status``: tables and shards on the terminal, once or live, or as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import click
from rich.console import Console
from rich.live import Live

from dyncdc.app.context import open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config
from dyncdc.errors import DyncdcError
from dyncdc.operations.status.daemon import daemon_document, daemon_state
from dyncdc.operations.status.status import read_status
from dyncdc.telemetry.status.model import DaemonStatus, Status, encode

from .options import config_option, debug_option, json_option, load, run_async
from .status_view import draw

PIPE_WIDTH = 160
"""Columns of the tables when no one's terminal says how many there are."""

Show = Callable[[Status], None]


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C; with --json a document per line.")
@click.option(
    "--interval", default=5.0, show_default=True, type=click.FloatRange(min=1.0), help="Seconds between, with --watch."
)
@config_option
@json_option
@debug_option
def status(config_file: str | None, watch: bool, interval: float, as_json: bool, debug: bool) -> int:
    """Show how far everything is.

    Reads ClickHouse and Kinesis, so it works with the daemon dead, and says so. A daemon on this machine adds what only
    it knows: throughput, what is stuck, recent errors. It is asked too when ClickHouse does not answer.
    """
    del debug
    config = load(config_file)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

    def show(found: Status) -> None:
        if as_json:
            click.echo(encode(found).decode())
        else:
            console.print(draw(found))

    if not watch:
        run_async(_once(config, show))
    elif as_json or not console.is_terminal:
        _until_interrupted(config, interval, show)
    else:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _until_interrupted(config, interval, lambda found: live.update(draw(found), refresh=True))
    return 0


async def _once(config: Config, show: Show) -> None:
    """Show it once. What the daemon alone knows is shown before ClickHouse's or AWS's error is raised."""
    daemon, live = await _ask_daemon(config)
    try:
        with limited(config, "status") as startup_retry:
            async with open_context(config, startup_retry) as context:
                found = await read_status(context, daemon, live)
    except DyncdcError as error:
        if live is not None:
            show(Status(config.pipeline, daemon, notes=[str(error)], live=live))
        raise
    show(found)


def _until_interrupted(config: Config, interval_seconds: float, show: Show) -> None:
    """Ctrl-C is the way to end it, so it is no failure."""
    try:
        run_async(_for_ever(config, interval_seconds, show))
    except KeyboardInterrupt:
        return


async def _for_ever(config: Config, interval_seconds: float, show: Show) -> None:
    """Connections are kept while all goes well, and recreated after an error, which is shown and not raised."""
    while True:
        try:
            with limited(config, "status") as startup_retry:
                async with open_context(config, startup_retry) as context:
                    while True:
                        daemon, live = await _ask_daemon(config)
                        show(await read_status(context, daemon, live))
                        await asyncio.sleep(interval_seconds)
        except DyncdcError as error:
            daemon, live = await _ask_daemon(config)
            show(Status(config.pipeline, daemon, notes=[str(error)], live=live))
        await asyncio.sleep(interval_seconds)


async def _ask_daemon(config: Config) -> tuple[str, DaemonStatus | None]:
    return await asyncio.to_thread(lambda: (daemon_state(config), daemon_document(config)))

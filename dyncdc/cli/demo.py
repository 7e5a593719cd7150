"""``dyncdc demo``: the show on the terminal; exit 0 only if source and destination are equal at its end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import orjson
from rich.console import Console

from dyncdc.app.process.signals import SIGNAL_BASE
from dyncdc.operations.demo import DemoOptions, DemoOutcome, run_demo
from dyncdc.telemetry.logging import configure_logging

from .exit_codes import DIFFERENT, DONE
from .options import debug_option, json_option, run_async


@click.command()
@click.option(
    "--seconds", default=20.0, show_default=True, type=click.FloatRange(min=1), help="Length of the live load."
)
@click.option(
    "--rate", default=200.0, show_default=True, type=click.FloatRange(min=1, max=5000), help="Changes per second."
)
@click.option(
    "--items", default=20_000, show_default=True, type=click.IntRange(100, 1_000_000), help="Items to load at first."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is written, and stays; default: a temporary directory.",
)
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@json_option
@debug_option
def demo(
    seconds: float, rate: float, items: int, directory: Path | None, keep: bool, as_json: bool, debug: bool
) -> int:
    """Show everything at work on this machine alone.

    A snapshot, live changes, and the proof that nothing is lost.

    Needs no AWS, no Docker and no configuration. Kill the daemon while it runs, if you like.
    """
    configure_logging("debug" if debug else "warning", "auto")
    options = DemoOptions(seconds, rate, items, directory, keep)
    console = Console(stderr=as_json)
    return run_async(_show(options, console, as_json=as_json))


async def _show(options: DemoOptions, console: Console, *, as_json: bool) -> int:
    outcomes: list[DemoOutcome] = []
    received: list[int] = []

    def report(outcome: DemoOutcome) -> None:
        outcomes.append(outcome)
        click.echo(_document(outcome) if as_json else outcome.verdict)

    def interrupted(number: int, show: asyncio.Task[object]) -> None:
        received.append(number)
        show.cancel()

    async with asyncio.TaskGroup() as group:
        show = group.create_task(run_demo(options, console, report), name="demo")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupted, number, show)
    if not outcomes:
        return SIGNAL_BASE + received[0]
    return DONE if outcomes[0].equal else DIFFERENT


def _document(outcome: DemoOutcome) -> str:
    tables = [result.document() for result in outcome.results]
    return orjson.dumps({"equal": outcome.equal, "changes": outcome.changes, "tables": tables}).decode()

"""``dyncdc status``: tables and shards on the terminal, or as JSON."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import click
import orjson
from rich.console import Console
from rich.table import Table

from ..app.patience import limited
from ..app.world import open_world
from ..config import Config
from ..operations.status import Status, daemon_state, read_status
from .options import config_option, debug_option, json_option, load, run_async

PIPE_WIDTH = 160
"""Columns of the tables when nobody's terminal says how many there are."""


@click.command()
@config_option
@json_option
@debug_option
def status(config_file: str | None, as_json: bool, debug: bool) -> None:
    """Show how far everything is.

    Reads ClickHouse and Kinesis, so it works with the daemon dead, and says so.
    """
    del debug
    found = run_async(_read(load(config_file)))
    if as_json:
        click.echo(orjson.dumps(asdict(found)).decode())
        return
    _show(found)


async def _read(config: Config) -> Status:
    daemon = await asyncio.to_thread(daemon_state, config)
    with limited(config, "status") as patience:
        async with open_world(config, patience) as world:
            return await read_status(world, daemon)


def _show(found: Status) -> None:
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(f"pipeline {found.pipeline}, daemon {found.daemon}", highlight=False)
    if found.members and (len(found.members) > 1 or found.members[0].member != "0/1"):
        members = ", ".join(f"{one.member}{'' if one.alive else ' (not running)'}" for one in found.members)
        console.print(f"members {members}", highlight=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)
    for gap in found.gaps:
        console.print(f"gap{' (accepted)' if gap.accepted else ''}: {gap.words}", highlight=False, markup=False)
    for name in found.requested:
        console.print(f"requested: a snapshot of {name}", highlight=False, markup=False)
    for table in found.tables:
        if table.tombstones is not None:
            upto = "none yet" if table.cleaned_before is None else f"those before {_instant(table.cleaned_before)}"
            line = f"tombstones of {table.destination}: {table.tombstones:,}; cleaned up: {upto}"
            console.print(line, highlight=False, markup=False)
    tables = Table("table", "destination", "snapshot", "rows stored", "lag", "complete until", "dead letters")
    for table in found.tables:
        files = f" {table.files_done}/{table.files} files" if table.files else ""
        tables.add_row(
            table.table,
            table.destination,
            f"{table.snapshot}{files}",
            "-" if table.rows is None else f"{table.rows:,}",
            _seconds(table.lag_seconds),
            _instant(table.complete_until),
            f"{table.dead_letters:,}",
        )
    shards = Table("stream", "shard", "position", "lag", "expires in")
    for shard in found.shards:
        shards.add_row(
            shard.stream,
            shard.shard,
            _short(shard.position),
            _seconds(shard.lag_seconds),
            _seconds(shard.headroom_seconds),
        )
    console.print(tables)
    console.print(shards)


def _short(position: str) -> str:
    """The end of a sequence number tells positions apart; the whole of it fills a terminal."""
    return position if len(position) <= 24 else f"…{position[-12:]}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _instant(seconds: float | None) -> str:
    return "not yet" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

"""``dyncdc dead-letters``: list, show, replay and drop records that could not become rows."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import click
import orjson

from dyncdc.app.context import open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config
from dyncdc.operations.dead_letters.reader import SHORT_ID, DeadLetterReader, Listed, open_dead_letters
from dyncdc.operations.dead_letters.replay import Replayed, check_table, replay_dead_letters
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters, StoredDeadLetter
from dyncdc.timestamps import iso_timestamp

from .exit_codes import DONE, FATAL
from .options import config_option, debug_option, json_option, load, run_async

HEADINGS = ("id", "table", "reason", "column", "source", "shard", "position", "received", "state")
HEX_BYTES_PER_LINE = 32


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay or drop records that could not become rows."""


@dead_letters.command("list")
@click.option("--table", help="Only dead letters of this DynamoDB table.")
@click.option("--all", "closed", is_flag=True, help="Also those that were replayed or dropped.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Newest dead letters to show.")
@config_option
@json_option
@debug_option
def list_(table: str | None, closed: bool, limit: int, config_file: str | None, as_json: bool, debug: bool) -> None:
    """List open dead letters, newest first: where each was read and why it stays, never what it holds."""
    del debug

    async def read(config: Config) -> Listed:
        async with open_dead_letters(config) as box:
            return await box.list(table=table, closed=closed, limit=limit)

    found = run_async(read(load(config_file)))
    if as_json:
        dead_letters = [_document(dead_letter) for dead_letter in found.dead_letters]
        click.echo(orjson.dumps({"dead_letters": dead_letters, "open": found.open}).decode())
        return
    for line in _columns([HEADINGS, *map(_fields, found.dead_letters)] if found.dead_letters else []):
        click.echo(line)
    click.echo(f"{found.open:,} open{f', the newest {limit:,} shown' if len(found.dead_letters) == limit else ''}")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@config_option
@json_option
@debug_option
def show(letter_id: str, config_file: str | None, as_json: bool, debug: bool) -> None:
    """Show one dead letter whole, its record included. ID may be cut to what no other dead letter begins with."""
    del debug

    async def read(config: Config) -> StoredDeadLetter:
        async with open_dead_letters(config) as box:
            return await box.show(letter_id)

    dead_letter = run_async(read(load(config_file)))
    raw = dead_letter.raw or b""
    if as_json:
        document = {**_document(dead_letter), "raw": _as_text(raw), "raw_base64": base64.b64encode(raw).decode()}
        click.echo(orjson.dumps(document).decode())
        return
    for name, value in _document(dead_letter).items():
        click.echo(f"{name + ':':<13}{'' if value is None else value}")
    text = _as_text(raw)
    click.echo(f"raw, {len(raw):,} bytes{' as hex' if text is None else ''}:")
    for line in [text] if text is not None else _hex(raw):
        click.echo(line)


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--table", help="Only dead letters of this DynamoDB table.")
@config_option
@json_option
@debug_option
def replay(ids: tuple[str, ...], table: str | None, config_file: str | None, as_json: bool, debug: bool) -> int:
    """Make rows of dead letters, all open ones unless some are named, by the mapping as it is now.

    Each keeps its original version, so nothing newer is overwritten. What fails again stays open, with exit code 1.
    """
    del debug
    result = run_async(_replay(load(config_file), ids, table))
    if as_json:
        failed = [{"id": id_, "error": why} for id_, why in result.failed.items()]
        click.echo(orjson.dumps({"replayed": result.done, "failed": failed}).decode())
    else:
        for id_, why in result.failed.items():
            click.echo(f"{id_[:SHORT_ID]}  stays: {why}")
        click.echo(f"{len(result.done):,} replayed, {len(result.failed):,} stay")
    return FATAL if result.failed else DONE


async def _replay(config: Config, ids: Sequence[str], table: str | None) -> Replayed:
    check_table(config, table)
    with limited(config, "replaying dead letters") as startup_retry:
        async with open_context(config, startup_retry) as context:
            box = DeadLetterReader(ClickHouseDeadLetters(context.clickhouse, config.pipeline), startup_retry)
            return await replay_dead_letters(context, await box.select(ids, table=table))


@dead_letters.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@config_option
@json_option
@debug_option
def drop(ids: tuple[str, ...], config_file: str | None, as_json: bool, debug: bool) -> None:
    """Close dead letters without a row. They stay in the table, marked as dropped, and can still be replayed by id."""
    del debug

    async def close(config: Config) -> int:
        async with open_dead_letters(config) as box:
            return await box.drop(await box.select(ids, table=None))

    dropped = run_async(close(load(config_file)))
    click.echo(orjson.dumps({"dropped": dropped}).decode() if as_json else f"{dropped:,} dropped")


@dead_letters.command()
@click.option("--older-than", "days", metavar="DAYS", type=click.IntRange(min=1), default=30, show_default=True)
@config_option
@json_option
@debug_option
def clean(days: int, config_file: str | None, as_json: bool, debug: bool) -> None:
    """Delete dead letters closed so many days ago. Needs ALTER DELETE, before 26 also ALTER UPDATE, on their table."""
    del debug

    async def forget(config: Config) -> int:
        async with open_dead_letters(config) as box:
            return await box.forget(days)

    deleted = run_async(forget(load(config_file)))
    click.echo(orjson.dumps({"deleted": deleted}).decode() if as_json else f"{deleted:,} deleted")


def _document(dead_letter: StoredDeadLetter) -> dict[str, object]:
    return {
        "id": dead_letter.id,
        "state": dead_letter.state,
        "table": dead_letter.table,
        "reason": dead_letter.reason,
        "column": dead_letter.column,
        "error": dead_letter.error,
        "source": dead_letter.source,
        "shard": dead_letter.shard,
        "position": dead_letter.position,
        "received_at": iso_timestamp(dead_letter.received_at),
        "replayed_at": None if dead_letter.replayed_at is None else iso_timestamp(dead_letter.replayed_at),
    }


def _fields(dead_letter: StoredDeadLetter) -> tuple[str, ...]:
    state = (
        dead_letter.state
        if dead_letter.replayed_at is None
        else f"{dead_letter.state} {iso_timestamp(dead_letter.replayed_at)}"
    )
    return (
        dead_letter.id[:SHORT_ID],
        dead_letter.table or "-",
        dead_letter.reason,
        dead_letter.column or "-",
        dead_letter.source.rpartition(":stream/")[2].partition("@")[0],
        dead_letter.shard,
        dead_letter.position,
        iso_timestamp(dead_letter.received_at),
        state,
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _as_text(raw: bytes) -> str | None:
    """The bytes as text, None where a terminal would not show them as they are."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\t" for character in text) else None


def _hex(raw: bytes) -> list[str]:
    return [
        f"{first:08x}  {raw[first : first + HEX_BYTES_PER_LINE].hex(' ')}"
        for first in range(0, len(raw), HEX_BYTES_PER_LINE)
    ]

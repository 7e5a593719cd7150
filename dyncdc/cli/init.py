"""``dyncdc init``: the proposed configuration, the statements and the policy, printed; nothing else is changed."""

from __future__ import annotations

import os
from pathlib import Path

import click
import orjson

from dyncdc.config import ClickHouseUrl
from dyncdc.config.urls import parse_clickhouse_url
from dyncdc.errors import ConfigError
from dyncdc.operations.init import InitRequest, Proposal, comment_lines, propose
from dyncdc.operations.permissions.iam_policy import policy_document
from dyncdc.telemetry.logging import configure_logging

from .options import debug_option, json_option, run_async


@click.command()
@click.argument("table")
@click.option("--stream", default="", help="Name or ARN; default: where DynamoDB says that the changes go.")
@click.option("--clickhouse", "url", metavar="URL", help="clickhouse://user@host:9000/database; need not answer yet.")
@click.option("--cluster", default="", metavar="NAME", help="ClickHouse cluster; needed for several hosts in the URL.")
@click.option("--into", default="", metavar="NAME", help="ClickHouse table; default: the same name.")
@click.option("--region", default="", help="AWS region; default: what the SDK finds.")
@click.option("--endpoint-url", default="", metavar="URL", help="Another AWS endpoint: LocalStack, the local AWS.")
@click.option("--bucket", default="", help="S3 bucket: first load by an export. Without it, by a scan.")
@click.option("--no-snapshot", is_flag=True, help="Changes only, no first load.")
@click.option(
    "--items", default=1000, show_default=True, type=click.IntRange(1, 1_000_000), help="Items to look at, at most."
)
@click.option("-o", "--output", metavar="FILE", help="Write the configuration there; never over an existing file.")
@json_option
@debug_option
def init(
    table: str,
    stream: str,
    url: str | None,
    cluster: str,
    into: str,
    region: str,
    endpoint_url: str,
    bucket: str,
    no_snapshot: bool,
    items: int,
    output: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Propose a configuration for the DynamoDB table TABLE.

    Looks at the table, a sample of its items, its stream and the destination; changes nothing.

    Without -o everything is printed as one TOML file: `dyncdc init orders > config.toml`.
    """
    configure_logging("debug" if debug else "error", "auto")
    if bucket and no_snapshot:
        raise click.UsageError("--bucket and --no-snapshot exclude each other")
    file = Path(output) if output else None
    if file is not None and file.exists():
        raise ConfigError(f"writing {file}: it exists", hint="name another file, or remove it")
    asked = InitRequest(
        table,
        stream,
        _address(url),
        into,
        region,
        endpoint_url,
        bucket,
        cluster=cluster,
        snapshot=not no_snapshot,
        items=items,
    )
    found = run_async(propose(asked, os.environ))
    if file is not None:
        _write(file, found.text)
    if as_json:
        click.echo(orjson.dumps(_document(found)).decode())
        return
    if file is not None:
        click.echo("\n\n".join([*_to_know(found), *_beside(found)]))
        return
    click.echo(found.text)  # it holds what there is to know
    click.echo("\n".join(line.rstrip() for line in comment_lines("\n\n".join(_beside(found)))))


def _address(url: str | None) -> ClickHouseUrl | None:
    if url is None:
        return None
    try:
        return parse_clickhouse_url(url)
    except ValueError as error:
        raise ConfigError(f"reading --clickhouse: it {error}") from None


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise ConfigError(f"writing {file}: {error.strerror}") from None
    click.echo(f"wrote {file}: look through it, then `dyncdc check -c {file}` and `dyncdc run -c {file}`", err=True)


def _to_know(found: Proposal) -> list[str]:
    """What is to be done, and the notes."""
    parts = []
    for heading, lines in (("TO DO ON THE AWS SIDE", found.todo), ("PLEASE NOTE", found.notes)):
        if lines:
            parts.append("\n".join([heading, "", *(f"  {line}" for line in lines)]))
    return parts


def _beside(found: Proposal) -> list[str]:
    """What goes with the configuration: DDL and policy."""
    parts = []
    parts.append(
        "\n".join(
            [
                "DDL (`dyncdc run` runs it where it is missing, `dyncdc ddl --apply` too)",
                "",
                *(f"{statement};\n" for statement in found.statements),
            ]
        )
    )
    if found.offers:
        offered = [f"{statement};\n" for statement in found.offers]
        parts.append("\n".join(["ON OFFER (would complete the table; up to you)", "", *offered]))
    grants = [f"{grant};" for grant in found.grants]
    parts.append("\n".join(["GRANTS (the least that the ClickHouse user needs)", "", *grants]))
    reasons = [f"  {each.sid}: {each.reason}{' (optional)' if each.optional else ''}" for each in found.policy]
    policy = orjson.dumps(policy_document(found.policy), option=orjson.OPT_INDENT_2).decode()
    parts.append("\n".join(["IAM POLICY (exactly what this configuration needs)", "", *reasons, "", policy]))
    return parts


def _document(found: Proposal) -> dict[str, object]:
    return {
        "config": found.text,
        "statements": found.statements,
        "offers": found.offers,
        "grants": found.grants,
        "policy": policy_document(found.policy),
        "reasons": {each.sid: each.reason for each in found.policy},
        "todo": found.todo,
        "notes": found.notes,
    }

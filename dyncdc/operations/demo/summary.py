"""What the demo prints at its end: what was compared, a query with its answer, and where to look further."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from dyncdc.emulator.own_user import SECRET_PLACE
from dyncdc.operations.verify.result import Verification

from .queries import SAMPLE_QUERY, Answer, ask
from .services import CREDENTIALS, Kit

_FIRST_QUERY: Final = "SELECT * FROM orders_current LIMIT 3 FORMAT Vertical"


async def show_result(console: Console, kit: Kit, results: Sequence[Verification], *, keep: bool) -> None:
    """Print everything but the last line."""
    _print(console, "\nA query over the replicated tables:")
    _print(console, SAMPLE_QUERY)
    console.print(_table(await ask(kit.http, kit.clickhouse_http, SAMPLE_QUERY)))
    _look_further(console, kit, keep=keep)
    _print(console, "\nEvery item of DynamoDB's own scan against ClickHouse, each row read back exactly:")
    for result in results:
        for line in result.lines():
            _print(console, line)
        _print(console, f"{result.table}: {result.verdict}")


def _look_further(console: Console, kit: Kit, *, keep: bool) -> None:
    if not keep:
        _print(console, "\n`dyncdc demo --keep` leaves everything running to look around, until Ctrl-C.")
        return
    credentials = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
    # the password itself is not shown: a terminal's text is copied, and kept
    password = f"$(cat {shlex.quote(str(kit.clickhouse.directory / SECRET_PLACE))})"
    curl = f"curl -u {kit.clickhouse.user}:{password} {shlex.quote(kit.clickhouse_http)} --data-binary '{_FIRST_QUERY}'"
    where = f"--port {kit.clickhouse.tcp_port} --database {kit.clickhouse.database}"
    client = f"clickhouse-client {where} --user {kit.clickhouse.user} --password {password}"
    status = f"{credentials} {sys.executable} -m dyncdc status -c {shlex.quote(str(kit.config_file))}"
    _print(console, "\nEverything stays up until Ctrl-C:")
    for what, how in (
        ("ClickHouse, HTTP", curl),
        ("ClickHouse, native", client),
        ("local AWS", kit.local_aws.endpoint_url),
        ("daemon", f"{kit.metrics_url.removesuffix('metrics')}  log {kit.log_file}"),
        ("status", status),
    ):
        _print(console, f"  {what:<19} {how}")


def _table(answer: Answer) -> Table:
    table = Table(*answer.columns)
    for row in answer.rows:
        table.add_row(*map(str, row))
    return table


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)

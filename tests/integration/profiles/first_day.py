"""A first day as a user whose settings are odd, in this process, and what a usual user then finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.stage.stage import Stage

from dyncdc.app import run_daemon
from dyncdc.app.context import open_context
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config, load_config
from dyncdc.errors import DyncdcError
from dyncdc.operations.check.checker import Checker
from dyncdc.operations.check.findings import breaks
from dyncdc.operations.promote import promote
from dyncdc.operations.verify import verify_table
from dyncdc.sinks.client.asynch_connection import ProtocolConnection

DAY_SECONDS = 100.0

ITEMS: list[dict[str, dict[str, Any]]] = [
    {
        "id": {"S": f"u/{number}"},
        "n": {"N": "9007199254740993"},
        "f": {"N": "-9.954116"},
        "big": {"N": "12345678901234567890123456789.123456789"},
        "at": {"S": "2026-03-29T01:30:00.123456+02:00"},
        "day": {"S": "1969-12-31"},
        "m": {"M": {"k": {"N": str(number)}, "é": {"S": "\u2028"}}},
        "words": {"M": {"a": {"S": "1"}, "b": {"S": "2"}}},
        "tags": {"SS": ["a/b", "c"]},
        "raw": {"B": b"\x00\xff"},
        "none": {"NULL": True},
        **({"odd": {"BOOL": True}} if number % 2 else {}),
    }
    for number in range(12)
]

COLUMNS = {
    "n": "Int64",
    "f": "Float64",
    "big": "Nullable(Decimal(76, 20))",
    "at": "Nullable(DateTime64(6, 'UTC'))",
    "day": "Date32",
    "words": "Map(String, String)",
    "tags": "Array(String)",
    "none": "Nullable(String)",
    "odd": "Bool",
}

COUNTED = ("dyncdc_snapshots", "dyncdc_dead_letters", "dyncdc_gaps", "dyncdc_checkpoints")


def first_day(stage: Stage, settings: Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """Return what stood in the way, "" for nothing, and what a usual user finds in the end."""
    table = stage.table(
        "users",
        items=ITEMS,
        columns=COLUMNS,
        history="users_history",
        evolve="spill",
        snapshot={"method": "scan", "settle_seconds": 0.0, "margin_seconds": 0.0},
    )

    async def bounded() -> None:
        async with asyncio.timeout(DAY_SECONDS):
            await _live(stage, table)

    why = ""
    with _sessions_with(settings), capture_logs() as log:
        try:
            asyncio.run(bounded())
        except* (DyncdcError, AssertionError, TimeoutError) as errors:
            why = "; ".join(_texts(errors))
    if why:
        told = [f"{one['event']} {one.get('error', '')}" for one in log if one["log_level"] != "info"]
        return "\n".join([why, *dict.fromkeys(told)]), {}
    return "", _found(stage)


def differences(right: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Say where the two are not the same."""
    lines = []
    for name, value in right.items():
        other = found.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            keys = sorted(key for key in value.keys() | other.keys() if value.get(key) != other.get(key))
            parts = {key: (value.get(key), other.get(key)) for key in keys}
            lines += [f"{name}: {json.dumps(parts, default=str)}"] if parts else []
        elif value != other:
            lines.append(f"{name}: {value!r}, but {other!r}")
    return "\n".join(lines)


def literal(value: object) -> str:
    """Write the value of a setting as SQL does."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


async def _live(stage: Stage, table: str) -> None:
    config = load_config(stage.configure(run={"startup_timeout_seconds": 20.0}))
    with limited(config, "check") as retry:
        checker = Checker(config, retry)
        await checker.run()
    assert not breaks(checker.findings), "; ".join(finding.line() for finding in checker.findings)
    await _once(config)
    await asyncio.to_thread(_change, stage, table)
    await _once(config)
    with limited(config, "promote") as retry:
        async with open_context(config, retry) as context:
            await promote(context, table, "grown", "Nullable(Decimal(38, 2))")
    verdict = (await verify_table(config, table, pauses_seconds=(0.05,))).verdict
    assert verdict.startswith("EQUAL"), verdict


async def _once(config: Config) -> None:
    assert await run_daemon(config, RunOptions(once=True)) == 0


def _change(stage: Stage, table: str) -> None:
    aws = stage.place.aws
    aws.put(table, dict(ITEMS[1], n={"N": "2"}, grown={"N": "1.5"}))
    aws.dynamodb.delete_item(TableName=table, Key={"id": ITEMS[2]["id"]})
    aws.put(table, dict(ITEMS[3], n={"S": "no number"}))
    stage.put(b"no record")


def _found(stage: Stage) -> dict[str, Any]:
    """Read everything as a usual user, without what differs from day to day."""
    clickhouse, name = stage.clickhouse, stage.place.name
    made = clickhouse.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    tables = [str(table) for table, _ in made]
    return {
        "made": {str(table): str(statement).replace(name, "DATABASE") for table, statement in made},
        "counted": {
            table: clickhouse.number(f"SELECT count() FROM {table} FINAL") for table in tables if table in COUNTED
        },
        "rows": clickhouse.rows("SELECT * EXCEPT (_version) FROM users FINAL ORDER BY id"),
        "history": clickhouse.rows("SELECT id, old_image, new_image FROM users_history ORDER BY ALL"),
        "view": clickhouse.rows("SELECT * FROM users_current ORDER BY id"),
    }


@contextmanager
def _sessions_with(settings: Mapping[str, object]) -> Iterator[None]:
    """Let each connection that is made meanwhile begin with these, as if the user's profile said so."""
    connect = ProtocolConnection._connect_to
    statement = "SET " + ", ".join(f"{name} = {literal(value)}" for name, value in settings.items())

    async def connect_and_set(self: ProtocolConnection, host: tuple[str, int]) -> None:
        await connect(self, host)
        if settings:
            executing, self.is_query_executing = self.is_query_executing, False
            await self.run(statement, {"network_compression_method": "LZ4"})
            self.is_query_executing = executing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProtocolConnection, "_connect_to", connect_and_set)
        yield


def _texts(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _texts(one)
    else:
        yield f"{type(error).__name__}: {error}"

"""``check`` of a stream that places records without regard to their keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dyncdc.operations.check import checker as check
from dyncdc.operations.check.checker import Checker
from dyncdc.sources.dynamodb import Destination, TableDescription, Tables
from dyncdc.sources.kinesis.stream_description import distribution_of


async def _at_once(operation: Callable[[], Awaitable[Any]]) -> Any:
    return await operation()


@pytest.mark.parametrize(
    ("by_key", "precision", "level"),
    [
        (True, "MICROSECOND", "ok"),
        (True, "MILLISECOND", "warning"),
        (False, "MICROSECOND", "ok"),
        (False, "MILLISECOND", "error"),
        (False, "", "error"),
    ],
)
def test_ties_are_an_error_where_the_stream_does_not_keep_the_order_of_one_key(
    monkeypatch: pytest.MonkeyPatch, by_key: bool, precision: str, level: str
) -> None:
    async def states(*_: object) -> Sequence[Destination]:
        return [Destination("arn:s", "ACTIVE", precision)]

    monkeypatch.setattr(check, "destination_states", states)
    checker = Checker(cast(Any, SimpleNamespace(tables=())), cast(Any, _at_once))
    source = SimpleNamespace(arn="arn:s", label="s", by_key=by_key)
    asyncio.run(checker._destination(cast(Any, None), cast(Any, SimpleNamespace(dynamodb="orders")), cast(Any, source)))
    assert checker.findings[-1].level == level


@pytest.mark.parametrize(
    ("status", "level", "todo"),
    [
        ("ACTIVE", "ok", ""),
        ("UPDATING", "ok", ""),
        ("CREATING", "warning", "wait until it is ACTIVE"),
        ("DELETING", "error", "make it again"),
        ("ARCHIVING", "error", "from a backup only"),
        ("ARCHIVED", "error", "restore it from its backup"),
        ("INACCESSIBLE_ENCRYPTION_CREDENTIALS", "error", "KMS key"),
        ("REPLICATION_NOT_AUTHORIZED", "error", "permission to replicate"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, status: str, level: str, todo: str
) -> None:
    async def describe(self: Tables, table: str) -> TableDescription:
        return TableDescription(table, "arn:t", status, (), 0, 0)

    monkeypatch.setattr(Tables, "describe", describe)
    checker = Checker(cast(Any, SimpleNamespace(tables=())), cast(Any, _at_once))
    aws = cast(Any, SimpleNamespace(dynamodb=None))
    asyncio.run(checker._table(aws, cast(Any, SimpleNamespace(dynamodb="orders")), None))
    assert checker.findings[-1].level == level and status in checker.findings[-1].text
    assert todo in checker.findings[-1].todo and bool(todo) == bool(checker.findings[-1].todo)


@pytest.mark.parametrize(
    ("summary", "strategy"),
    [
        ({"RecordDistributionStrategy": "AUTO"}, "AUTO"),
        ({"StreamModeDetails": {"StreamMode": "ON_DEMAND", "RecordDistributionStrategy": "AUTO"}}, "AUTO"),
        ({"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}, ""),
        ({}, ""),
    ],
)
def test_how_a_stream_places_records_is_found_wherever_the_answer_says_it(
    summary: dict[str, object], strategy: str
) -> None:
    assert distribution_of(summary) == strategy

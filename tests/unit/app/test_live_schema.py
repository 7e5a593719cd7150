"""Columns that may not be added: told, and tried again later, without holding up what is looked at meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dyncdc.app.assembly import live_schema as app_columns
from dyncdc.app.assembly.live_schema import LiveSchema
from dyncdc.errors import AccessDeniedError, FatalError, RetryableError


async def test_a_missing_grant_to_add_columns_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    async def refuse(*_: object) -> None:
        raise AccessDeniedError("adding columns to orders: ClickHouse answered 497", hint="GRANT ALTER")

    async def refresh(_: LiveSchema, table: str) -> None:
        looked.append(table)

    monkeypatch.setattr(app_columns, "run_add_columns", refuse)
    monkeypatch.setattr(LiveSchema, "refresh", refresh)
    spec: Any = SimpleNamespace(spec=SimpleNamespace(destination="orders", spill_column="_spill"))
    nothing: Any = None
    with pytest.raises(FatalError, match="answered 497") as caught:
        await LiveSchema(nothing, None, nothing, {"orders": spec}).add("orders", ())
    assert not isinstance(caught.value, RetryableError)
    assert (caught.value.hint, looked) == ("GRANT ALTER", ["orders"])

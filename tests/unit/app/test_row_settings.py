"""What a session notes of the settings that decide its rows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dyncdc.app.assembly.row_settings import _Noting, begin_of, of_member, row_settings
from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import TableConfig
from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.row_settings import RecordedSettings, RowSettings, SettingChange
from dyncdc.pipeline.recovery.gaps import closes
from dyncdc.schema.mapping import new_table_spec
from dyncdc.schema.table_spec import KeyAttribute
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

ITEMS = [{"id": {"S": "a"}, "address": {"M": {"city": {"S": "Bonn"}}}}]


def settings_with(key: bytes) -> RowSettings:
    config = TableConfig(
        dynamodb="orders", snapshot=SnapshotConfig(method="none"), mask=("address.city",), mask_key_env="KEY"
    ).with_mask_key(key)
    return row_settings(config, new_table_spec(config, (KeyAttribute("id", "S"),), ITEMS))


def test_of_the_key_of_mask_a_digest_is_noted_and_never_the_key() -> None:
    one, other = settings_with(b"0123456789abcdef"), settings_with(b"fedcba9876543210")
    assert one == settings_with(b"0123456789abcdef")
    assert one.mask_key != other.mask_key
    assert "0123456789abcdef" not in one.text()
    assert "Bonn" not in one.text()
    assert RowSettings.of_text(one.text()) == one


def test_a_member_compares_with_what_it_noted_itself_or_with_all_when_it_is_new() -> None:
    past = [
        RecordedSettings("u", RowSettings(), 1.0, member=0),
        RecordedSettings("u", RowSettings(deletes="ignore"), 2.0, member=1),
    ]
    assert of_member(past, 0) == past[:1]
    assert of_member(past, 1) == past[1:]
    assert of_member(past, 2) == past


@pytest.mark.parametrize("ahead", [-7200.0, 0.0, 7200.0])
def test_a_gap_of_settings_ends_by_the_streams_clock_and_begins_as_long_before_as_clickhouse_says(ahead: float) -> None:
    """Catches: a gap that no snapshot closes before the stream's clock has come to where ClickHouse's is."""
    now, covered_from = 1_000_000.0, 900_000.0
    saved: list[Gap] = []
    world, table = _world(saved, clickhouse_time=now + ahead, covered_from=covered_from)
    noting = _Noting(world, table, 1, Metrics(), TaskHealth())
    effect = SettingChange("exclude", "rows still hold a", "snapshot", since=now + ahead - 50.0)
    asyncio.run(noting._tell([effect], "stream", now))
    (gap,) = saved
    assert (gap.begin, gap.end) == (now - 50.0, now)


def test_a_gap_of_settings_is_not_closed_by_the_snapshot_that_was_begun_under_the_other_ones() -> None:
    saved: list[Gap] = []
    world, table = _world(saved, clickhouse_time=1_000.0, covered_from=1_000.9)
    noting = _Noting(world, table, 1, Metrics(), TaskHealth())
    asyncio.run(
        noting._tell([SettingChange("exclude", "rows still hold a", "snapshot", since=990.0)], "stream", 1_000.0)
    )
    begun = Snapshot("id", "orders", "complete", "uuid", covered_from=1_000.9, had_rows=True)
    assert not closes(begun, saved[0])
    assert closes(replace(begun, covered_from=1_001.0), saved[0])


def test_a_clock_that_was_put_back_leaves_a_gap_that_has_a_length() -> None:
    for since in (2_000.0, 0.0):
        assert begin_of(since, clickhouse_now=1_000.0, stream_now=1_000.0, end=1_001.0) == 1_000.0


def test_members_whose_clocks_differ_by_seconds_agree_on_the_begin_of_a_gap() -> None:
    begins = {
        begin_of(900.0, clickhouse_now=1_000.0 + drift, stream_now=1_000.0, end=1_000.0) for drift in (-9.0, 0.0, 9.0)
    }
    assert begins == {900.0}


def _world(saved: list[Gap], *, clickhouse_time: float, covered_from: float) -> tuple[Any, Any]:
    """What a start looks at, with a table that was loaded."""

    class ClickHouseOf:
        async def fetch(self, query: str, **_: Any) -> list[Any]:
            if "FROM dyncdc_snapshots" in query:
                values = ("orders", "complete", "uuid", "", 0, 0, 0, round(covered_from * 1e6), 1, "", 1, 0)
                return [("id", values)]
            return [(round(clickhouse_time * 1e6),)] if "now64" in query else []

        async def execute(self, statement: str, **_: Any) -> None:
            rows = [json.loads(line) for line in statement.partition("JSONEachRow ")[2].splitlines()]
            times = [datetime.fromisoformat(row[end] + "+00:00").timestamp() for row in rows for end in ("from", "to")]
            saved.extend(
                Gap("orders", "stream", "", begin, end) for begin, end in zip(times[::2], times[1::2], strict=True)
            )

    async def startup_retry(operation: Any) -> Any:
        return await operation()

    config = TableConfig(dynamodb="orders", snapshot=SnapshotConfig(method="scan"))
    spec = new_table_spec(config, (KeyAttribute("id", "S"),), ITEMS)
    table = SimpleNamespace(config=config, spec=spec, uuid="uuid")
    world = SimpleNamespace(clickhouse=ClickHouseOf(), config=SimpleNamespace(pipeline="p"), retry=startup_retry)
    return world, table

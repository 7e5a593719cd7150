"""``dyncdc_watermarks`` and open dead letters, against a real ClickHouse."""

from __future__ import annotations

from typing import Any

import pytest

from dyncdc.model.watermarks import Watermark
from dyncdc.pipeline.checkpoint.watermarks import least
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.progress.watermarks import ClickHouseWatermarks
from dyncdc.sinks.state.rows import append_rows
from dyncdc.sinks.state.tables import DEAD_LETTERS, WATERMARKS, own_statements


async def test_the_newest_watermark_of_each_member_counts_though_it_says_again_what_was_said(
    clickhouse: ClickHouse,
) -> None:
    for statement in own_statements():
        await clickhouse.execute(statement)
    store = ClickHouseWatermarks(clickhouse, "p")
    assert await store.load() == []
    for until in (None, 1_700_000_000.123456, None, 1_700_000_000.123456):
        await store.save([Watermark("orders", 0, 2, until)])
        await store.save([Watermark("orders", 1, 2, 1_700_000_001.0)])
        assert least(await store.load()) == {"orders": until}
    await ClickHouseWatermarks(clickhouse, "another").save([Watermark("orders", 0, 1, 5.0)])
    await clickhouse.execute(f"OPTIMIZE TABLE {WATERMARKS} FINAL")
    assert least(await store.load()) == {"orders": 1_700_000_000.123456}


async def test_a_letter_is_open_until_someone_has_dealt_with_it(clickhouse: ClickHouse) -> None:
    for statement in own_statements():
        await clickhouse.execute(statement)
    store = ClickHouseWatermarks(clickhouse, "p")
    dead_letter = {"id": "1", "pipeline": "p", "table": "orders", "source": "stream"}
    await append_rows(clickhouse, DEAD_LETTERS, [dead_letter, {**dead_letter, "id": "2"}], "")
    assert await store.open_dead_letters() == {("orders", "stream")}
    for id_ in "12":
        await append_rows(
            clickhouse, DEAD_LETTERS, [{**dead_letter, "id": id_, "replayed_at": "2026-01-01 00:00:00"}], ""
        )
    assert await store.open_dead_letters() == set()


async def test_letters_are_read_again_only_when_their_table_has_changed(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a million closed dead letters that are grouped every five seconds forever."""
    for statement in own_statements():
        await clickhouse.execute(statement)
    dead_letters, watermarks = ClickHouseDeadLetters(clickhouse, "p"), ClickHouseWatermarks(clickhouse, "p")
    asked: list[str] = []
    fetch = ClickHouse.fetch

    async def counted(self: ClickHouse, sql: str, **options: Any) -> Any:
        asked.append(sql)
        return await fetch(self, sql, **options)

    monkeypatch.setattr(ClickHouse, "fetch", counted)
    dead_letter = {"pipeline": "p", "table": "orders", "source": "stream", "reason": "r", "column": ""}
    for number in range(3):
        await append_rows(clickhouse, DEAD_LETTERS, [{**dead_letter, "id": str(number)}], "")
        for _ in range(3):
            assert await watermarks.open_dead_letters() == {("orders", "stream")}
            assert [found[:4] for found in await dead_letters.count_by_reason()] == [("orders", "r", "", number + 1)]
    assert len([sql for sql in asked if f"FROM {DEAD_LETTERS}" in sql]) == 2 * 3
    await dead_letters.close(["0", "1", "2"])
    assert await watermarks.open_dead_letters() == set()
    assert await dead_letters.count_by_reason() == []

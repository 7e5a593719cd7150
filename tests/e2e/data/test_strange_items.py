"""Tables of the strangest items that DynamoDB allows are replicated and verify as equal, however maps are mapped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.data.strange_items import KEYS, LONG_NAMES, strange_items
from support.processes.harness import running
from support.servers.place import Place

from dyncdc.config import load_config
from dyncdc.operations.verify import verify_table

SCAN = {"method": "scan", "settle_seconds": 0.5, "margin_seconds": 1, "segments": 1}
MODES: dict[str, dict[str, Any]] = {
    "flat": {"nested": "flatten", "flatten_depth": 32, "max_columns": 400},
    "typed": {"nested": "typed", "max_columns": 150},
}


async def verdict(config: Path, table: str) -> Any:
    return await verify_table(load_config(config), table, pauses_seconds=(0.05,))


@pytest.mark.timeout(180)
def test_the_strangest_items_are_equal_by_snapshot_and_by_stream(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    stream = place.make_stream()
    tables = {mode: place.make_table(mode, KEYS, stream) for mode in MODES}
    for table in tables.values():
        place.aws.put_all(table, strange_items())
    config = place.configure([place.entry(table, snapshot=SCAN, **MODES[mode]) for mode, table in tables.items()])
    with running(place.daemon(config)) as daemon:
        for table in tables.values():
            place.aws.put_all(table, strange_items(seed=2)[::2])
        assert daemon.terminate() == 0, daemon.tail()
    ended = place.command("run", "--once", "-c", str(config))
    assert ended.code == 0, ended.complaints
    assert place.clickhouse.number("SELECT count() FROM dyncdc_dead_letters") == 0
    for mode, table in tables.items():
        result = asyncio.run(verdict(config, table))
        assert result.equal, (mode, result)
        columns = place.clickhouse.rows(
            f"SELECT name, comment FROM system.columns WHERE database = currentDatabase() AND table = '{mode}'"
        )
        assert len(columns) == MODES[mode]["max_columns"] + 3
        assert any(LONG_NAMES[0] in str(comment) for _, comment in columns)

"""ClickHouse's disk is full, then read-only: rows wait, none is blamed, and all are there once it can be written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.servers import disks
from support.servers.aws import Aws
from support.servers.place import Place
from support.stage.stage import Stage, until

from dyncdc.emulator.clickhouse import LocalClickHouse

from .test_destinations import SCAN, delete, item, said

DISK_MIB = 256


@pytest.fixture
async def small(stage: Stage, aws: Aws, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage over a ClickHouse of its own, on a disk of its own."""
    with disks.small_disk(tmp_path / "disk", DISK_MIB) as disk:
        async with LocalClickHouse(disk / "clickhouse") as server:
            place = Place(server.database, tmp_path, aws, server)
            place.name = server.database
            yield Stage(place)
            place.leave()


async def test_c9_what_a_full_and_then_a_read_only_disk_refuses_arrives_when_it_is_mended(small: Stage) -> None:
    """Catches: codes of a disk taken for those of rows, which end as dead letters; a process that ends; an ALTER."""
    small.options["run"] = {"stuck_after_seconds": 2}
    table = small.table(items=[item(f"k{number}", "first") for number in range(10)], snapshot=SCAN)
    directory = small.place.server.directory
    async with small.living() as session:
        await until(lambda: small.count() == 10, 20, "it is loaded")
        with disks.full(directory.parent):
            for number in range(3, 10):
                small.place.aws.put(table, item(f"k{number}", "full" + " " * 300_000) | {"grown": {"S": "x"}})
            await said(small, "NOT_ENOUGH_SPACE")
            definitions = list((directory / "data").rglob("*.sql"))
            assert definitions and all(file.stat().st_size for file in definitions)
        with disks.read_only(directory / "data"):
            small.place.aws.put(table, item("k1", "read-only"))
            delete(small, table, "k2")
            await said(small, "STD_EXCEPTION")
        arrived = [["k0", "first"], ["k1", "read-only"], *([f"k{number}", "full"] for number in range(3, 10))]
        await until(lambda: small.rows(columns="id, trim(text)") == arrived, 20, "it goes on by itself")
        assert small.clickhouse.number("SELECT countIf(_spill LIKE '%grown%') FROM orders FINAL") == 7
        assert not session.done()
    assert small.dead_letters() == [] and small.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 0

"""No ALTER while a disk is full: ClickHouse would take it, and could not start any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import disks

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.tables.disk_space import NoSpaceError
from dyncdc.sinks.tables.evolution import run_add_columns

TABLE = "CREATE TABLE t (pk String, _spill String) ENGINE = MergeTree ORDER BY pk"
COLUMN = ColumnSpec("grown", "Nullable(String)", ("grown",), ("S",))
DISK_MIB = 160


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", DISK_MIB) as disk:
        yield disk


async def test_on_a_full_disk_no_column_is_added_and_clickhouse_starts_again(small_disk: Path) -> None:
    async with LocalClickHouse(small_disk / "clickhouse") as server:
        clickhouse = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
        await clickhouse.execute(TABLE)
        await run_add_columns(clickhouse, "t", [COLUMN], "_spill")
        other = ColumnSpec("later", "Nullable(String)", ("later",), ("S",))
        sink, block = ClickHouseSink(clickhouse), Block("t", ("pk",), [b'"%b"' % (b"x" * 300_000)], 1)
        with disks.full(small_disk):
            with pytest.raises(NoSpaceError, match="disk default has less than 8 MiB free"):
                await run_add_columns(clickhouse, "t", [other], "_spill")
            with pytest.raises(RetryableError, match=r"NOT_ENOUGH_SPACE|CANNOT_WRITE"):
                await sink.insert(block, "a")
            definitions = list((small_disk / "clickhouse" / "data").rglob("*.sql"))
            assert definitions and all(file.stat().st_size for file in definitions)
        await server.stop()
        await server.start()
        clickhouse._full_at -= 3_600.0
        await run_add_columns(clickhouse, "t", [other], "_spill")
        await sink.insert(block, "a")
        assert await clickhouse.fetch("SELECT count() FROM t") == [(1,)]
        names = await clickhouse.fetch("SELECT name FROM system.columns WHERE table = 't' ORDER BY position")
        assert names == [("pk",), ("_spill",), ("grown",), ("later",)]
        await clickhouse.close()


async def test_after_an_insert_was_refused_for_lack_of_space_no_column_is_added_for_a_while(
    clickhouse: ClickHouse,
) -> None:
    await clickhouse.execute(TABLE)
    await run_add_columns(clickhouse, "t", [COLUMN], "_spill")
    await clickhouse.execute("ALTER TABLE t MODIFY SETTING min_free_disk_bytes_to_perform_insert = 9000000000000000")
    with pytest.raises(RetryableError, match="243"):
        await ClickHouseSink(clickhouse).insert(Block("t", ("pk",), [b'"a"'], 1), "a")
    with pytest.raises(NoSpaceError, match="has just refused a statement"):
        await run_add_columns(clickhouse, "t", [COLUMN], "_spill")
    clickhouse._full_at -= 3_600.0
    await run_add_columns(clickhouse, "t", [COLUMN], "_spill")


async def test_an_empty_definition_is_named_when_clickhouse_does_not_start(tmp_path: Path) -> None:
    server = LocalClickHouse(tmp_path)
    await server.start()
    clickhouse = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
    await clickhouse.execute(TABLE)
    await clickhouse.close()
    await server.stop()
    (definition,) = (tmp_path / "data").rglob("t.sql")
    definition.write_text("")
    with pytest.raises(FatalError, match=r"a table's definition is empty \(\S+t\.sql\)") as caught:
        await server.start()
    assert "move the file away" in caught.value.hint
    definition.unlink()
    await server.start()
    await server.stop()

"""Tables that users have beside ours: views, expressions, partitions. One that is broken stops no other.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio

import pytest
from support.stage.stage import Stage, change, now, until

from dyncdc.pipeline.writing import isolation, statements

COLUMNS = {"id": "String", "value": "Nullable(Int64)"}


def item(number: int) -> dict[str, dict[str, str]]:
    return {"id": {"S": f"i{number}"}, "value": {"N": str(number)}}


async def test_c4_a_view_whose_target_is_gone_holds_its_table_and_neither_the_process_nor_another_table(
    stage: Stage,
) -> None:
    """Catches: UNKNOWN_TABLE taken for the destination's own: exit 1 in each session, and the other table stops too."""
    sick, well = (stage.table(label, columns=COLUMNS, clickhouse=label) for label in ("sick", "well"))
    async with stage.living(run={"stuck_after_seconds": 1.0}) as session:
        await until(lambda: {"sick_current", "well_current"} <= set(stage.clickhouse.tables()), 15, "the tables")
        stage.clickhouse.run("CREATE TABLE sums (id String) ENGINE = ReplacingMergeTree ORDER BY id")
        stage.clickhouse.run("CREATE MATERIALIZED VIEW sick_mv TO sums AS SELECT id FROM sick")
        stage.clickhouse.run("DROP TABLE sums SYNC")
        for number in range(1, 4):
            stage.put(change(sick, "INSERT", now(), item(number)), change(well, "INSERT", now(), item(number)))
        await until(lambda: stage.count("well") == 3, 15, "the other table goes on")
        await asyncio.sleep(1.5)
        status, page = await stage.page("/healthz")
        assert status == 503 and "insert:sick" in page and "UNKNOWN_TABLE" in page and ".sums" in page
        assert not session.done() and stage.count("sick") == 0
        stage.clickhouse.run("CREATE TABLE sums (id String) ENGINE = ReplacingMergeTree ORDER BY id")
        await until(lambda: stage.count("sick") == 3, 20, "what waited arrives")
    assert stage.dead_letters() == []
    assert stage.clickhouse.number("SELECT uniqExact(id) FROM sums") == 3


async def test_c4_two_refused_tables_with_more_than_the_memory_holds_stop_no_other_stream(stage: Stage) -> None:
    """Catches: a share of the memory for each refused table, so that two have all of it."""
    options = {"columns": COLUMNS, "evolve": "spill"}
    stage.stream(2)
    sick, ill = (stage.table(label, clickhouse=label, **options) for label in ("sick", "ill"))
    other = f"{stage.place.name}-other"
    stage.place.streams.append(other)
    well = stage.table("well", clickhouse="well", stream=stage.place.aws.make_stream(other, 1), **options)
    stage.place.aws.send_changes(well, stage.entries[-1]["stream"])
    session_options = {"limits": {"memory_bytes": 16 * 2**20}, "run": {"stuck_after_seconds": 1.0}}
    async with stage.living(**session_options) as session:
        await until(lambda: {"sick_current", "ill_current", "well_current"} <= stage.clickhouse.tables(), 15, "tables")
        for label in ("sick", "ill"):
            stage.clickhouse.run(f"CREATE TABLE {label}_sums (id String) ENGINE = ReplacingMergeTree ORDER BY id")
            stage.clickhouse.run(f"CREATE MATERIALIZED VIEW {label}_mv TO {label}_sums AS SELECT id FROM {label}")
            stage.clickhouse.run(f"DROP TABLE {label}_sums SYNC")
        for table, slot in ((sick, 0.1), (ill, 0.9)):
            for first in range(0, 160, 40):
                large = [item(number) | {"text": {"S": "x" * 100_000}} for number in range(first, first + 40)]
                stage.put_all([change(table, "INSERT", now(), each) for each in large], slot=slot)
        await held_back(stage)
        for number in range(3):
            stage.place.aws.put(well, item(number))
            await until(lambda least=number + 1: stage.count("well") == least, 15, "the third goes on")
        assert not session.done() and stage.count("sick") == stage.count("ill") == 0
        for label in ("sick", "ill"):
            stage.clickhouse.run(f"CREATE TABLE {label}_sums (id String) ENGINE = ReplacingMergeTree ORDER BY id")
        await until(lambda: stage.count("sick") == stage.count("ill") == 160, 30, "what waited arrives")
    assert stage.dead_letters() == []


async def held_back(stage: Stage) -> None:
    """Wait until health says that what refused tables are read from is not read on."""
    async with asyncio.timeout(25):
        while "is not read on" not in (await stage.page("/healthz"))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_c10_a_row_that_an_expression_of_the_table_chokes_on_is_the_only_letter(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a code that no table knows retried as a whole forever, and nothing of the batch arrives."""
    monkeypatch.setattr(statements, "DIVIDE_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(isolation, "ROUND_SECONDS", 0.1)
    table = stage.table(columns=COLUMNS)
    async with stage.living():
        await until(lambda: "orders_current" in stage.clickhouse.tables(), 15, "the table")
        stage.clickhouse.run("ALTER TABLE orders ADD COLUMN m Int64 MATERIALIZED modulo(100, ifNull(value, 1))")
        stage.put(*(change(table, "INSERT", now(), item(number)) for number in (1, 2, 0, 3)))
        await until(lambda: stage.count() == 3, 20, "the others arrive")
        await until(lambda: len(stage.dead_letters()) == 1, 20, "the dead letter")
    (dead_letter,) = stage.dead_letters()
    assert dead_letter["reason"] == "refused_by_clickhouse" and "153" in str(dead_letter["error"])
    replay = ("dead-letters", "replay", "-c", stage.configure())
    refused = stage.place.command(*replay)
    assert refused.code == 1 and "153" in refused.out + refused.err, refused
    stage.clickhouse.run("ALTER TABLE orders DROP COLUMN m")
    assert stage.place.command(*replay).code == 0 and stage.count() == 4


def test_c10_more_partitions_than_a_statement_may_have_arrive_at_once(stage: Stage) -> None:
    """Catches: 252 retried forever, with a hint that makes it worse."""
    stage.clickhouse.run(
        "CREATE TABLE monthly (pk String, sk String, _spill String, _version Int64, _deleted UInt8)"
        " ENGINE = ReplacingMergeTree(_version, _deleted) PARTITION BY substring(sk, 1, 7) ORDER BY (pk, sk)"
    )
    months = [f"{2000 + number // 12}-{number % 12 + 1:02}-01" for number in range(150)]
    table = stage.table("monthly", {"pk": "S", "sk": "S"}, clickhouse="monthly")
    items = [{"pk": {"S": "p"}, "sk": {"S": month}} for month in months]
    stage.put_all([change(table, "INSERT", now(), found, keys=("pk", "sk")) for found in items])
    stage.once()
    assert stage.count("monthly") == 150

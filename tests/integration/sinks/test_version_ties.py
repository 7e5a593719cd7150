"""Which rows meet an equal version of their key, asked of a real ClickHouse."""

from __future__ import annotations

import json

from dyncdc.decode.decoder import block_of
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.model.blocks import Block
from dyncdc.operations.dead_letters.version_ties import tied_rows
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink

HOSTILE = "it's `odd` \\ \"\n😀"


def plan_of(version_type: str = "Int64") -> TablePlan:
    keys = (KeyAttribute("pk", "S"), KeyAttribute("sk", "N"))
    columns = (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("a", "Nullable(Int64)", ("a",), ("N",)),
        ColumnSpec("sort key", "Decimal(38, 2)", ("sk",), ("N",), key=True),
    )
    return compile_table(TableSpec("t", "my table", keys, columns, version_type=version_type))


def row(plan: TablePlan, pk: str, sk: str, version: int) -> Block:
    item = {"pk": {"S": pk}, "sk": {"N": sk}, "a": {"N": "1"}}
    return block_of(plan, [plan.upsert(json.loads(json.dumps(item)), version)])


async def test_only_an_equal_version_of_the_whole_key_is_a_tie(clickhouse: ClickHouse) -> None:
    plan = plan_of()
    await clickhouse.execute(create_table(plan.spec))
    for number, (pk, sk, version) in enumerate([("a", "1", 5), ("a", "2.5", 6), (HOSTILE, "-3", 2**62)]):
        await ClickHouseSink(clickhouse).insert(row(plan, pk, sk, version), str(number))
    asked = [
        row(plan, "a", "1", 5),
        row(plan, "a", "1", 4),
        row(plan, "a", "2.5", 5),
        row(plan, "a", "2.50", 6),
        row(plan, HOSTILE, "-3", 2**62),
        row(plan, HOSTILE, "3", 2**62),
    ]
    assert await tied_rows(clickhouse, plan.spec, asked) == [0, 3, 4]
    assert await tied_rows(clickhouse, plan.spec, []) == []


async def test_rows_that_meet_each_other_are_ties_too(clickhouse: ClickHouse) -> None:
    plan = plan_of("UInt64")
    await clickhouse.execute(create_table(plan.spec))
    asked = [row(plan, "a", "1", 5), row(plan, "b", "1", 5), row(plan, "a", "1", 5), row(plan, "a", "1", 6)]
    assert await tied_rows(clickhouse, plan.spec, asked) == [0, 2]


async def test_long_keys_of_a_whole_page_fit_into_one_question(clickhouse: ClickHouse) -> None:
    plan = plan_of()
    await clickhouse.execute(create_table(plan.spec))
    asked = [row(plan, str(number) + "'" * 2_000, "1", 5) for number in range(50)]
    await ClickHouseSink(clickhouse).insert(asked[7], "a")
    assert await tied_rows(clickhouse, plan.spec, asked) == [7]

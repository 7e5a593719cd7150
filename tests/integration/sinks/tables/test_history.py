"""The history's table in a real ClickHouse: what we create is safe by our own rules, and unsafe ones are refused."""

from __future__ import annotations

import pytest

from dyncdc.decode.table_plan import compile_table
from dyncdc.schema.history_columns import HISTORY_COLUMNS
from dyncdc.schema.sql.history import create_history, history_columns, history_incompatibilities
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.tables.introspection import read_table

MANY = ", ".join(f"{name} {kind}" for name, kind in HISTORY_COLUMNS.items())


def spec_of(hash_key: str = "id") -> TableSpec:
    columns = (
        ColumnSpec("sk", "Int64", ("sk",), ("N",), key=True),
        ColumnSpec(hash_key, "String", (hash_key,), ("S",), key=True),
    )
    return TableSpec(
        "src", "orders", (KeyAttribute(hash_key, "S"), KeyAttribute("sk", "N")), columns, history="orders_history"
    )


async def reasons(clickhouse: ClickHouse, spec: TableSpec) -> list[str]:
    found = await read_table(clickhouse, spec.history)
    assert found is not None
    return [refusal.reason for refusal in history_incompatibilities(found, spec)]


@pytest.mark.parametrize("hash_key", ["id", "event_id", "version"])
async def test_the_history_we_create_is_safe_whatever_the_key_is_called(clickhouse: ClickHouse, hash_key: str) -> None:
    spec = spec_of(hash_key)
    await clickhouse.execute(create_history(spec))
    assert await reasons(clickhouse, spec) == []
    history = compile_table(spec).history
    assert history is not None
    assert history.columns == tuple(history_columns(spec))
    assert history.columns[:2] == (hash_key, "sk")
    assert len(set(history.columns)) == 2 + len(HISTORY_COLUMNS)


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("MergeTree ORDER BY (id, sk, version, event_id)", "has the engine MergeTree"),
        ("ReplacingMergeTree ORDER BY (id, sk, version)", "has ORDER BY (id, sk, version)"),
        ("ReplacingMergeTree ORDER BY (id, sk, version, event_id, shard)", "has ORDER BY"),
        ("ReplacingMergeTree ORDER BY (id, sk, version, event_id) PARTITION BY shard", "has PARTITION BY shard"),
        ("ReplacingMergeTree(version, gone) ORDER BY (id, sk, version, event_id)", "hides rows by gone"),
    ],
)
async def test_a_history_that_would_lose_or_repeat_changes_is_refused(
    clickhouse: ClickHouse, engine: str, reason: str
) -> None:
    spec = spec_of()
    await clickhouse.execute(f"CREATE TABLE orders_history (id String, sk Int64, {MANY}, gone UInt8) ENGINE = {engine}")
    (found,) = await reasons(clickhouse, spec)
    assert reason in found


async def test_a_history_may_be_partitioned_by_time_and_have_columns_of_its_own(clickhouse: ClickHouse) -> None:
    spec = spec_of()
    await clickhouse.execute(
        f"CREATE TABLE orders_history (id String, sk Int64, {MANY}, day Date MATERIALIZED toDate(time))"
        " ENGINE = ReplacingMergeTree ORDER BY (id, sk, version, event_id) PARTITION BY toYYYYMM(time)"
    )
    assert await reasons(clickhouse, spec) == []


async def test_missing_and_narrower_columns_are_named(clickhouse: ClickHouse) -> None:
    spec = spec_of()
    less = MANY.replace("sequence_number UInt256", "sequence_number UInt64").replace("shard String, ", "")
    await clickhouse.execute(
        f"CREATE TABLE orders_history (id String, sk Int64, {less})"
        " ENGINE = ReplacingMergeTree ORDER BY (id, sk, version, event_id)"
    )
    assert await reasons(clickhouse, spec) == [
        "its history orders_history has sequence_number UInt64",
        "its history orders_history has no column shard",
    ]

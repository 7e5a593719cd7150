"""Cleaning up tombstones in a real ClickHouse: nothing deleted comes back at any point, and nothing else goes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dyncdc.errors import RetryableError
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.tables import own_statements
from dyncdc.sinks.tables.orphan_rows import full_version
from dyncdc.sinks.tables.tombstones import CleanedTable, ClickHouseTombstones, Slice, cleaned_before, count_tombstones

SPEC = TableSpec(
    "src",
    "orders",
    (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")),
    (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("sk", "Int64", ("sk",), ("N",), key=True),
        ColumnSpec("v", "Nullable(String)", ("v",), ("S",)),
    ),
)
TOKENS = map(str, itertools.count())
Row = tuple[int, int, int]
"""Key, version, deleted."""


async def make(clickhouse: ClickHouse, *specs: TableSpec) -> ClickHouseTombstones:
    for statement in (*own_statements(), *map(create_table, specs)):
        await clickhouse.execute(statement)
    return ClickHouseTombstones(clickhouse, "p", {specs[0].source_table: CleanedTable(specs[0], "uuid")})


async def insert(clickhouse: ClickHouse, spec: TableSpec, rows: Sequence[Row]) -> None:
    """One part, whatever happened before."""
    values = ", ".join(
        f"('k', {key}, 'x', CAST('{full_version(spec, version)}', '{spec.version_type}'), {deleted})"
        for key, version, deleted in rows
    )
    await clickhouse.execute(
        f"INSERT INTO {spec.destination} (pk, sk, v, _version, _deleted) VALUES {values}",
        settings={"insert_deduplication_token": next(TOKENS)},
    )


async def alive(clickhouse: ClickHouse, spec: TableSpec) -> list[tuple[int, int]]:
    rows = await clickhouse.fetch(
        f"SELECT sk, toUInt64(_version / {full_version(spec, 1)}) FROM {spec.destination} FINAL"
        " WHERE _deleted = 0 ORDER BY ALL"
    )
    return [(int(key), int(version)) for key, version in rows]


@pytest.mark.parametrize("version_type", ["Int64", "UInt256"])
async def test_o6_a_table_that_is_cleaned_up_shows_what_another_one_shows(
    clickhouse: ClickHouse, version_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes again that is not older than the limit. Catches: single tombstones deleted, newer rows deleted."""
    monkeypatch.setattr("dyncdc.sinks.tables.tombstones.SLICE_KEYS", 40)
    cleaned = replace(SPEC, version_type=version_type)
    other = replace(cleaned, destination="others")
    tombstones = await make(clickhouse, cleaned, other)
    rng = random.Random(6)
    versions = itertools.count(1)
    for round_ in range(3):
        rows = [(rng.randrange(40), next(versions), int(rng.random() < 0.6)) for _ in range(60)]
        limit = 60 * (round_ + 1) - rng.randrange(40)
        for batch in (rows[:25], rows[25:], rng.sample(rows, 20)):
            for spec in (cleaned, other):
                await insert(clickhouse, spec, batch)
        keys = await tombstones.clean("src", limit)
        assert keys > 0
        assert await alive(clickhouse, cleaned) == await alive(clickhouse, other)
        for spec in (cleaned, other):  # what may be read again, in any order
            await insert(clickhouse, spec, [row for row in reversed(rows) if row[1] >= limit])
        assert await alive(clickhouse, cleaned) == await alive(clickhouse, other)
        assert await tombstones.cleaned_before("src") == limit
    assert await count_tombstones(clickhouse, cleaned) < await count_tombstones(clickhouse, other)


async def test_o6_a_limit_beyond_what_is_read_again_brings_deleted_items_back(clickhouse: ClickHouse) -> None:
    """Why there is a limit, as a planted mistake: the same rows and the same deletes, with the present as limit."""
    tombstones = await make(clickhouse, SPEC)
    rows = [(1, 10, 0), (1, 20, 1)]
    await insert(clickhouse, SPEC, rows)
    await tombstones.clean("src", 10)
    await insert(clickhouse, SPEC, rows[:1])
    assert await alive(clickhouse, SPEC) == []
    await tombstones.clean("src", 21)
    await insert(clickhouse, SPEC, rows[:1])
    assert await alive(clickhouse, SPEC) == [(1, 10)]


async def test_o6_nothing_comes_back_between_the_two_deletes_or_without_the_first(clickhouse: ClickHouse) -> None:
    """Catches: tombstones that go before, or with, what they hide: a restart in between would bring that back."""
    await make(clickhouse, SPEC)
    for rows in ([(1, 10, 0), (2, 11, 0)], [(1, 12, 0)], [(1, 20, 1)], [(2, 30, 1), (3, 5, 1)]):
        await insert(clickhouse, SPEC, rows)
    hidden, alone = Slice(SPEC, 25).statements()
    await clickhouse.execute(alone)  # as if the first had not reached every part
    assert await alive(clickhouse, SPEC) == []
    assert (await clickhouse.fetch("SELECT count() FROM orders WHERE sk = 1"))[0][0] == 3
    await clickhouse.execute(hidden)
    assert await alive(clickhouse, SPEC) == []
    assert (await clickhouse.fetch("SELECT groupArray(_version) FROM orders WHERE sk = 1"))[0][0] == [20]
    await clickhouse.execute(alone)
    assert await clickhouse.fetch("SELECT sk, _version FROM orders ORDER BY ALL") == [(2, 11), (2, 30)]


async def test_o6_an_item_that_lives_by_a_tie_is_not_deleted(clickhouse: ClickHouse) -> None:
    """Catches: argMax over the version alone, which takes any row of equal versions. Readers see the last inserted."""
    tombstones = await make(clickhouse, SPEC)
    await insert(clickhouse, SPEC, [(key, 10, 1) for key in range(50)])
    await insert(clickhouse, SPEC, [(key, 10, 0) for key in range(50)])
    assert await tombstones.clean("src", 100) == 0
    assert await alive(clickhouse, SPEC) == [(key, 10) for key in range(50)]


async def test_the_limit_is_durable_and_never_goes_back(clickhouse: ClickHouse) -> None:
    tombstones = await make(clickhouse, SPEC)
    assert await cleaned_before(clickhouse, "uuid") == 0
    await tombstones.promise("src", 50)
    await tombstones.promise("src", 40)
    await clickhouse.execute("OPTIMIZE TABLE dyncdc_tombstones FINAL")
    assert await cleaned_before(clickhouse, "uuid") == await tombstones.cleaned_before("src") == 50
    assert await cleaned_before(clickhouse, "another table of that name") == 0


async def test_a_mutation_that_is_under_way_is_waited_for(clickhouse: ClickHouse) -> None:
    """Catches: an hourly delete piling up behind one that takes longer."""
    tombstones = await make(clickhouse, SPEC)
    await insert(clickhouse, SPEC, [(1, 10, 1)])
    await clickhouse.execute("SYSTEM STOP MERGES orders")
    await clickhouse.execute("ALTER TABLE orders UPDATE v = 'y' WHERE 1", settings={"mutations_sync": 0})
    with pytest.raises(RetryableError, match="another mutation"):
        await tombstones.clean("src", 100)
    await clickhouse.execute("SYSTEM START MERGES orders")

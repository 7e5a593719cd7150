"""Orphan rows in a real ClickHouse: what a snapshot does not hold is deleted, by ranges of keys, and nothing else."""

from __future__ import annotations

import pytest

from dyncdc.errors import RetryableError
from dyncdc.model.shards import SourceId
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.tables import DEAD_LETTERS, own_statements
from dyncdc.sinks.tables.orphan_rows import ClickHouseOrphanRows

S = 1_700_000_000_000_000
TABLE = "src.orders"


def spec_of(**options: object) -> TableSpec:
    columns = (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("sk", "Decimal(38, 3)", ("sk",), ("N",), key=True),
        ColumnSpec("v", "Nullable(String)", ("v",), ("S",)),
    )
    keys = (KeyAttribute("pk", "S"), KeyAttribute("sk", "N"))
    return TableSpec(TABLE, "orders", keys, columns, **options)  # type: ignore[arg-type]


Row = tuple[str, str, int, int]
"""pk, sk, version, deleted."""


class Shop:
    """A destination, and the sweep over it."""

    def __init__(self, clickhouse: ClickHouse, spec: TableSpec, *, range_rows: int) -> None:
        self.clickhouse = clickhouse
        self.spec = spec
        self.orphan_rows = ClickHouseOrphanRows(clickhouse, "p", {TABLE: spec}, range_rows=range_rows)
        self.steps = 0

    async def insert(self, *rows: Row) -> None:
        values = ", ".join(
            f"({quote_text(pk)}, {quote_text(sk)}, 'x', CAST('{version}', '{self.spec.version_type}'), {deleted})"
            for pk, sk, version, deleted in rows
        )
        await self.clickhouse.execute(
            f"INSERT INTO orders (pk, sk, v, _version, _deleted) VALUES {values}",
            settings={"insert_deduplicate": 0},
        )

    async def sweep(self, version: int = S) -> int:
        rows, after = 0, ()
        while True:
            swept = await self.orphan_rows.sweep(TABLE, version, after)
            rows += swept.rows
            self.steps += 1
            if swept.upto is None:
                return rows
            after = swept.upto

    async def alive(self) -> list[tuple[str, str]]:
        found = await self.clickhouse.fetch("SELECT pk, toString(sk) FROM orders FINAL WHERE _deleted = 0 ORDER BY ALL")
        return [(pk, sk) for pk, sk in found]


async def shop_of(clickhouse: ClickHouse, *, range_rows: int = 3, **options: object) -> Shop:
    spec = spec_of(**options)
    for statement in (create_table(spec), *own_statements()):
        await clickhouse.execute(statement)
    return Shop(clickhouse, spec, range_rows=range_rows)


async def test_s5_keys_older_than_the_snapshot_are_deleted_and_those_in_it_or_newer_stay(
    clickhouse: ClickHouse,
) -> None:
    shop = await shop_of(clickhouse)
    await shop.insert(("ghost", "1", S - 10, 0), ("in it", "1", S - 10, 0), ("changed", "1", S - 10, 0))
    await shop.insert(("in it", "1", S, 0), ("new", "1", S + 5, 0), ("changed", "1", S, 0), ("changed", "1", S + 1, 0))
    await shop.insert(("gone", "1", S - 10, 0), ("gone", "1", S - 5, 1))
    assert await shop.sweep() == 1
    assert await shop.alive() == [("changed", "1"), ("in it", "1"), ("new", "1")]
    stamps = await clickhouse.fetch("SELECT pk, max(_version) FROM orders WHERE _deleted = 1 GROUP BY pk ORDER BY pk")
    assert stamps == [("ghost", S - 1), ("gone", S - 5)]


async def test_s5_a_sweep_in_ranges_sees_every_key_once_whatever_bytes_it_holds(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse, range_rows=3)
    keys = [("a'\\`\n", "1"), ("ä😀", "-1.5"), ("", "0"), ("", "0.001"), ("z", "12345678901234567890123456789012345")]
    keys += [(f"k{number % 5}", str(number)) for number in range(40)]
    for version in (S - 300, S - 200):
        await shop.insert(*[(pk, sk, version, 0) for pk, sk in keys])
    await shop.insert(*[(pk, sk, S, 0) for pk, sk in keys[::2]])
    await clickhouse.execute("INSERT INTO orders (pk, sk, _version) SELECT unhex('FF00FE'), 7, 5")
    assert await shop.sweep() == len(keys[1::2]) + 1
    assert shop.steps > 10
    assert len(await shop.alive()) == len(keys[::2])


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        (
            (
                "CREATE TABLE agg (pk String) ENGINE = MergeTree ORDER BY pk",
                "CREATE MATERIALIZED VIEW mv TO agg AS SELECT pk FROM orders",
                "DROP TABLE agg SYNC",
            ),
            "DROP TABLE mv SYNC",
        ),
        (
            ("ALTER TABLE orders ADD CONSTRAINT whole CHECK v != '' AND v IS NOT NULL",),
            "ALTER TABLE orders DROP CONSTRAINT whole",
        ),
    ],
    ids=["a view without its target", "a constraint"],
)
async def test_a_sweep_that_the_table_refuses_is_waited_for_and_ends_nothing(
    clickhouse: ClickHouse, breaks: tuple[str, ...], mends: str
) -> None:
    shop = await shop_of(clickhouse)
    await shop.insert(("ghost", "1", S - 10, 0), ("in it", "1", S, 0))
    for statement in breaks:
        await clickhouse.execute(statement)
    with pytest.raises(RetryableError, match="marking 1 items of orders as deleted") as caught:
        await shop.sweep()
    assert caught.value.hint == "look at the views and constraints of orders"
    await clickhouse.execute(mends)
    assert await shop.sweep() == 1


async def test_s5_a_sweep_can_be_repeated_and_interrupted(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse, range_rows=2)
    await shop.insert(*[(f"k{number}", "1", S - 7, 0) for number in range(10)])
    first = await shop.orphan_rows.sweep(TABLE, S, ())
    assert first.upto is not None
    assert await shop.sweep() + first.rows == 10
    assert await shop.sweep() == 0
    rows = await clickhouse.fetch("SELECT count() FROM orders WHERE _deleted = 1")
    assert rows == [(10,)]
    await shop.insert(("k3", "1", S + 9, 0))
    assert await shop.alive() == [("k3", "1")], "a change after the snapshot brings the item back"
    assert await shop.sweep(S + 20) == 1, "and a later snapshot without it takes it away again"


async def test_s5_a_ghost_at_the_last_instant_before_the_snapshot_goes_too(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse)
    await shop.insert(("k", "1", S - 1, 0))
    assert await shop.sweep() == 1
    assert await shop.alive() == []


async def test_s5_a_total_order_version_is_swept_below_its_snapshot_and_above_every_sequence_number(
    clickhouse: ClickHouse,
) -> None:
    shop = await shop_of(clickhouse, version_type="UInt256")
    await shop.insert(("ghost", "1", (S - 1) << 192 | 2**186 - 1, 0), ("new", "1", S << 192 | 5, 0))
    await shop.insert(("in it", "1", (S - 1) << 192, 0), ("in it", "1", S << 192, 0))
    assert await shop.sweep() == 1
    assert await shop.alive() == [("in it", "1"), ("new", "1")]


async def test_s5_tombstones_of_equal_versions_count_as_the_reader_sees_them(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse)
    await shop.insert(("back", "1", S - 9, 1))
    await shop.insert(("back", "1", S - 9, 0))
    await shop.insert(("gone", "1", S - 9, 0))
    await shop.insert(("gone", "1", S - 9, 1))
    assert await shop.alive() == [("back", "1")]
    assert await shop.sweep() == 1
    assert await shop.alive() == []


async def test_s5_nothing_is_swept_where_deletes_are_ignored(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse, deletes="ignore")
    await shop.insert(("k", "1", S - 9, 0))
    assert await shop.sweep() == 0
    assert await shop.alive() == [("k", "1")]


async def test_s5_a_table_of_someone_else_sorted_the_other_way_round_is_swept_whole(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(
        "CREATE TABLE orders (sk Decimal(38, 3), pk LowCardinality(String), v Nullable(String), _version Int64,"
        " _deleted UInt8 DEFAULT 0, INDEX i _version TYPE minmax) ENGINE = ReplacingMergeTree(_version)"
        " PARTITION BY cityHash64(pk) % 3 ORDER BY (sk, pk)"
    )
    shop = Shop(clickhouse, spec_of(), range_rows=4)
    await shop.insert(*[(f"k{number}", str(number % 7), S - 9, 0) for number in range(30)])
    await shop.insert(*[(f"k{number}", str(number % 7), S, 0) for number in range(0, 30, 3)])
    assert await shop.sweep() == 20
    assert len(await shop.alive()) == 10


@pytest.mark.parametrize("closed", [False, True])
async def test_s5_open_letters_of_a_snapshot_are_counted(clickhouse: ClickHouse, closed: bool) -> None:
    shop = await shop_of(clickhouse)
    columns = "id, pipeline, `table`, source, replayed_at"
    await clickhouse.execute(f"INSERT INTO {DEAD_LETTERS} ({columns}) VALUES ('1', 'p', '{TABLE}', 'snap', NULL)")
    if closed:
        await clickhouse.execute(f"INSERT INTO {DEAD_LETTERS} ({columns}) VALUES ('1', 'p', '{TABLE}', 'snap', now())")
    assert await shop.orphan_rows.open_dead_letters(SourceId("snap")) == (0 if closed else 1)
    assert await shop.orphan_rows.open_dead_letters(SourceId("other")) == 0


async def test_what_a_sweep_would_do_is_counted_in_ranges_and_changes_nothing(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse, range_rows=4)
    await shop.insert(*[(f"k{number}", "1", S - 7, 0) for number in range(20)])
    await shop.insert(
        *[(f"k{number}", "1", S, 0) for number in range(5)], ("k19", "1", S - 3, 1), ("new", "1", S + 1, 0)
    )
    live = orphan_rows = steps = 0
    after: tuple[str, ...] | None = ()
    while after is not None:
        counted = await shop.orphan_rows.count(TABLE, S, after)
        live, orphan_rows, steps, after = live + counted.live, orphan_rows + counted.orphans, steps + 1, counted.upto
    assert (live, orphan_rows) == (20, 14) and steps > 3
    assert len(await shop.alive()) == 20
    assert await shop.sweep() == orphan_rows


async def test_a_word_about_deletes_speaks_of_one_snapshot_or_of_one_request(clickhouse: ClickHouse) -> None:
    shop = await shop_of(clickhouse)
    store = ClickHouseRecovery(clickhouse, "p")
    plain, asked = await store.request(TABLE), await store.request(TABLE, accept_deletes=True)
    assert not await shop.orphan_rows.accepted(SourceId("s"), "")
    assert not await shop.orphan_rows.accepted(SourceId("s"), plain)
    assert await shop.orphan_rows.accepted(SourceId("s"), asked)
    await store.accept_deletes(TABLE, "s")
    assert await shop.orphan_rows.accepted(SourceId("s"), plain)
    assert not await shop.orphan_rows.accepted(SourceId("another"), plain)
    assert {request.id for request in await store.open_requests()} == {plain, asked}, "a word is no request"

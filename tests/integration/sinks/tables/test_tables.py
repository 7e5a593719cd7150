"""Destinations in a real ClickHouse: what we create is safe by our own rules, and unsafe tables are refused."""

from __future__ import annotations

from typing import Any

import pytest

from dyncdc.config.tables import TableConfig
from dyncdc.decode.table_plan import compile_table
from dyncdc.schema.existing.compatibility import incompatibilities
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.mapping import existing_table_spec, new_table_spec, offered_statements, unfilled_columns
from dyncdc.schema.sql.ddl import add_mark_column, create_table, create_view
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.tables.introspection import has_rows, read_table
from dyncdc.sinks.tables.versions import incompatible_versions, made_by_others, read_versions, unit_of

KEYS = (KeyAttribute("id", "S"),)
GUIDE = (
    "CREATE TABLE users (id String, first_name String, age Int8, version Int64)"
    " ENGINE = ReplacingMergeTree(version) ORDER BY id"
)
"""Source: the guide for ClickPipes and DynamoDB in ClickHouse's documentation."""


def config(**options: Any) -> TableConfig:
    return TableConfig.model_validate({"dynamodb": "users", "snapshot": {"method": "none"}, **options})


async def existing(clickhouse: ClickHouse, *statements: str, table: str = "users") -> ExistingTable:
    for statement in statements:
        await clickhouse.execute(statement)
    found = await read_table(clickhouse, table)
    assert found is not None
    return found


async def reasons(clickhouse: ClickHouse, create: str, **options: Any) -> list[str]:
    table = await existing(clickhouse, create)
    return [refusal.reason for refusal in incompatibilities(table, existing_table_spec(config(**options), KEYS, table))]


async def test_a_table_that_is_not_there_is_none(clickhouse: ClickHouse) -> None:
    assert await read_table(clickhouse, "users") is None


@pytest.mark.parametrize("version_type", ["Int64", "UInt256"])
async def test_what_we_create_is_read_back_as_the_same_mapping_and_is_safe(
    clickhouse: ClickHouse, version_type: str
) -> None:
    keys = (KeyAttribute("pk.x", "S"), KeyAttribute("sk", "N"))
    sample = [
        {"pk.x": {"S": "a"}, "sk": {"N": "1"}, "it's": {"S": "x"}, "customer": {"M": {"ci.ty": {"S": "x"}}}},
        {
            "pk.x": {"S": "b"},
            "sk": {"N": "2"},
            "tags": {"SS": ["a"]},
            "_version": {"N": "1.5"},
            "emoji 😀": {"BOOL": True},
        },
    ]
    options = config(clickhouse="odd `name`")
    spec = new_table_spec(options, keys, sample, version_type=version_type)
    compile_table(spec)
    table = await existing(clickhouse, create_table(spec), create_table(spec), create_view(spec), table="odd `name`")
    assert table.engine_columns == ("_version", "_deleted")
    assert existing_table_spec(options, keys, table) == spec
    assert incompatibilities(table, spec) == []
    assert offered_statements(options, table, spec) == []
    assert unfilled_columns(table, spec) == []
    assert not await has_rows(clickhouse, "odd `name`")


async def test_the_view_shows_living_items_in_their_last_state_without_our_columns(clickhouse: ClickHouse) -> None:
    columns = (
        ColumnSpec("id", "String", ("id",), ("S",), key=True),
        ColumnSpec("n", "Nullable(Int64)", ("n",), ("N",)),
    )
    spec = TableSpec("users", "users", KEYS, columns)
    await existing(clickhouse, create_table(spec), create_view(spec), create_view(spec))
    insert = "INSERT INTO users (id, n, _version, _deleted) VALUES"
    await clickhouse.execute(f"{insert} ('a', 1, 10, 0), ('b', 1, 10, 0), ('c', 1, 10, 0)")
    await clickhouse.execute(f"{insert} ('a', 2, 11, 0), ('b', NULL, 12, 1), ('c', 0, 9, 1)")
    await clickhouse.execute(f"{insert} ('b', 3, 11, 0)")
    assert await clickhouse.fetch("SELECT * FROM users_current ORDER BY id") == [("a", 2), ("c", 1)]
    assert await has_rows(clickhouse, "users")


async def test_the_guides_table_works_unchanged_when_deletes_are_ignored(clickhouse: ClickHouse) -> None:
    table = await existing(clickhouse, GUIDE)
    options = config(deletes="ignore")
    spec = existing_table_spec(options, KEYS, table)
    assert incompatibilities(table, spec) == []
    assert (spec.version_column, spec.deleted_column, spec.spill_column) == ("version", "", "")
    assert [(c.name, c.takes, c.key) for c in spec.columns] == [
        ("id", ("S",), True),
        ("first_name", ("S",), False),
        ("age", ("N",), False),
    ]
    compile_table(spec)
    assert offered_statements(options, table, spec) == []


async def test_the_guides_table_with_deletes_is_refused_until_it_has_the_offered_column(clickhouse: ClickHouse) -> None:
    table = await existing(clickhouse, GUIDE)
    spec = existing_table_spec(config(), KEYS, table)
    (refusal,) = incompatibilities(table, spec)
    assert add_mark_column("users", "_deleted") in refusal.todo
    assert offered_statements(config(), table, spec) == [add_mark_column("users", "_deleted")]
    table = await existing(clickhouse, *offered_statements(config(), table, spec))
    spec = existing_table_spec(config(), KEYS, table)
    assert incompatibilities(table, spec) == []
    assert spec.deleted_column == "_deleted"
    await clickhouse.execute(create_view(spec))


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("MergeTree ORDER BY id", "its engine is MergeTree"),
        ("ReplacingMergeTree ORDER BY id", "no version column"),
        ("ReplacingMergeTree(narrow) ORDER BY id", "is UInt32"),
        ("ReplacingMergeTree(at) ORDER BY id", "is DateTime"),
        ("ReplacingMergeTree(v) ORDER BY (id, age)", "not exactly the key"),
        ("ReplacingMergeTree(v) ORDER BY age", "not exactly the key"),
        ("ReplacingMergeTree(v) ORDER BY tuple()", "not exactly the key"),
        ("ReplacingMergeTree(v) ORDER BY lower(id)", "not exactly the key"),
        ("ReplacingMergeTree(v) PARTITION BY age ORDER BY id", "PARTITION BY"),
        ("ReplacingMergeTree(v) PARTITION BY (substring(id, 1, 1), age % 2) ORDER BY id", "PARTITION BY"),
        ("Memory", "its engine is Memory"),
        ("AggregatingMergeTree ORDER BY id", "its engine is AggregatingMergeTree"),
        ("Join(ANY, LEFT, id)", "its engine is Join"),
        ("ReplacingMergeTree(v) ORDER BY (cityHash64(id, age), id)", "not exactly the key"),
        (
            "ReplacingMergeTree(v) ORDER BY id TTL at + INTERVAL 10 YEAR",
            "its TTL removes rows (at + toI",
        ),
        (
            "ReplacingMergeTree(v) ORDER BY id TTL at + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(3)),"
            " at + INTERVAL 1 YEAR DELETE WHERE age = 1 SETTINGS index_granularity = 1024",
            "its TTL removes rows",
        ),
        ("ReplacingMergeTree(made) ORDER BY id", "its version column made is computed"),
        ("ReplacingMergeTree(v, mark) ORDER BY id", "its column mark is computed"),
        (
            "ReplacingMergeTree(v) ORDER BY id SETTINGS min_age_to_force_merge_seconds = 1,"
            " allow_experimental_replacing_merge_with_cleanup = 1,"
            " enable_replacing_merge_with_cleanup_for_min_age_to_force_merge = 1",
            "it is set to",
        ),
    ],
)
async def test_unsafe_tables_are_refused_with_the_reason(clickhouse: ClickHouse, engine: str, reason: str) -> None:
    columns = (
        "id String, age Int8, narrow UInt32, at DateTime, v Int64, made Int64 MATERIALIZED toInt64(age),"
        " mark UInt8 MATERIALIZED 0"
    )
    found = await reasons(clickhouse, f"CREATE TABLE users ({columns}) ENGINE = {engine}", deletes="ignore")
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize(
    "engine",
    [
        "ReplacingMergeTree(v) ORDER BY id",
        "ReplacingMergeTree(v, gone) ORDER BY (id)",
        "ReplacingMergeTree(w) PARTITION BY cityHash64(id) % 8 ORDER BY id",
        "ReplacingMergeTree(u) PRIMARY KEY id ORDER BY id TTL at + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(3))"
        " SETTINGS index_granularity = 1024",
        "ReplacingMergeTree(v) ORDER BY (cityHash64(id) % 8, id)",
    ],
)
async def test_safe_tables_are_taken_as_they_are(clickhouse: ClickHouse, engine: str) -> None:
    columns = (
        "id String, at DateTime, v Int64, w UInt64, u UInt128, gone UInt8, m Int64 MATERIALIZED v + 1, t Tuple(Int8)"
    )
    table = await existing(clickhouse, f"CREATE TABLE users ({columns}) ENGINE = {engine}")
    spec = existing_table_spec(config(deletes="ignore"), KEYS, table)
    assert incompatibilities(table, spec) == []
    assert "m" not in {column.name for column in spec.columns}
    assert "t" in unfilled_columns(table, spec)
    compile_table(spec)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("id String, note String DEFAULT 'no TTL ''here', at DateTime, v Int64", ""),
        ("id String, note String TTL at + INTERVAL 1 DAY, at DateTime, v Int64", "the TTL of its column note"),
        (
            "id String, `TTL x, (` String, at DateTime, v Int64, INDEX i id TYPE minmax, n String COMMENT 'TTL at'",
            "",
        ),
        ("id String, v Int64, CONSTRAINT c CHECK v > 0", ""),
    ],
)
async def test_what_takes_values_away_is_found_and_what_only_looks_like_it_is_not(
    clickhouse: ClickHouse, columns: str, reason: str
) -> None:
    create = f"CREATE TABLE users ({columns}) ENGINE = ReplacingMergeTree(v) ORDER BY id"
    assert [reason in found for found in await reasons(clickhouse, create, deletes="ignore")] == [True] * bool(reason)


@pytest.mark.parametrize(("mode", "safe"), [("ignore", False), ("rebuild", True), ("drop", True)])
async def test_a_projection_must_follow_what_is_replaced(clickhouse: ClickHouse, mode: str, safe: bool) -> None:
    create = (
        "CREATE TABLE users (id String, age Int8, v Int64, PROJECTION `by age` (SELECT * ORDER BY age))"
        f" ENGINE = ReplacingMergeTree(v) ORDER BY id SETTINGS deduplicate_merge_projection_mode = '{mode}'"
    )
    found = await reasons(clickhouse, create, deletes="ignore")
    assert found == ([] if safe else ["its projection by age may show rows that were replaced"])


@pytest.mark.parametrize(
    ("values", "unit", "safe"),
    [
        ("('a', 0)", "", True),
        ("('a', 0), ('b', 1767225600000)", "milliseconds", True),
        ("('a', 1767225600000000)", "microseconds", True),
        ("('a', 1767225600)", "seconds", True),
        ("('a', 1767225600000000000)", "nanoseconds", False),
        ("('a', 9223372036854775807)", "", False),
    ],
)
async def test_versions_that_ours_would_never_win_over_are_refused(
    clickhouse: ClickHouse, values: str, unit: str, safe: bool
) -> None:
    table = await existing(clickhouse, GUIDE, f"INSERT INTO users (id, version) VALUES {values}")
    assert made_by_others(table)
    versions = await read_versions(clickhouse, table)
    assert versions is not None
    assert unit_of(versions.greatest, versions.now) == unit
    found = incompatible_versions(existing_table_spec(config(deletes="ignore"), KEYS, table), versions)
    assert len(found) == (not safe)
    assert all(unit in refusal.reason for refusal in found)


async def test_a_wide_version_counts_microseconds_above_the_sequence_number(clickhouse: ClickHouse) -> None:
    create = "CREATE TABLE users (id String, v UInt256) ENGINE = ReplacingMergeTree(v) ORDER BY id"
    for value, safe in (("1767225600000000", True), ("1767225600000000 * bitShiftLeft(toUInt256(1), 192)", True)):
        table = await existing(
            clickhouse, "DROP TABLE IF EXISTS users", create, f"INSERT INTO users SELECT 'a', {value}"
        )
        versions = await read_versions(clickhouse, table)
        assert versions is not None
        assert (
            incompatible_versions(existing_table_spec(config(deletes="ignore"), KEYS, table), versions) == ()
        ) == safe


async def test_what_is_not_the_table_itself_is_refused_with_where_to_look(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(GUIDE)
    await clickhouse.execute("CREATE VIEW seen AS SELECT * FROM users")
    table = await existing(clickhouse, table="seen")
    (refusal,) = incompatibilities(table, existing_table_spec(config(deletes="ignore"), KEYS, table))
    assert "name the table that it reads" in refusal.todo


async def test_several_key_attributes_may_be_sorted_in_any_order(clickhouse: ClickHouse) -> None:
    keys = (KeyAttribute("a", "S"), KeyAttribute("b `x`", "N"))
    columns = "a String, `b \\`x\\`` Int64, v Int64"
    create = f"CREATE TABLE users ({columns}) ENGINE = ReplacingMergeTree(v) ORDER BY (`b \\`x\\``, a)"
    table = await existing(clickhouse, create)
    assert table.sorting_columns == ("b `x`", "a")
    assert incompatibilities(table, existing_table_spec(config(deletes="ignore"), keys, table)) == []


async def test_a_key_attribute_without_a_column_is_refused(clickhouse: ClickHouse) -> None:
    create = "CREATE TABLE users (other String, v Int64) ENGINE = ReplacingMergeTree(v) ORDER BY other"
    assert await reasons(clickhouse, create, deletes="ignore") == ["it has no column for the key attribute id"]


async def test_configured_columns_must_be_those_of_the_table(clickhouse: ClickHouse) -> None:
    columns = [
        {"attribute": "first_name", "type": "String"},
        {"attribute": "age", "type": "Int64"},
        {"attribute": "x", "type": "Bool"},
    ]
    options = config(deletes="ignore", columns=columns)
    table = await existing(clickhouse, GUIDE)
    spec = existing_table_spec(options, KEYS, table)
    assert [column.name for column in spec.columns] == ["id", "first_name", "age", "x"]
    found = [refusal.reason for refusal in incompatibilities(table, spec)]
    assert found == ["its column age is Int8, not Int64", "it has no column x for x"]
    await clickhouse.execute(*offered_statements(options, table, spec))
    table = await existing(clickhouse)
    assert len(incompatibilities(table, existing_table_spec(options, KEYS, table))) == 1


async def test_a_version_column_that_the_configuration_names_must_be_the_engines(clickhouse: ClickHouse) -> None:
    found = await reasons(clickhouse, GUIDE, deletes="ignore", metadata={"version": "age"})
    assert found == ["its version column is version"]


async def test_comments_outrank_names(clickhouse: ClickHouse) -> None:
    comment = '\'dyncdc {"attribute":"customer.city","from":["S"]}\''
    columns = f"id String, town Nullable(String) COMMENT {comment}, v Int64"
    create = f"CREATE TABLE users ({columns}) ENGINE = ReplacingMergeTree(v) ORDER BY id"
    table = await existing(clickhouse, create)
    spec = existing_table_spec(config(deletes="ignore"), KEYS, table)
    assert spec.columns[1] == ColumnSpec("town", "Nullable(String)", ("customer", "city"), ("S",))

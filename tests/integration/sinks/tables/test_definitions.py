"""Types in every spelling, names that the server keeps for itself, and what it says of statements that it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import ColumnConfig, TableConfig
from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.schema.existing.compatibility import incompatibilities
from dyncdc.schema.existing.nested_columns import nested_arrays, seen_places
from dyncdc.schema.mapping import existing_table_spec, new_table_spec
from dyncdc.schema.naming import VIRTUAL_NAMES, column_name
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import RefusedStatementError
from dyncdc.sinks.state.mappings import mapping_news, read_destination, save_mapping
from dyncdc.sinks.state.tables import own_statements
from dyncdc.sinks.tables.evolution import run_add_columns
from dyncdc.sinks.tables.name_length import refuse_long_names
from dyncdc.sinks.tables.server_types import server_type, virtual_names, with_server_types

ID = KeyAttribute("id", "S")
SPEC = TableSpec("orders", "orders", (ID,), (ColumnSpec("id", "String", ("id",), ("S",), key=True),))


def config(*columns: ColumnConfig, **options: object) -> TableConfig:
    given = {"columns": columns} if columns else {}
    snapshot = SnapshotConfig(method="none")
    return TableConfig.model_validate({"dynamodb": "orders", "snapshot": snapshot, **given, **options})


@pytest.mark.parametrize(
    "kind",
    [
        "Decimal(10,2)",
        "Nullable( DateTime64(3,'UTC') )",
        "DateTime64",
        "Map(String,Int64)",
        "Array( String )",
        "Decimal64(4)",
        "Int",
        "TEXT",
        "BOOLEAN",
        "Enum('a','b')",
        "Enum8('a', 'b')",
        "LowCardinality( Nullable(String) )",
        "FixedString( 3 )",
    ],
)
async def test_a_type_is_the_same_type_in_every_spelling(clickhouse: ClickHouse, kind: str) -> None:
    listed = config(ColumnConfig(attribute="id", type="String"), ColumnConfig(attribute="x", type=kind))
    asked = await with_server_types(clickhouse, listed)
    await clickhouse.execute(create_table(new_table_spec(asked, (ID,), ())))
    table = await read_destination(clickhouse, "orders")
    assert table is not None
    assert incompatibilities(table, existing_table_spec(asked, (ID,), table)) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Nullable(LowCardinality(String))", "Nested type LowCardinality(String) cannot be inside Nullable type"),
        ("Intt64", "Unknown data type family: Intt64"),
        ("Decimal(900)", "Decimal"),
        ("String)", "yntax error"),
    ],
)
async def test_what_is_no_type_is_said_in_the_servers_words_with_the_column(
    clickhouse: ClickHouse, kind: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await with_server_types(clickhouse, config(ColumnConfig(attribute="x", type=kind)))
    assert said in str(caught.value)
    assert "column 'x'" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_statement_that_is_refused_says_why_and_one_that_holds_values_does_not(clickhouse: ClickHouse) -> None:
    statement = "CREATE TABLE t (a LowCardinality(Int8)) ENGINE = MergeTree ORDER BY a"
    with pytest.raises(RefusedStatementError, match="LowCardinality"):
        await clickhouse.define(statement, doing="creating t")
    with pytest.raises(RefusedStatementError, match="creating"):
        await clickhouse.define(f"CREATE TABLE {'x' * 240} (a Int8) ENGINE = MergeTree ORDER BY a", doing="creating x")
    with pytest.raises((RetryableError, FatalError)) as caught:
        await clickhouse.fetch("SELECT throwIf(1, 'secret')")
    assert "secret" not in str(caught.value)


async def test_every_virtual_column_of_this_server_is_a_name_that_no_attribute_gets(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(create_table(SPEC))
    virtual = await virtual_names(clickhouse, "orders")
    assert "_part_granule_offset" in virtual
    assert virtual <= VIRTUAL_NAMES
    for name in ("_part_granule_offset", "_anything", "__x", "_"):
        column = column_name((name,), virtual)
        assert not column.startswith("_")
        await run_add_columns(clickhouse, "orders", [ColumnSpec(column, "Nullable(String)", (name,), ("S",))], "_spill")
    table = await read_destination(clickhouse, "orders")
    assert table is not None
    paths = [column.path[0] for column in existing_table_spec(config(), (ID,), table).columns]
    assert paths == ["id", "_part_granule_offset", "_anything", "__x", "_"]
    assert await clickhouse.fetch("SELECT * FROM orders") == []


@pytest.mark.parametrize("dead_letter", ["x", "-", ".", "é"])
async def test_a_name_is_too_long_exactly_where_the_server_refuses_it(clickhouse: ClickHouse, dead_letter: str) -> None:
    names = {dead_letter * length: str(length) for length in range(1, 256)}
    longest = len(names) - len([*await refuse_long_names(clickhouse, names)])
    statement = "CREATE TABLE `{}` (a Int8) ENGINE = MergeTree ORDER BY a"
    await clickhouse.define(statement.format(dead_letter * longest), doing="creating")
    with pytest.raises(RefusedStatementError, match="max length of table name"):
        await clickhouse.define(statement.format(dead_letter * (longest + 1)), doing="creating")


async def test_listed_attributes_with_dots_get_columns_without(clickhouse: ClickHouse) -> None:
    listed = config(*(ColumnConfig(attribute=f'"tags.{part}"', type="Array(String)") for part in "ab"))
    spec = new_table_spec(listed, (ID,), ())
    assert [column.name for column in spec.columns] == ["id", "tags_a", "tags_b"]
    await clickhouse.execute(create_table(spec))
    await clickhouse.execute("INSERT INTO orders (id, tags_a, tags_b) VALUES ('x', ['1'], ['1', '2'])")


async def test_a_column_that_an_older_version_made_with_a_dot_stays_the_attributes(clickhouse: ClickHouse) -> None:
    listed = config(ColumnConfig(attribute='"tags.a"', type="Array(String)"), deletes="ignore")
    await clickhouse.execute(
        "CREATE TABLE orders (id String, `tags.a` Array(String), _spill String, _version Int64)"
        " ENGINE = ReplacingMergeTree(_version) ORDER BY id"
    )
    table = await read_destination(clickhouse, "orders")
    assert table is not None
    spec = existing_table_spec(listed, (ID,), table)
    assert [column.name for column in spec.columns] == ["id", "tags.a"]
    assert incompatibilities(table, spec) == []


async def test_columns_named_after_places_in_maps_take_what_is_there(clickhouse: ClickHouse) -> None:
    await clickhouse.execute(
        "CREATE TABLE orders (id String, `address.city` Nullable(String), address_zip Nullable(Int64),"
        " `a.b` Nullable(String), other_name Nullable(String), `n.x` Array(String), `n.y` Array(Int64),"
        " _spill String, _version Int64) ENGINE = ReplacingMergeTree(_version) ORDER BY id"
    )
    items = [
        {
            "id": {"S": "1"},
            "address": {"M": {"city": {"S": "Bonn"}, "zip": {"N": "53111"}}},
            "a.b": {"S": "literal"},
            "a": {"M": {"b": {"S": "inside"}}},
        }
    ]
    table = await read_destination(clickhouse, "orders")
    assert table is not None
    assert nested_arrays(table) == {"n.x", "n.y"}
    spec = existing_table_spec(config(deletes="ignore"), (ID,), table, seen_places(items))
    assert {column.name: (column.path, column.takes) for column in spec.columns} == {
        "id": (("id",), ("S",)),
        "address.city": (("address", "city"), ("S",)),
        "address_zip": (("address", "zip"), ("N",)),
        "a.b": (("a.b",), ("S",)),
        "other_name": (("other_name",), ("S",)),
    }


async def test_the_type_that_promote_is_given_may_have_any_spelling(clickhouse: ClickHouse) -> None:
    assert await server_type(clickhouse, "Nullable(Decimal(10,2))", "promoting x") == "Nullable(Decimal(10, 2))"


async def test_what_is_kept_of_a_table_without_a_uuid_is_taken_for_no_other_ones(clickhouse: ClickHouse) -> None:
    database = f"{clickhouse.url.database}_ordinary"
    await clickhouse.execute(
        f"CREATE DATABASE {database} ENGINE = Ordinary", settings={"allow_deprecated_database_ordinary": 1}
    )
    inside = ClickHouse(replace(clickhouse.url, database=database))
    try:
        for statement in own_statements():
            await inside.execute(statement)
        for name, path in (("one", ("address", "city")), ("two", ("city",))):
            column = ColumnSpec("city", "Nullable(String)", path, ("S",))
            spec = replace(SPEC, destination=name, columns=(*SPEC.columns, column))
            await inside.execute(create_table(spec))
            table = await read_destination(inside, name)
            assert table is not None
            found = existing_table_spec(config(clickhouse=name), (ID,), table)
            assert [column.path for column in found.columns] == [("id",), path]
            await save_mapping(inside, "p", table, mapping_news(table, found).rows)
    finally:
        await inside.close()
        await clickhouse.execute(f"DROP DATABASE {database} SYNC")

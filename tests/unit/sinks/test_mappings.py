"""The kept mapping: what of a destination is believed, what is new, what someone took away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import MetadataConfig, TableConfig
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.sql.column_comments import Origin, column_comment, joined_comment, read_comment
from dyncdc.schema.sql.quoting import mentions
from dyncdc.schema.stored_mapping import StoredColumn
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute
from dyncdc.schema.types.widening import holds_all_of
from dyncdc.sinks.state.mappings import MappingNews, mapping_news, with_kept

CITY = ColumnSpec("address_city", "Nullable(String)", ("address", "city"), ("S",))
SPILL, VERSION = ExistingColumn("_spill", "String"), ExistingColumn("_version", "Int64")
CONFIG = TableConfig(dynamodb="orders", snapshot=SnapshotConfig(method="none"), deletes="ignore")


def table(*columns: ExistingColumn) -> ExistingTable:
    full = "ReplacingMergeTree(_version) ORDER BY id"
    listed = (ExistingColumn("id", "String"), *columns, VERSION)
    return ExistingTable("orders", "uuid", "ReplacingMergeTree", full, "id", "", listed)


def city(comment: str = column_comment(CITY), kind: str = CITY.type, name: str = CITY.name) -> ExistingColumn:
    return ExistingColumn(name, kind, comment)


def news(found: ExistingTable) -> MappingNews:
    return mapping_news(found, existing_table_spec(CONFIG, (KeyAttribute("id", "S"),), found))


def kept_of(*columns: ExistingColumn) -> dict[str, StoredColumn]:
    return dict(news(table(*columns)).rows)


def origin_of(found: ExistingTable, name: str = CITY.name) -> Origin | None:
    column = found.column(name)
    assert column is not None
    return column.origin


@pytest.mark.parametrize("theirs", ["", "a note", "two\nlines ", "dyncdc is not here"])
def test_a_comment_that_is_restored_leaves_what_someone_else_wrote(theirs: str) -> None:
    joined = joined_comment(theirs, CITY)
    assert joined.startswith(theirs.rstrip())
    assert read_comment(joined) == Origin(CITY.path, CITY.takes)
    assert joined_comment(joined, CITY) == joined


@pytest.mark.parametrize("comment", ["", "a note", 'dyncdc {"attribute":"other","from":["N"]}'])
def test_a_column_is_believed_to_be_what_it_was_made_for(comment: str) -> None:
    found = with_kept(table(city(comment), SPILL), kept_of(city(), SPILL))
    assert origin_of(found) == Origin(CITY.path, CITY.takes)
    assert [column.name for column in news(found).comments] == [CITY.name]


def test_columns_that_exchanged_their_names_took_their_attributes_along() -> None:
    other = ColumnSpec("name", "Nullable(String)", ("customer", "name"), ("S",))
    first, second = city(), ExistingColumn(other.name, other.type, column_comment(other))
    kept = kept_of(first, second, SPILL)
    found = with_kept(table(replace(first, name="name"), replace(second, name=CITY.name), SPILL), kept)
    assert origin_of(found, "name") == Origin(CITY.path, CITY.takes)
    assert origin_of(found) == Origin(other.path, other.takes)
    assert news(found).comments == ()


def test_a_table_that_is_as_it_was_has_no_news() -> None:
    found = news(with_kept(table(city(), SPILL), kept_of(city(), SPILL)))
    assert found == MappingNews({}, defaults={})


def test_a_renamed_column_was_not_dropped() -> None:
    kept = kept_of(city(), SPILL)
    renamed = with_kept(table(city(name="city"), SPILL), kept)
    assert news(renamed).dropped == ()
    kept |= dict(news(renamed).rows)
    again = with_kept(table(city(name="city"), SPILL), kept)
    assert news(again) == MappingNews({}, defaults={})


def test_a_dropped_column_is_told_once() -> None:
    kept = kept_of(city(), SPILL)
    gone = news(with_kept(table(SPILL), kept))
    assert gone.dropped == (CITY.name,)
    assert news(with_kept(table(SPILL), kept | dict(gone.rows))).dropped == ()


def test_a_spill_column_that_is_gone_is_told_until_it_is_back() -> None:
    kept = kept_of(city(), SPILL)
    gone = news(with_kept(table(city()), kept))
    assert gone.spill == "_spill"
    assert news(with_kept(table(city()), kept | dict(gone.rows))).spill == "_spill"
    assert news(with_kept(table(city(), SPILL), kept | dict(gone.rows))).spill == ""


def test_a_table_that_never_had_a_spill_column_has_lost_none() -> None:
    assert news(with_kept(table(city()), kept_of(city()))).spill == ""


def test_a_default_over_the_spill_is_restored_and_someone_elses_is_left_alone() -> None:
    ours, theirs = "JSONExtractString(_spill, 'a')", "'none'"
    kept = kept_of(replace(city(), default=ours), SPILL)
    assert news(with_kept(table(city(), SPILL), kept)).defaults == {CITY.name: ours}
    assert news(with_kept(table(replace(city(), default=theirs), SPILL), kept_of(city(), SPILL))).defaults == {}


@pytest.mark.parametrize("theirs", ["'rest'", "concat(restored, 'x')", r"'it\'s rest'", "`the rest`"])
def test_a_default_that_only_looks_as_if_it_named_the_spill_is_someone_elses(theirs: str) -> None:
    named = CONFIG.model_copy(update={"metadata": MetadataConfig(spill="rest")})
    listed = table(replace(city(), default=theirs), ExistingColumn("rest", "String"))
    spec = existing_table_spec(named, (KeyAttribute("id", "S"),), listed)
    assert [column.defaulted for column in spec.columns if column.name == CITY.name] == [True]
    rows = mapping_news(listed, spec).rows
    assert rows[CITY.name].default == ""
    again = with_kept(table(city(), ExistingColumn("rest", "String")), rows)
    assert mapping_news(again, existing_table_spec(named, (KeyAttribute("id", "S"),), again)).defaults == {}


@pytest.mark.parametrize(("spill", "text"), [("rest", "JSONHas(rest, 'a')"), ("the rest", "JSONHas(`the rest`, 'a')")])
def test_a_default_over_the_spill_names_it(spill: str, text: str) -> None:
    assert mentions(text, spill)
    assert not mentions(text, "")


def test_a_column_that_was_made_again_keeps_the_default_that_it_has_now() -> None:
    before, now = "JSONExtractString(_spill, 'a')", "JSONExtract(_spill, 'a', 'Nullable(Int64)')"
    kept = kept_of(replace(city(), default=before), SPILL)
    again = with_kept(table(replace(city(kind="Nullable(Int64)"), default=now), SPILL), kept)
    assert news(again).defaults == {}
    assert news(again).rows[CITY.name].default == now


def test_a_column_that_became_narrower_is_named_with_both_types() -> None:
    kept = kept_of(city(), SPILL)
    assert news(with_kept(table(city(kind="String"), SPILL), kept)).narrowed == (
        "column address_city is String, and was Nullable(String)",
    )


@pytest.mark.parametrize(
    ("kind", "before", "holds"),
    [
        ("Int64", "Int64", True),
        ("Int64", "Int8", True),
        ("Int8", "Int64", False),
        ("Int64", "UInt64", False),
        ("Int128", "UInt64", True),
        ("UInt64", "Int8", False),
        ("Nullable(Int64)", "Nullable(Int32)", True),
        ("Nullable(Int64)", "Int64", False),
        ("Date32", "Date", False),
        ("Nullable(Date32)", "Nullable(Date)", True),
        ("Array(Nullable(Int64))", "Array(Int64)", True),
        ("Int64", "Nullable(Int64)", False),
        ("LowCardinality(String)", "String", True),
        ("String", "LowCardinality(Nullable(String))", False),
        ("Decimal(38, 2)", "Decimal(10, 2)", True),
        ("Decimal(38, 4)", "Decimal(38, 2)", False),
        ("Decimal(9, 2)", "Decimal32(2)", True),
        ("DateTime64(6)", "DateTime64(3)", False),
        ("DateTime64(3)", "DateTime64", True),
        ("Float64", "Float32", False),
        ("Float32", "Float64", False),
        ("String", "FixedString(3)", True),
        ("JSON(a UInt32, b.c Int8)", "JSON(b.c Int8, max_dynamic_paths=8, a UInt8)", True),
        ("JSON(a UInt8)", "JSON(a UInt32)", False),
        ("JSON(a UInt8)", "JSON", False),
        ("String", "Int64", False),
        ("Array(Int64)", "Array(Int8)", True),
        ("Array(Int8)", "Array(Int64)", False),
        ("Map(String, Int64)", "Map(String, Int8)", True),
        ("Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1)", True),
        ("Enum8('a' = 2)", "Enum8('a' = 1)", False),
        ("Enum8('a' = 1, 'b' = 0)", "Enum8('a' = 1)", False),
        ("Nonsense(", "String", False),
    ],
)
def test_whether_a_type_holds_all_that_another_held(kind: str, before: str, holds: bool) -> None:
    assert holds_all_of(kind, before) is holds

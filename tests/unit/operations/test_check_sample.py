"""What ``check`` says of a mapping after a look at some items."""

from __future__ import annotations

from typing import Any

import pytest

from dyncdc.config import TableConfig
from dyncdc.operations.check.sample import sample_findings
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec

KEY = ColumnSpec("id", "String", ("id",), ("S",), key=True)


def said(
    items: list[dict[str, Any]],
    *columns: ColumnSpec,
    key: ColumnSpec = KEY,
    spill: str = "_spill",
    **config: Any,
) -> list[str]:
    listed = [
        {"attribute": ".".join(column.path), "name": column.name, "type": column.type, "from": list(column.takes)}
        for column in columns
    ]
    table = TableConfig.model_validate(
        {"dynamodb": "tab", "snapshot": {"method": "none"}, **({"columns": listed} if listed else {}), **config}
    )
    spec = TableSpec("tab", "tab", (KeyAttribute("id", "S"),), (key, *columns), spill_column=spill)
    return [finding.line() for finding in sample_findings(table, spec, [{"id": {"S": "a"}, **each} for each in items])]


def column(attribute: str, kind: str, *takes: Any, **more: Any) -> ColumnSpec:
    path = tuple(attribute.split("."))
    return ColumnSpec("_".join(path), kind, path, takes, **more)


@pytest.mark.parametrize(
    ("attribute", "advice"),
    [
        ("customerid", "did you mean CustomerId?"),
        ("adress.city", "did you mean address.city?"),
        ("items[0].sku", "map the list items as a whole"),
        ("zzz", "it stays empty until an item has it"),
    ],
)
def test_a_mapped_name_that_no_item_has_is_named_with_the_nearest_one(attribute: str, advice: str) -> None:
    item = {
        "CustomerId": {"S": "c"},
        "CustomerIds": {"S": "c"},
        "address": {"M": {"city": {"S": "x"}}},
        "items": {"L": [{"M": {"sku": {"S": "s"}}}]},
    }
    [line] = said([item], column(attribute, "Nullable(String)", "S"))
    assert f"columns names {attribute}, which none of 1 sampled items has" in line and advice in line


def test_names_that_some_item_has_and_tables_without_items_are_not_worth_a_word() -> None:
    listed = column("a.b", "Nullable(String)", "S")
    assert said([{}, {"a": {"M": {"b": {"S": "x"}}}}], listed) == []
    assert said([], column("nobody", "Nullable(String)", "S"))[1:] == []


def test_what_is_to_be_hidden_and_is_in_no_item_is_named_too() -> None:
    items = [{"Notes": {"S": "x"}, "cards": {"L": [{"M": {"number": {"S": "1"}}}]}}]
    lines = said(items, exclude=["notes", "cards.number"])
    assert len(lines) == 1 and "exclude names notes" in lines[0] and "did you mean Notes?" in lines[0]


def test_columns_that_cannot_be_null_are_named_with_what_they_show() -> None:
    columns = (
        column("status", "Enum8('active' = 1, 'gone' = 2)", "S"),
        column("price", "Decimal(9, 2)", "N"),
        column("at", "DateTime64(3)", "S"),
        column("name", "String", "S"),
        column("tags", "Array(String)", "SS"),
        column("fine", "Nullable(Int8)", "N"),
    )
    [line] = said([{each.name: {"NULL": True} for each in columns}], *columns)
    assert "status (the Enum's first name), price (0), at (1970-01-01)" in line and "active" not in line
    assert "name" not in line.replace("first name", "") and "fine" not in line


def test_sampled_values_that_do_not_fit_are_counted_by_column_and_not_shown() -> None:
    columns = (column("age", "Nullable(Int8)", "N"), column("at", "Nullable(DateTime64(3))", "S"))
    items = [
        {"age": {"N": "300"}, "at": {"S": "2024-01-01T00:00:00.123456Z"}},
        {"age": {"S": "7"}},
        {"age": {"N": "7"}},
    ]
    age, at = said(items, *columns)
    assert "2 of 3 sampled values of age do not fit column age Nullable(Int8) exactly: they are in the spill" in age
    assert "1 of 1 sampled values of at" in at and "lossy = true" in at and "300" not in age
    age, at = said(items, *columns, spill="")
    assert "such items become dead letters" in age and "such items become dead letters" in at


def test_a_value_of_another_spelling_is_no_misfit_unless_nothing_keeps_its_text() -> None:
    items = [{"uuid": {"S": "61F0C404-5CB3-11E7-907B-A6006AD3DBA0"}}]
    assert said(items, column("uuid", "Nullable(UUID)", "S")) == []
    assert "lossy = true" in said(items, column("uuid", "Nullable(UUID)", "S"), spill="")[0]
    assert said(items, column("uuid", "Nullable(UUID)", "S", lossy=True), spill="") == []


def test_keys_that_do_not_fit_are_said_before_the_first_row() -> None:
    key = ColumnSpec("id", "UUID", ("id",), ("S",), key=True)
    ids = ["61F0C404-5CB3-11E7-907B-A6006AD3DBA0", "61f0c404-5cb3-11e7-907b-a6006ad3dba0"]
    [line] = said([{"id": {"S": each}} for each in ids], key=key)
    assert "1 of 2 sampled values of id do not fit column id UUID exactly" in line
    assert "items with such a key become dead letters; use a String column" in line


def test_numbers_that_can_only_be_milliseconds_get_their_encoding_proposed() -> None:
    items = [{"at": {"N": "1733000000123"}}, {"at": {"N": "1733000000456"}}]
    [line] = said(items, column("at", "Nullable(DateTime64(3))", "N"))
    assert 'encoding = "epoch_ms"' in line
    assert said(items, column("at", "Nullable(DateTime64(3))", "N", encoding="epoch_ms")) == []

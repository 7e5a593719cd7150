"""What inference makes of a sample: types, paths, names, limits."""

from __future__ import annotations

from typing import Any

import pytest

from dyncdc.decode.table_plan import compile_table
from dyncdc.schema.inference import infer, infer_columns
from dyncdc.schema.table_spec import KeyAttribute, TableSpec

ID = (KeyAttribute("id", "S"),)


def inferred(*values: Any, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """Columns for items that hold these values as attribute ``x``, without the key."""
    sample = [{"id": {"S": str(index)}, "x": value} for index, value in enumerate(values)]
    return [(column.name, column.type, column.takes) for column in infer_columns(ID, sample, **options)[1:]]


@pytest.mark.parametrize(
    ("values", "kind", "tag"),
    [
        ([{"S": "a"}], "Nullable(String)", "S"),
        ([{"N": "1"}, {"N": "-9223372036854775808"}], "Nullable(Int64)", "N"),
        ([{"N": "9223372036854775808"}], "Nullable(Decimal(38, 0))", "N"),
        ([{"N": "1"}, {"N": "12.5"}], "Nullable(Decimal(38, 2))", "N"),
        ([{"N": "0.123"}], "Nullable(Decimal(38, 4))", "N"),
        ([{"N": "1E-30"}], "Nullable(Decimal(38, 30))", "N"),
        ([{"N": "1E-130"}], "Nullable(String)", "N"),
        ([{"N": "1E+125"}], "Nullable(String)", "N"),
        ([{"BOOL": True}, {"NULL": True}], "Nullable(Bool)", "BOOL"),
        ([{"B": "AA=="}], "Nullable(String)", "B"),
        ([{"SS": ["a"]}], "Array(String)", "SS"),
        ([{"NS": ["1"]}], "Array(Int64)", "NS"),
        ([{"NS": ["1.5"]}], "Array(Decimal(38, 2))", "NS"),
        ([{"BS": ["AA=="]}], "Array(String)", "BS"),
        ([{"L": [{"S": "a"}]}, {"L": []}], "Array(String)", "L"),
        ([{"L": [{"N": "1"}]}], "Array(Int64)", "L"),
        ([{"L": [{"N": "1"}, {"S": "a"}]}], "Nullable(String)", "L"),
        ([{"L": [{"M": {}}]}], "Nullable(String)", "L"),
        ([{"L": []}, {"S": "a"}, {"M": {}}, {"M": {}}], "Nullable(String)", "S"),
        ([{"S": "a"}, {"N": "1"}, {"N": "2"}], "Nullable(Int64)", "N"),
        ([{"S": "a"}, {"N": "1"}], "Nullable(String)", "S"),
    ],
)
def test_types_follow_the_sample(values: list[Any], kind: str, tag: str) -> None:
    assert inferred(*values) == [("x", kind, (tag,))]


def test_what_is_only_null_or_no_value_gets_no_column() -> None:
    assert inferred({"NULL": True}, {"X": 1}, 5, {"N": "x"}) == []


def test_an_empty_list_or_map_tells_no_type_and_waits_for_a_value() -> None:
    found = infer((), [{"tags": {"L": []}, "meta": {"M": {}}, "gone": {"NULL": True}}, {"meta": {"NULL": True}}])
    assert found.columns == ()
    assert {each.path[0]: each.why.partition(",")[0] for each in found.observations} == {
        "gone": "seen only as NULL",
        "meta": "seen only as empty maps and NULL",
        "tags": "seen only as empty lists",
    }
    assert inferred({"L": []}, {"L": [{"S": "a"}]}) == [("x", "Array(String)", ("L",))]


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [(["1", "2"], "Int64"), (["1", "1.5"], "String"), ([str(2**63)], "String"), ([], "String")],
)
def test_a_numeric_key_is_int64_only_when_every_sampled_key_fits(numbers: list[str], kind: str) -> None:
    [column] = infer_columns((KeyAttribute("n", "N"),), [{"n": {"N": number}} for number in numbers])
    assert (column.type, column.key, column.takes) == (kind, True, ("N",))


NESTED = {"M": {"city": {"S": "a"}, "geo": {"M": {"lat": {"N": "1.5"}}}, "tags": {"SS": ["x"]}}}


def test_maps_are_flattened_to_the_asked_depth() -> None:
    assert inferred(NESTED) == [
        ("x_city", "Nullable(String)", ("S",)),
        ("x_geo", "Nullable(String)", ("M",)),
        ("x_tags", "Array(String)", ("SS",)),
    ]
    assert [name for name, _, _ in inferred(NESTED, flatten_depth=2)] == ["x_city", "x_geo_lat", "x_tags"]
    assert inferred(NESTED, flatten_depth=0) == inferred(NESTED, nested="json") == [("x", "Nullable(String)", ("M",))]
    assert inferred(NESTED, nested="typed") == [("x", "Nullable(String)", ("M",))]


def test_a_map_used_as_a_dictionary_stays_one_column() -> None:
    maps = [{"M": {f"user-{index}": {"S": "a"}}} for index in range(20)]
    assert inferred(*maps) == [("x", "Nullable(String)", ("M",))]


def test_no_more_columns_than_allowed_and_the_frequent_ones_first() -> None:
    sample: list[dict[str, Any]] = [
        {"id": {"S": "a"}, "common": {"S": "x"}, f"rare{index}": {"S": "x"}} for index in range(9)
    ]
    found = infer_columns(ID, sample, max_columns=3)
    assert [column.name for column in found] == ["id", "common", "rare0"]


def test_t10_a_flattened_name_never_takes_an_attributes_place() -> None:
    sample = [
        {"a_b": {"S": "x"}, "a": {"M": {"b": {"S": "y"}}}, "_version": {"S": "z"}, "Id": {"S": "i"}, "id": {"S": "k"}}
    ]
    found = {column.path: column.name for column in infer_columns(ID, sample)}
    assert found[("a_b",)] == "a_b" and found[("id",)] == "id" and found[("Id",)] == "Id"
    assert found[("a", "b")].startswith("a_b_") and found[("_version",)].startswith("version_")
    assert len(set(found.values())) == len(found)


def test_inferred_columns_compile() -> None:
    columns = infer_columns(ID, [{"id": {"S": "a"}, "x": NESTED, "y": {"N": "1"}}])
    assert compile_table(TableSpec("t", "t", ID, columns)).columns[-3:] == ("_spill", "_version", "_deleted")


def test_typed_maps_and_lists_are_columns_of_typed_json() -> None:
    sample = [{"id": {"S": "a"}, "m": NESTED, "l": {"L": [{"S": "a"}, {"N": "1"}]}}]
    found = infer_columns(ID, sample, nested="typed")
    assert [(column.name, column.takes, column.encoding) for column in found[1:]] == [
        ("l", ("L",), "typed"),
        ("m", ("M",), "typed"),
    ]


def test_lists_with_nulls_are_arrays_of_what_else_is_in_them() -> None:
    assert inferred({"L": [{"NULL": True}, {"N": "1"}]}) == [("x", "Array(Nullable(Int64))", ("L",))]
    assert inferred({"L": [{"NULL": True}]}) == [("x", "Nullable(String)", ("L",))]


def test_an_inference_tells_how_often_each_type_occurred_and_why() -> None:
    sample: list[dict[str, Any]] = [{"id": {"S": str(index)}, "x": {"N": "1"}, "m": NESTED} for index in range(3)]
    sample += [{"id": {"S": "z"}, "x": {"S": "one"}}, {"id": {"S": "y"}, "x": {"NULL": True}, "n": {"NULL": True}}]
    found = infer(ID, sample, max_columns=4)
    assert found.items == 5 and len(found.columns) == 4
    by_path = {observation.path: observation for observation in found.observations}
    assert (by_path["id",].times, by_path["id",].types) == (5, (("S", 5),))
    x = by_path["x",]
    assert (x.times, x.types) == (5, (("N", 3), ("NULL", 1), ("S", 1)))
    assert x.column is not None and "64 bits" in x.why and "most frequent" in x.why
    assert by_path["m",].column is None and "flattened" in by_path["m",].why
    assert "NULL" in by_path["n",].why
    assert by_path["m", "tags"].column is None and "max_columns" in by_path["m", "tags"].why
    assert [each.column for each in found.observations if each.column] == list(found.columns)

"""Rows of a compiled table: paths into maps, the spill, keys, and mappings that cannot work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from dyncdc.decode.table_plan import Row, TablePlan, compile_table
from dyncdc.errors import ConfigError
from dyncdc.schema.sql.row_reader import RowRenderer
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.reject_reasons import UndecodableRecord

ID = ColumnSpec("id", "String", ("id",), ("S",), key=True)
CUSTOMER = TableSpec(
    "t",
    "t",
    (KeyAttribute("id", "S"),),
    (
        ID,
        ColumnSpec("customer_city", "Nullable(String)", ("customer", "city"), ("S",)),
        ColumnSpec("customer_age", "Nullable(Int8)", ("customer", "age"), ("N",)),
        ColumnSpec("customer_geo_lat", "Nullable(Decimal(9, 2))", ("customer", "geo", "lat"), ("N",)),
    ),
)
STRICT = replace(CUSTOMER, spill_column="")


def upsert(spec: TableSpec, **attributes: Any) -> Row:
    return compile_table(spec).upsert({"id": {"S": "a"}, **attributes}, 1)


def told(spec: TableSpec, **attributes: Any) -> dict[str, Any]:
    cells = [orjson.loads(cell) for cell in upsert(spec, **attributes).cells]
    found = dict(zip(compile_table(spec).columns, cells, strict=True))
    found["_spill"] = orjson.loads(found["_spill"]) if found.get("_spill") else None
    return {name: value for name, value in found.items() if name.startswith(("customer", "_spill"))}


def row(city: Any = None, age: Any = None, lat: Any = None, spill: Any = None) -> dict[str, Any]:
    return {"customer_city": city, "customer_age": age, "customer_geo_lat": lat, "_spill": spill}


def customer(**parts: Any) -> dict[str, Any]:
    return {"M": parts}


def test_a_map_that_its_columns_hold_needs_no_spill() -> None:
    whole = customer(city={"S": "x"}, geo={"M": {"lat": {"N": "1.5"}}})
    assert told(CUSTOMER, customer=whole) == row("x", None, "1.5")


@pytest.mark.parametrize(
    ("whole", "columns"),
    [
        (customer(city={"S": "x"}, zip={"S": "1"}), row("x")),
        (customer(city={"S": "x"}, age={"N": "300"}), row("x")),
        (customer(city={"NULL": True}, age={"N": "30"}), row(None, "30")),
        (customer(city={"S": "x"}, geo={"M": {}}), row("x")),
        (customer(city={"S": "x"}, geo={"S": "here"}), row("x")),
        (customer(), row()),
        ({"S": "Bob"}, row()),
        ({"NULL": True}, row()),
        ({"L": []}, row()),
    ],
)
def test_a_map_of_which_only_parts_sit_in_columns_is_kept_whole(whole: Any, columns: dict[str, Any]) -> None:
    assert told(CUSTOMER, customer=whole) == columns | {"_spill": {"customer": whole}}


def test_without_a_spill_parts_without_a_column_are_counted_and_misfits_refused() -> None:
    found = upsert(STRICT, customer=customer(city={"S": "x"}, zip={"S": "1"}, street={"S": "y"}), other={"S": "z"})
    assert (found.outside, found.spilled) == (3, 0)
    with pytest.raises(UndecodableRecord) as failure:
        upsert(STRICT, customer=customer(age={"N": "300"}))
    assert failure.value.column == "customer_age"


def test_a_whole_column_beside_columns_of_its_parts_tells_it_whole() -> None:
    whole_column = ColumnSpec("whole", "Nullable(String)", ("customer",), ("M",))
    spec = replace(CUSTOMER, columns=(*CUSTOMER.columns, whole_column))
    found = upsert(spec, customer=customer(city={"S": "x"}, zip={"S": "1"}))
    assert (found.spilled, orjson.loads(found.cells[4])) == (0, '{"city":"x","zip":"1"}')


def test_a_blurred_whole_column_is_spilled_even_if_its_parts_tell_everything() -> None:
    spec = replace(CUSTOMER, columns=(*CUSTOMER.columns, ColumnSpec("whole", "JSON", ("customer",), ("M",))))
    assert upsert(spec, customer=customer(city={"S": "x"})).spilled == 1


def test_an_attribute_named_like_dyncdcs_columns_is_just_an_attribute() -> None:
    found = upsert(CUSTOMER, _spill={"S": "x"}, _version={"N": "5"}, _deleted={"N": "1"})
    assert orjson.loads(orjson.loads(found.cells[4])) == {
        "_spill": {"S": "x"},
        "_version": {"N": "5"},
        "_deleted": {"N": "1"},
    }
    assert found.cells[5:] == [b"1", b"0"]


def test_t1_numbers_beyond_floats_stay_apart_as_keys() -> None:
    keys = (KeyAttribute("n", "N"),)
    for kind in ("String", "Decimal(38, 0)", "Int128"):
        plan = compile_table(TableSpec("t", "t", keys, (ColumnSpec("n", kind, ("n",), ("N",), key=True),)))
        found = {
            plan.upsert({"n": {"N": number}}, 1).key for number in ("12345678901234567890", "12345678901234567891")
        }
        assert len(found) == 2
        assert plan.upsert({"n": {"N": "1E1"}}, 1).key == plan.upsert({"n": {"N": "10.0"}}, 1).key


def test_t6_every_key_attribute_is_part_of_the_key() -> None:
    keys = (KeyAttribute("pk", "B"), KeyAttribute("sk", "N"))
    columns = (
        ColumnSpec("pk", "String", ("pk",), ("B",), key=True),
        ColumnSpec("sk", "String", ("sk",), ("N",), key=True),
    )
    plan = compile_table(TableSpec("t", "t", keys, columns))
    rows = [plan.upsert({"pk": {"B": "AA=="}, "sk": {"N": str(number)}}, 1) for number in range(3)]
    assert [found.key for found in rows] == [b'"AA==","0"', b'"AA==","1"', b'"AA==","2"']
    assert plan.tombstone({"sk": {"N": "1.0"}, "pk": {"B": "AA=="}}, 2).key == rows[1].key


def mapping(**changes: Any) -> TablePlan:
    return compile_table(replace(CUSTOMER, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": CUSTOMER.columns[1:]}, "no column takes the key attribute 'id'"),
        ({"columns": (*CUSTOMER.columns, ID)}, "two columns are named 'id'"),
        ({"columns": (ID, replace(ID, name="id2"))}, "two key columns"),
        ({"columns": (replace(ID, type="Nullable(String)"),)}, "without blurring"),
        ({"columns": (replace(ID, type="Int64"),)}, "without blurring"),
        ({"columns": (replace(ID, takes=("S", "N")),)}, "without blurring"),
        ({"columns": (replace(ID, path=("id", "x")),)}, "exactly one key attribute"),
        ({"columns": (ID, ColumnSpec("x", "Tuple(Int8)", ("x",), ("M",)))}, "Tuple"),
        ({"columns": (ID, ColumnSpec("x", "Int8", ("x",), ("S",)))}, "'x'"),
        ({"columns": (ID, ColumnSpec("_version", "Int8", ("x",), ("N",)))}, "_version"),
        ({"columns": (ID, ColumnSpec("x", "JSON", ("x",), ("M",))), "spill_column": ""}, "JSON blurs"),
        ({"deleted_column": ""}, "no column for deletes"),
        ({"version_type": "Int32"}, "Int32"),
        ({"version_type": "DateTime"}, "DateTime"),
        ({"version_column": ""}, "version column"),
    ],
)
def test_mappings_that_cannot_work_are_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mapping(**changes)


def test_a_renderer_compares_without_a_spill_only_what_the_columns_tell() -> None:
    renderer = RowRenderer(STRICT)
    source = {"id": {"S": "a"}, "customer": customer(city={"S": "x"}, zip={"S": "1"}), "other": {"S": "z"}}
    assert renderer.differences(source, ["a", "x", None, None], "") == []
    assert renderer.differences(source, ["a", "y", None, None], "") == ["customer"]
    assert renderer.differences(source, ["a", "x", "5", None], "") == ["customer"]
    assert renderer.differences(source, ["b", "x", None, None], "") == ["id"]
    assert renderer.render(["a", "x", None, None], "").ambiguous == {"customer"}

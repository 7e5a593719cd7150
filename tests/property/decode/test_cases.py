"""Every case chosen by hand, as cells, and read back from a real ClickHouse in `test_clickhouse`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from support.data.decode_cases import BLURRED, EXACT, KEYS_THAT_NEVER_FIT, LOOKS_ABSENT, MISFITS, REFUSED_TYPES, ROUNDED

from dyncdc.decode.table_plan import Row, compile_table
from dyncdc.errors import ConfigError
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.cells import Inexact
from dyncdc.schema.types.codecs import compile_type, default_takes
from dyncdc.schema.types.dynamodb_values import canonical
from dyncdc.schema.types.reject_reasons import UndecodableRecord

ID = ColumnSpec("id", "String", ("id",), ("S",), key=True)


def spec(kind: str, *takes: Any, spill: str = "_spill", lossy: bool = False) -> TableSpec:
    column = ColumnSpec("x", kind, ("x",), takes, lossy=lossy)
    return TableSpec("t", "t", (KeyAttribute("id", "S"),), (ID, column), spill_column=spill)


def upsert(
    kind: str, value: dict[str, Any], takes: tuple[Any, ...], *, spill: str = "_spill", lossy: bool = False
) -> Row:
    plan = compile_table(spec(kind, *takes, spill=spill, lossy=lossy))
    return plan.upsert({"id": {"S": "a"}, "x": value}, 1)


def takes_of(kind: str, value: dict[str, Any]) -> tuple[Any, ...]:
    tag = next(iter(value))
    return (tag,) if tag in compile_type(kind).encoders else default_takes(kind)


def spilled(row: Row) -> Any:
    text = orjson.loads(row.cells[2])
    return orjson.loads(text)["x"] if text else None


@pytest.mark.parametrize(("kind", "value"), EXACT)
def test_exact_values_need_no_spill(kind: str, value: dict[str, Any]) -> None:
    row = upsert(kind, value, takes_of(kind, value))
    assert spilled(row) is None and type(row.cells[1]) is bytes and row.spilled == 0
    assert orjson.dumps(orjson.loads(row.cells[1])) == row.cells[1]
    assert upsert(kind, value, takes_of(kind, value), spill="").cells[1] == row.cells[1]


@pytest.mark.parametrize(("kind", "value"), BLURRED)
def test_blurred_values_are_in_the_column_and_in_the_spill(kind: str, value: dict[str, Any]) -> None:
    row = upsert(kind, value, takes_of(kind, value))
    assert spilled(row) == canonical(value) and type(row.cells[1]) is Inexact
    assert spilled(upsert(kind, value, takes_of(kind, value), lossy=True)) is None
    assert upsert(kind, value, takes_of(kind, value), spill="", lossy=True).cells[1] == row.cells[1]


@pytest.mark.parametrize(("kind", "value"), BLURRED)
def test_blurred_values_are_refused_where_nothing_else_keeps_them(kind: str, value: dict[str, Any]) -> None:
    with pytest.raises((UndecodableRecord, ConfigError), match=r"lossy = true|blurs"):
        upsert(kind, value, takes_of(kind, value), spill="")


@pytest.mark.parametrize(("kind", "value"), LOOKS_ABSENT)
def test_t3_a_value_that_looks_absent_is_also_in_the_spill(kind: str, value: dict[str, Any]) -> None:
    row = upsert(kind, value, takes_of(kind, value))
    absent = compile_table(spec(kind, *takes_of(kind, value))).upsert({"id": {"S": "a"}}, 1)
    assert spilled(row) == canonical(value)
    assert row.cells[1] == absent.cells[1]


@pytest.mark.parametrize(("kind", "value"), MISFITS)
def test_t2_a_misfit_is_in_the_spill_alone(kind: str, value: dict[str, Any]) -> None:
    row = upsert(kind, value, takes_of(kind, value))
    absent = compile_table(spec(kind, *takes_of(kind, value))).upsert({"id": {"S": "a"}}, 1)
    assert spilled(row) == canonical(value) and row.spilled == 1
    assert row.cells[1] == absent.cells[1]
    if (kind, value) not in ROUNDED:
        assert spilled(upsert(kind, value, takes_of(kind, value), lossy=True)) == canonical(value)


@pytest.mark.parametrize(("kind", "value"), ROUNDED)
def test_a_lossy_column_shows_what_is_left_when_digits_are_cut_off(kind: str, value: dict[str, Any]) -> None:
    absent = compile_table(spec(kind, *takes_of(kind, value))).upsert({"id": {"S": "a"}}, 1)
    row = upsert(kind, value, takes_of(kind, value), lossy=True)
    assert spilled(row) is None and row.cells[1] != absent.cells[1]
    assert upsert(kind, value, takes_of(kind, value), spill="", lossy=True).cells[1] == row.cells[1]


def test_the_moment_of_a_text_with_an_offset_is_that_of_its_instant() -> None:
    cells = {
        text: upsert("DateTime64(3)", {"S": text}, ("S",), lossy=True).cells[1]
        for text in ("2026-11-30T14:00:00.123456+02:00", "2026-11-30T12:00:00.123Z", "2026-11-30 06:30:00.123-05:30")
    }
    assert set(cells.values()) == {b'"2026-11-30T12:00:00.123Z"'}
    assert (
        upsert("DateTime64(3)", {"S": "1970-01-01T00:30:00.5+01:00"}, ("S",)).cells[1] == b'"1969-12-31T23:30:00.000Z"'
    )


@pytest.mark.parametrize(("kind", "value"), [case for case in MISFITS if not case[0].startswith("JSON")])
def test_t2_a_misfit_without_a_spill_names_the_column_and_not_the_value(kind: str, value: dict[str, Any]) -> None:
    with pytest.raises(UndecodableRecord) as failure:
        upsert(kind, value, takes_of(kind, value), spill="")
    assert (failure.value.reason, failure.value.column) == ("misfit", "x")
    payload = next(iter(value.values()))
    assert not (isinstance(payload, str) and len(payload) > 3 and payload in failure.value.detail)


def test_null_is_null_in_the_column_and_kept_in_the_spill() -> None:
    row = upsert("Nullable(Int8)", {"NULL": True}, ("N",))
    assert (row.cells[1], spilled(row)) == (b"null", {"NULL": True})
    assert upsert("Nullable(Int8)", {"NULL": True}, ("N",), spill="").cells[1] == b"null"


def test_values_of_a_second_type_are_also_in_the_spill() -> None:
    assert spilled(upsert("String", {"S": "26"}, ("S", "N"))) is None
    row = upsert("String", {"N": "26"}, ("S", "N"))
    assert (row.cells[1], spilled(row)) == (b'"26"', {"N": "26"})


@pytest.mark.parametrize("kind", KEYS_THAT_NEVER_FIT)
def test_a_key_column_that_could_blur_keys_is_refused(kind: str) -> None:
    columns = (ColumnSpec("id", kind, ("id",), default_takes(kind), key=True),)
    with pytest.raises(ConfigError):
        compile_table(TableSpec("t", "t", (KeyAttribute("id", "S"),), columns))


@pytest.mark.parametrize("kind", REFUSED_TYPES)
def test_types_that_no_attribute_can_fill_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError):
        compile_type(kind)


@pytest.mark.parametrize("kind", ["String", "Int8", "Date", "Bool"])
def test_takes_that_a_type_cannot_hold_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="'x'"):
        compile_table(spec(kind, "NOPE"))


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("String", "S"),
        ("LowCardinality(Nullable(String))", "S"),
        ("Int64", "N"),
        ("Nullable(Decimal(38, 2))", "N"),
        ("Float64", "N"),
        ("Bool", "BOOL"),
        ("UInt8", "N"),
        ("DateTime64(3, 'UTC')", "S"),
        ("Array(String)", "SS"),
        ("Array(Int64)", "NS"),
        ("Array(Bool)", "L"),
        ("Map(String, String)", "M"),
        ("JSON", "M"),
        ("JSON(max_dynamic_paths=8, a.b Int64, SKIP c)", "M"),
    ],
)
def test_default_takes_follow_the_type(kind: str, takes: str) -> None:
    assert default_takes(kind) == (takes,)

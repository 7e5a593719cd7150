"""Columns of typed JSON and of raw bytes: what they take, what they refuse, and their way through a dead letter."""

from __future__ import annotations

import orjson
import pytest

from dyncdc.config.attribute_paths import format_attribute_path, parse_attribute_path
from dyncdc.decode.dead_letters.kept_rows import row_as_raw, row_of_raw
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import ConfigError
from dyncdc.model.blocks import Block
from dyncdc.schema.sql.column_comments import column_comment, read_comment
from dyncdc.schema.sql.readback import column_reader
from dyncdc.schema.table_spec import ColumnSpec, Encoding, KeyAttribute, TableSpec
from dyncdc.schema.types.codecs import compile_type, default_takes


def test_raw_bytes_are_the_bytes_and_nothing_else() -> None:
    encode = compile_type("String", "raw").encode
    assert encode({"B": "AP8i"}) == b'"\\u0000\xff\\""'
    assert encode({"S": "a"}) is None
    fixed = compile_type("Nullable(FixedString(2))", "raw").encode
    assert fixed({"B": "AP8="}) == b'"\\u0000\xff"' and fixed({"B": "/wA="}) is None and fixed({"B": "/w=="}) is None


def test_typed_json_takes_every_type_and_tells_it() -> None:
    encode = compile_type("String", "typed").encode
    cell = encode({"M": {"b": {"SS": ["y", "x"]}, "a": {"N": "1.0"}}})
    assert cell is not None and orjson.loads(cell) == '{"M":{"a":{"N":"1"},"b":{"SS":["x","y"]}}}'
    assert len(default_takes("String", "typed")) == 9 and default_takes("String", "raw") == ("B",)


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        *(("Int8", "typed"), ("Array(String)", "raw"), ("FixedString(4)", "typed"), ("JSON", "typed")),
        *(("Int64", "epoch_ms"), ("String", "epoch_us"), ("Array(DateTime64(3))", "epoch_ms"), ("Date", "epoch_ms")),
    ],
)
def test_each_encoding_is_for_types_of_its_own(kind: str, encoding: Encoding) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_type(kind, encoding)
    assert ("DateTime64" if encoding.startswith("epoch") else "String columns") in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "encoding", "number", "cell"),
    [
        ("DateTime64(3)", "epoch_ms", "1733000000123", '"2024-11-30T20:53:20.123Z"'),
        ("DateTime64(6)", "epoch_us", "1733000000123456", '"2024-11-30T20:53:20.123456Z"'),
        ("Nullable(DateTime)", "epoch_ms", "1733000000000", '"2024-11-30T20:53:20Z"'),
        ("DateTime64(3)", "epoch_ms", "-1000", '"1969-12-31T23:59:59.000Z"'),
    ],
)
def test_a_number_of_a_smaller_unit_is_its_moment_and_read_back_as_that_number(
    kind: str, encoding: Encoding, number: str, cell: str
) -> None:
    assert compile_type(kind, encoding).encode({"N": number}) == cell.encode()
    assert compile_type(kind, encoding).encode({"S": "2024-11-30T20:53:20Z"}) is None
    shown = cell.strip('"Z').replace("T", " ")
    assert column_reader(kind, "N", encoding).read(shown) == {"N": number}
    assert default_takes(kind, encoding) == ("N",)


def test_a_key_has_no_encoding() -> None:
    column = ColumnSpec("id", "String", ("id",), ("B",), key=True, encoding="raw")
    with pytest.raises(ConfigError, match="a key column has no encoding"):
        compile_table(TableSpec("t", "t", (KeyAttribute("id", "B"),), (column,)))


def test_a_column_remembers_its_encoding() -> None:
    column = ColumnSpec("x", "String", ("x",), ("B",), encoding="raw")
    origin = read_comment(column_comment(column))
    assert origin is not None and origin.encoding == "raw"
    assert read_comment(column_comment(column).replace("raw", "cooked")) is None


@pytest.mark.parametrize("path", [("m", ""), ("m", "", "x"), ('"', "."), ("a.b", 'c"d\\'), ("😀\n", "x" * 60_000)])
def test_any_path_is_written_and_read_again(path: tuple[str, ...]) -> None:
    assert parse_attribute_path(format_attribute_path(path)) == path
    origin = read_comment(column_comment(ColumnSpec("x", "String", path, ("S",))))
    assert origin is not None and origin.path == path


def test_a_row_with_raw_bytes_is_kept_and_found_again_in_a_letter() -> None:
    cells = [b'"a"', b'"\xff\\u0000"', b"null", b'{"a":"1"}']
    kept = row_as_raw(Block("t", ("id", "raw", "none", "map"), cells, 1))
    assert row_of_raw(kept) == ("t", {"id": "a", "raw": b"\xff\0", "none": None, "map": {"a": "1"}})


@pytest.mark.parametrize("kind", ["Nullable(Array(Int64))", "Nullable(Map(String, Int64))"])
def test_a_type_that_clickhouse_does_not_have_is_refused_before_it_is_asked(kind: str) -> None:
    with pytest.raises(ConfigError):
        compile_type(kind)

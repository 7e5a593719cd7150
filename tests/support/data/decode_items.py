"""DynamoDB items to try, tables of every column type to hold them, and a stand-in for what ClickHouse shows."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import struct
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import strategies as st

from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.type_parser import TypeNode, parse_type
from support.servers.older_servers import read_float

VERSION = 1_720_742_302_233_719

TYPES = [
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)),
    "Decimal(9, 2)",
    "Decimal(38, 10)",
    "Decimal(76, 38)",
    "Float32",
    "Float64",
    "String",
    "LowCardinality(String)",
    "FixedString(4)",
    "Bool",
    "UUID",
    "Date",
    "Date32",
    "DateTime",
    "DateTime('America/New_York')",
    "DateTime64(3)",
    "DateTime64(6, 'Europe/Berlin')",
    "DateTime64(9)",
    "Enum8('a' = 1, 'b' = -3, 'c''d' = 5)",
    "IPv4",
    "IPv6",
]

SCALAR_COLUMNS = [
    (kind, (tag,))
    for kind in TYPES
    for tag in compile_type(kind).encoders
    if tag in ("S", "N", "B", "BOOL", "M", "L", "SS", "NS", "BS")
]

OTHER_COLUMNS: list[tuple[str, tuple[Any, ...]]] = [
    ("String", ("S", "N", "M")),
    ("Nullable(String)", ("M", "L")),
    ("LowCardinality(Nullable(String))", ("S",)),
    ("Array(String)", ("SS", "L")),
    ("Array(String)", ("NS",)),
    ("Array(String)", ("BS",)),
    ("Array(Int64)", ("NS",)),
    ("Array(Decimal(38, 10))", ("NS", "L")),
    ("Array(Nullable(Int8))", ("L",)),
    ("Array(Nullable(String))", ("L",)),
    ("Array(Bool)", ("L",)),
    ("Array(Float64)", ("NS",)),
    ("Array(Array(Int64))", ("L",)),
    ("Array(DateTime64(3))", ("SS",)),
    ("Map(String, String)", ("M",)),
    ("Map(String, Nullable(Int64))", ("M",)),
    ("Map(LowCardinality(String), Array(String))", ("M",)),
    ("JSON", ("M",)),
]


def wide_table(*, spill: str = "_spill") -> TableSpec:
    """Return a table with a column of every type, for every DynamoDB type that it can hold, and columns of paths."""
    keys = (KeyAttribute("k_s", "S"), KeyAttribute("k_n", "N"))
    columns = [
        ColumnSpec("k_s", "String", ("k_s",), ("S",), key=True),
        ColumnSpec("k_n", "Decimal(38, 10)", ("k_n",), ("N",), key=True),
    ]
    kinds = [*SCALAR_COLUMNS, *OTHER_COLUMNS]
    for index, (kind, takes) in enumerate(kinds):
        if kind == "JSON" and not spill:
            continue
        columns.append(ColumnSpec(f"c{index}", kind, (f"a{index}",), takes))
        if index < len(SCALAR_COLUMNS) and "LowCardinality" not in kind:
            columns.append(ColumnSpec(f"n{index}", f"Nullable({kind})", (f"b{index}",), takes))
    columns += [
        ColumnSpec("m_x", "Nullable(String)", ("m", "x"), ("S",)),
        ColumnSpec("m_y", "Nullable(Int8)", ("m", "y"), ("N",)),
        ColumnSpec("m_z_w", "Array(String)", ("m", "z", "w"), ("SS",)),
        ColumnSpec("m_z_v", "Nullable(String)", ("m", "z", "v"), ("M",)),
        ColumnSpec("k_again", "Nullable(Int64)", ("k_n",), ("N",)),
        ColumnSpec("p", "Nullable(String)", ("p",), ("M",)),
        ColumnSpec("p_x", "Nullable(Int8)", ("p", "x"), ("N",)),
    ]
    return TableSpec("wide", "wide", keys, tuple(columns), spill_column=spill)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
moments = st.datetimes(datetime.datetime(1890, 1, 1), datetime.datetime(2310, 1, 1))  # noqa: DTZ001 - UTC by meaning
hints = st.one_of(
    texts,
    st.sampled_from(
        ["", "a", "c'd", "abcd", "\0\0\0\0", "1", "é😀", "'\\`\"", "\x7f\x00\n", "0.0.0.0", "::", "::ffff:1.2.3.4"]
    ),
    st.sampled_from(["1970-01-01", "1900-01-01", "2024-02-31", "2149-06-07", "2024-2-1", "1970-01-01T00:00:00Z"]),
    st.uuids().map(str),
    st.uuids().map(lambda found: str(found).upper()),
    moments.map(lambda at: at.date().isoformat()),
    moments.map(lambda at: at.replace(microsecond=0).isoformat() + "Z"),
    moments.map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    moments.map(lambda at: at.isoformat(timespec="microseconds") + "Z"),
    moments.map(lambda at: at.isoformat(timespec="microseconds") + "789Z"),
    moments.map(lambda at: at.isoformat(timespec="milliseconds") + "+02:00"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
EDGES = [
    0,
    -1,
    1,
    *(sign * 2**bits + off for bits in (7, 8, 15, 16, 31, 32, 63, 64, 127) for sign in (-1, 1) for off in (-1, 0, 1)),
]


def _in_range(number: str) -> bool:
    found = Decimal(number)
    return not found or (-130 <= found.adjusted() <= 125 and len(found.normalize().as_tuple().digits) <= 38)


numbers = st.one_of(
    st.sampled_from(EDGES).filter(lambda edge: len(str(abs(edge))) <= 38).map(str),
    st.integers(-400, 400).map(str),
    st.sampled_from(
        ["0.1", "-0", "1E-130", "9.99E+125", "-9.99E+125", "1" * 38, "0." + "1" * 38, "16777217", "1e22", "12.70"]
    ),
    st.decimals(-(10**9), 10**9, places=2).map(str),
    st.floats(-1e9, 1e9, allow_nan=False).map(lambda found: format(Decimal(repr(found)), "f")),
    st.builds(
        lambda sign, digits, exponent: f"{sign}{digits}E{exponent}",
        st.sampled_from(["", "-"]),
        st.integers(1, 10**38 - 1),
        st.integers(-130, 87),
    ),
    st.builds(lambda at, digits: f"{at.timestamp():.{digits}f}", moments, st.integers(0, 3)),
).filter(_in_range)
binaries = st.binary(max_size=6).map(lambda found: base64.b64encode(found).decode())
names = st.one_of(texts, st.sampled_from(["x", "y", "z", "w", "v", "a.b", "S", "M", "_spill", "`"]))


def some(members: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(members, max_size=4, unique=True)


scalars = st.one_of(
    hints.map(lambda found: {"S": found}),
    numbers.map(lambda found: {"N": found}),
    binaries.map(lambda found: {"B": found}),
    st.booleans().map(lambda found: {"BOOL": found}),
    st.just({"NULL": True}),
    some(hints).map(lambda found: {"SS": found}),
    some(numbers).map(lambda found: {"NS": found}),
    some(binaries).map(lambda found: {"BS": found}),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda found: {"L": found}),
        st.lists(st.integers(-200, 200), max_size=3).map(lambda found: {"L": [{"N": str(each)} for each in found]}),
        st.dictionaries(names, inner, max_size=4).map(lambda found: {"M": found}),
        st.fixed_dictionaries({}, optional={name: inner for name in "xyz"}).map(lambda found: {"M": found}),
    ),
    max_leaves=8,
)


def _moment_text(node: TypeNode) -> st.SearchStrategy[str]:
    digits = 0 if node.name == "DateTime" else node.numbers[0]
    return moments.map(lambda at: at.isoformat(timespec="microseconds") + "789").map(
        lambda found: found[: 20 + digits if digits else 19] + "Z"
    )


def likely(node: TypeNode, tag: str) -> st.SearchStrategy[Any]:
    """Values of one DynamoDB type, such as a column of this ClickHouse type may well hold."""
    if tag in ("SS", "NS", "BS"):
        inner = node.arguments[0] if node.name == "Array" else TypeNode("String")
        return some(likely(inner, tag[0]).map(lambda found: found[tag[0]])).map(lambda found: {tag: found})
    if tag == "L":
        elements = _elements(node.arguments[0]) if node.name == "Array" else scalars
        return st.lists(elements, max_size=4).map(lambda found: {"L": found})
    if tag == "M":
        elements = _elements(node.arguments[1]) if node.name == "Map" else values
        return st.dictionaries(names, elements, max_size=4).map(lambda found: {"M": found})
    payloads: dict[str, st.SearchStrategy[Any]] = {
        "S": _texts_for(node),
        "N": st.one_of(numbers, st.integers(-130, 130).map(str)),
        "B": binaries,
        "BOOL": st.booleans(),
    }
    return payloads[tag].map(lambda found: {tag: found})


def _texts_for(node: TypeNode) -> st.SearchStrategy[str]:
    kinds: dict[str, st.SearchStrategy[str]] = {
        "FixedString": st.sampled_from(["abcd", "é12", "😀", "a\0\0\0"]),
        "UUID": st.uuids().map(str),
        "Date": moments.map(lambda at: at.date().isoformat()),
        "Date32": moments.map(lambda at: at.date().isoformat()),
        "IPv4": st.ip_addresses(v=4).map(str),
        "IPv6": st.ip_addresses(v=6).map(str),
    }
    if node.name.startswith("DateTime"):
        return _moment_text(node)
    if node.name.startswith("Enum"):
        return st.sampled_from(node.texts)
    return kinds.get(node.name, hints)


def _elements(node: TypeNode) -> st.SearchStrategy[Any]:
    tag = "L" if node.name == "Array" else compile_type(node.name).own if node.name != "Decimal" else "N"
    found = likely(node, tag)
    return st.one_of(found, found, st.just({"NULL": True})) if node.nullable else found


@st.composite
def items(draw: st.DrawFn, spec: TableSpec) -> dict[str, Any]:
    """An item of a table: a few of its attributes, mostly of the type their column takes, and some without a column."""
    item: dict[str, Any] = {
        "k_s": {"S": draw(texts)},
        "k_n": {"N": draw(st.decimals(-(10**20), 10**20, places=3).map(str))},
    }
    columns = [column for column in spec.columns if not column.key and column.name != "k_again"]
    for column in draw(st.lists(st.sampled_from(columns), max_size=12, unique_by=lambda column: column.name)):
        fitting = likely(parse_type(column.type), draw(st.sampled_from(column.takes)))
        if len(column.path) == 1:
            item[column.path[0]] = draw(st.one_of(fitting, fitting, values))
    if draw(st.booleans()):
        small = st.integers(-130, 130).map(lambda found: {"N": str(found)})
        leaves: dict[str, Any] = {"x": hints.map(lambda found: {"S": found}), "y": small}
        deeper = {"w": likely(TypeNode("Array", (TypeNode("String"),)), "SS"), "v": likely(TypeNode("String"), "M")}
        leaves["z"] = st.fixed_dictionaries({}, optional=deeper).map(lambda found: {"M": found})
        item["m"] = {"M": draw(st.fixed_dictionaries({}, optional=leaves))}
        item["p"] = {"M": draw(st.fixed_dictionaries({}, optional={"x": small, "y": values}))}
    item.update({f"other_{name}": value for name, value in draw(st.dictionaries(names, values, max_size=2)).items()})
    return item


def shown(kind: str, cell: Any) -> str | None:
    """Return what the readback expression shows of a cell, and check that the server would not have bent it."""
    node = parse_type(kind)
    found = _shown(node, cell)
    return found if found is None or isinstance(found, str) else json.dumps(found)


def _shown(node: TypeNode, cell: Any) -> Any:
    if cell is None:
        assert node.nullable
        return None
    if node.name == "Array":
        return [_shown(node.arguments[0], each) for each in cell]
    if node.name == "Map":
        return {name: _shown(node.arguments[1], each) for name, each in cell.items()}
    if node.name == "JSON":
        return "{}"
    if node.name == "Bool":
        assert isinstance(cell, bool)
        return str(cell).lower()
    assert isinstance(cell, str)
    return _shown_text(node, cell)


def shortest(value: float, kind: str) -> str:
    """Return the text by which ClickHouse shows a float."""
    if kind == "Float64":
        return repr(value)
    stored = struct.pack("f", value)
    return next(
        text for text in (f"{value:.{digits}g}" for digits in range(1, 10)) if struct.pack("f", float(text)) == stored
    )


def _shown_text(node: TypeNode, cell: str) -> str:
    name = node.name
    if "Int" in name:
        bits = int(name.partition("Int")[2])
        low, high = (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert cell == str(int(cell)) and low <= int(cell) <= high
    elif name == "Decimal":
        assert "E" not in cell and Decimal(cell).as_tuple().exponent >= -node.numbers[1]  # type: ignore[operator]
        assert Decimal(cell).copy_abs() < Decimal(10) ** (node.numbers[0] - node.numbers[1])
    elif name in ("Float32", "Float64"):
        found = read_float(cell, name)  # type: ignore[arg-type]
        nearest = float(cell)
        assert found == (nearest if name == "Float64" else struct.unpack("f", struct.pack("f", nearest))[0])
        return shortest(found, name)
    elif name in ("Date", "Date32"):
        datetime.date.fromisoformat(cell)
    elif name.startswith("DateTime"):
        digits = node.numbers[0] if node.numbers else 0
        assert len(cell) == len("1970-01-01T00:00:00Z") + (digits + 1 if digits else 0) and cell.endswith("Z")
        datetime.datetime.fromisoformat(cell[:19])
        assert cell >= "1970" or not cell[19:-1].strip(".0"), "servers before 26.1 read such a fraction wrong"
        return cell[:-1].replace("T", " ")
    elif name.startswith("Enum"):
        assert cell in node.texts
    elif name == "FixedString":
        assert not cell or len(cell.encode()) == node.numbers[0]
    elif name.startswith("IPv"):
        ipaddress.ip_address(cell)
    return cell


def columns_of(cells: list[bytes]) -> list[list[Any]]:
    """Parse a block's cells, and check that the sink may pass them through orjson."""
    found = []
    for cell in cells:
        column = orjson.loads(b"[" + cell + b"]")
        assert orjson.dumps(column)[1:-1] == cell
        found.append(column)
    return found

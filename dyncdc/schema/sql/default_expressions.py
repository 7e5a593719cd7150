"""DEFAULT expressions: what a column added over the spill shows for rows that were written before it. Pure text.

Each gives what the decoder would have put into the column, or NULL (or the column's default) where it would not have,
and also where ClickHouse cannot say it exactly: the value is in the spill then. None ever raises: it runs in inserts.
"""

from __future__ import annotations

from typing import Final

from dyncdc.schema.naming import ELEMENT
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.types.datetimes import DATETIME64_RANGE, NANOSECOND_RANGE, UNIT_PLACES
from dyncdc.schema.types.type_parser import TypeNode, parse_type

from .quoting import quote_name, quote_text

JSON_LEVELS: Final = 12
"""Maps and lists inside each other that become JSON text; older rows with deeper ones show NULL. Each level costs
0.2 KB of the table's definition."""

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_INSIDE: Final = rf"(?:[^{{}}\[\]\"]|{_STRING})*"
_SETS: Final = rf'\{{"[SB]S":\[({_INSIDE})\]\}}'
_SCALARS: Final = rf'\{{"(?:[SB]":({_STRING})|N":"([^"]*)"|BOOL":(true|false))\}}'
_MAP: Final = rf'\{{"M":\{{({_INSIDE})\}}\}}'
_LIST: Final = rf'\{{"L":\[({_INSIDE})\]\}}'

_SET_ELEMENTS: Final = {"SS": "S", "NS": "N", "BS": "B"}
_TEXT_TAGS: Final = frozenset({"S", "N", "B"})
_MOMENT: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,18})?Z\\z"
_UNSURE: Final = "'\\\\u'"
"""The escape that orjson and ClickHouse may write in different ways: a JSON text that has one is left in the spill."""


def place_in_spill(path: tuple[str, ...], spill: str) -> str:
    """Return the arguments by which JSON functions find an attribute's typed value in the spill column."""
    steps: list[str] = [path[0]]
    for name in path[1:]:
        steps += ["M", name]
    return ", ".join([quote_name(spill), *map(quote_text, steps)])


def default_expression(column: ColumnSpec, spill: str, beside: ColumnSpec | None = None) -> str | None:
    """Return the expression for an attribute's column over the spill column ``spill``; None when there is none.

    ``column.takes`` beyond the first type is left in the spill. ``beside``: another column that takes the same
    attribute; what it holds is not in the spill.
    """
    node, tag = parse_type(column.type), column.takes[0]
    place = place_in_spill(column.path, spill)
    if beside is not None:
        held = _held(beside, tag)
        found = (
            None if held is None or column.encoding else _scalar(node, tag, f"coalesce({_payload(place, tag)}, {held})")
        )
        return _never_null(found, node, column.type)
    if column.encoding:
        return _encoded(column, node, place)
    return _column(node, tag, place, column.type)


def _held(column: ColumnSpec, tag: str) -> str | None:
    """The payload that another column holds, as the spill would have it: NULL must mean that it holds none."""
    node, name = parse_type(column.type), quote_name(column.name)
    if column.encoding or column.takes != (tag,) or not node.nullable:
        return None
    whole = node.name.startswith(("Int", "UInt", "Decimal")) if tag == "N" else node.name == "String"
    return f"toString({name})" if whole and tag in ("N", "S") else None


def _never_null(found: str | None, node: TypeNode, kind: str) -> str | None:
    if found is None or node.nullable:
        return found
    return f"ifNull({found}, defaultValueOfTypeName({quote_text(kind)}))"


def _encoded(column: ColumnSpec, node: TypeNode, place: str) -> str | None:
    if column.encoding in UNIT_PLACES:
        return _never_null(
            _of_number(node, _in_seconds(_payload(place, "N"), UNIT_PLACES[column.encoding])), node, column.type
        )
    if node.name != "String":
        return None
    if column.encoding == "raw":
        payload = _payload(place, "B")
        found = f"if(isNull({payload}), NULL, base64Decode(ifNull({payload}, '')))"
    else:
        raw = f"JSONExtractRaw({place})"
        known = " OR ".join(f"JSONHas({place}, '{tag}')" for tag in column.takes)
        found = f"if(({known}) AND position({raw}, {_UNSURE}) = 0, {raw}, NULL)"
    return found if node.nullable else f"ifNull({found}, '')"


def _column(node: TypeNode, tag: str, place: str, kind: str) -> str | None:
    if node.name == "Array":
        return _array(node, tag, place)
    if node.name == "Map":
        return _map(node, tag, place)
    if node.name == "String" and tag in ("M", "L", *_SET_ELEMENTS):
        found: str | None = _json_text(f"JSONExtractRaw({place})", tag)
    else:
        found = _scalar(node, tag, _payload(place, tag))
    return _never_null(found, node, kind)


def _payload(place: str, tag: str) -> str:
    """The payload of a typed value: its text, or a Bool; NULL where there is none of this type."""
    kind = "Nullable(Bool)" if tag == "BOOL" else "Nullable(String)"
    return f"JSONExtract({place}, '{tag}', '{kind}')"


def _array(node: TypeNode, tag: str, place: str) -> str | None:
    inner = node.arguments[0]
    if tag in _SET_ELEMENTS:
        members = f"JSONExtract({place}, '{tag}', 'Array(String)')"
        if inner.name == "String" and not inner.nullable:
            return members
        value, extra = _scalar(inner, _SET_ELEMENTS[tag], ELEMENT), ""
    else:
        members = f"JSONExtractArrayRaw({place}, 'L')"
        value, extra = _element(inner)
    if tag not in (*_SET_ELEMENTS, "L") or value is None:
        return None
    kept = value if inner.nullable else f"assumeNotNull({value})"
    misfit = f"arrayExists({ELEMENT} -> isNull({value}){extra}, {members})"
    return f"if({misfit}, [], arrayMap({ELEMENT} -> {kept}, {members}))"


def _map(node: TypeNode, tag: str, place: str) -> str | None:
    inner = node.arguments[1]
    value, extra = _element(inner)
    if tag != "M" or value is None or node.arguments[0].name != "String":
        return None
    entries = f"JSONExtractKeysAndValuesRaw({place}, 'M')"
    values = f"arrayMap({ELEMENT} -> {ELEMENT}.2, {entries})"
    kept = value if inner.nullable else f"assumeNotNull({value})"
    fitting = f"if(arrayExists({ELEMENT} -> isNull({value}){extra}, {values}), [], {entries})"
    keys, raws = (f"arrayMap({ELEMENT} -> {ELEMENT}.{part}, {fitting})" for part in (1, 2))
    return f"mapFromArrays({keys}, arrayMap({ELEMENT} -> {kept}, {raws}))"


def _element(inner: TypeNode) -> tuple[str | None, str]:
    """The value of one element, raw typed JSON, and what else must hold for it to be a misfit."""
    if inner.name in ("Array", "Map"):
        return None, ""
    numeric = inner.name.startswith(("Int", "UInt", "Decimal", "Float"))
    own = "BOOL" if inner.name == "Bool" else "N" if numeric else "S"
    extra = f" AND NOT JSONHas({ELEMENT}, 'NULL')" if inner.nullable else ""
    return _scalar(inner, own, _payload(ELEMENT, own)), extra


def _scalar(node: TypeNode, tag: str, x: str) -> str | None:
    """The value of a scalar column, NULL for a misfit; ``x`` is the payload."""
    if tag == "BOOL":
        return {"Bool": x, "String": f"toString({x})", "UInt8": f"CAST({x} AS Nullable(UInt8))"}.get(node.name)
    if tag not in _TEXT_TAGS:
        return None
    if node.name == "String":
        return x
    return _of_number(node, x) if tag == "N" else _of_text(node, x) if tag == "S" else None


def _same(value: str, x: str) -> str:
    """A value only if it is written exactly as it came."""
    return f"if(toString({value}) = {x}, {value}, NULL)"


def _of_number(node: TypeNode, x: str) -> str | None:
    if node.name.startswith(("Int", "UInt")):
        return _same(f"to{node.name}OrNull({x})", x)
    if node.name.startswith("Decimal"):
        return _decimal(node, x)
    if node.name in ("Float32", "Float64"):
        value = f"JSONExtract(concat('[', {x}, ']'), 1, 'Nullable(Float64)')"
        value = value if node.name == "Float64" else f"toFloat32({value})"
        return f"if(({value} = 0) = ({x} = '0') AND isFinite({value}), {value}, NULL)"
    if node.name == "Bool":
        return f"multiIf({x} = '0', CAST(false AS Nullable(Bool)), {x} = '1', true, NULL)"
    if node.name == "DateTime":
        seconds = f"toUInt32OrNull({x})"
        return f"if(toString({seconds}) = {x}, toDateTime({seconds}, 'UTC'), NULL)"
    return _seconds(node, x) if node.name == "DateTime64" else None


def _seconds(node: TypeNode, x: str) -> str:
    digits = node.numbers[0] if node.numbers else 3
    low, high = NANOSECOND_RANGE if digits > 8 else DATETIME64_RANGE
    value = f"toDecimal64OrNull({x}, {digits})"
    fraction = f"([.][0-9]{{1,{digits}}})?" if digits else ""
    fits = f"match({x}, '^-?(0|[1-9][0-9]{{0,11}}){fraction}\\\\z') AND {value} >= {low} AND {value} < {high + 1}"
    value = f"if({value} < 0, floor({value}), {value})" if digits else value  # before 1970, whole seconds only
    return f"if({fits}, CAST({value} AS Nullable(DateTime64({digits}, 'UTC'))), NULL)"


def _in_seconds(x: str, places: int) -> str:
    """Whole numbers of a smaller unit as canonical seconds, NULL for any other."""
    padded = f"leftPad({x}, greatest(length({x}), {places + 1}), '0')"
    moved = f"concat(substring({padded}, 1, length({padded}) - {places}), '.', right({padded}, {places}))"
    return f"if(match({x}, '^(0|[1-9][0-9]{{0,17}})\\\\z'), replaceRegexpOne({moved}, '[.]?0+\\\\z', ''), NULL)"


def _decimal(node: TypeNode, x: str) -> str | None:
    widths = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
    given = (widths[node.name], *node.numbers) if node.name in widths else node.numbers
    precision, scale = (*given, 0)[:2]
    whole, fraction = precision - scale, f"([.][0-9]{{1,{scale}}})?" if scale else ""
    digits = f"(0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    bits = next(bits for bits, most in ((32, 9), (64, 18), (128, 38), (256, 76)) if precision <= most)
    return f"if(match({x}, '^-?{digits}{fraction}\\\\z'), toDecimal{bits}OrNull({x}, {scale}), NULL)"


def _of_text(node: TypeNode, x: str) -> str | None:
    if node.name == "Date32":
        return f"if(substring({x}, 1, 4) BETWEEN '1900' AND '2299', {_same(f'toDate32OrNull({x})', x)}, NULL)"
    if node.name == "FixedString":
        fits = f"ifNull(length({x}) = {node.numbers[0]} AND NOT endsWith({x}, '\\0'), 0)"
        return f"if({fits}, CAST(if({fits}, {x}, '') AS Nullable(FixedString({node.numbers[0]}))), NULL)"
    if node.name == "UUID":
        return _same(f"toUUIDOrNull({x})", f"lower({x})")
    if node.name in ("IPv4", "Date"):
        return _same(f"to{node.name}OrNull({x})", x)
    if node.name == "IPv6":
        return f"if(position({x}, '.') = 0, {_same(f'toIPv6OrNull({x})', f'lower({x})')}, NULL)"
    if node.name.startswith("Enum"):
        return _enum(node, x)
    if node.name in ("DateTime", "DateTime64"):
        return _moment(node, x)
    return None


def _enum(node: TypeNode, x: str) -> str:
    names = ", ".join(map(quote_text, node.texts))
    values = ", ".join(f"{quote_text(name)} = {value}" for name, value in zip(node.texts, node.numbers, strict=True))
    known = f"ifNull({x} IN ({names}), 0)"
    # an unknown name would raise, also where its result is not taken
    return f"if({known}, CAST(if({known}, {x}, {quote_text(node.texts[0])}) AS Nullable({node.name}({values}))), NULL)"


def _moment(node: TypeNode, x: str) -> str:
    digits = 0 if node.name == "DateTime" else node.numbers[0] if node.numbers else 3
    whole = f"concat(substring({x}, 1, 10), ' ', substring({x}, 12, 8)"
    if node.name == "DateTime":
        value, text = f"parseDateTimeBestEffortOrNull({x}, 'UTC')", f"{whole})"
    else:
        # before 1970 a column has whole seconds only
        known = f"replaceRegexpOne({x}, '^(19[0-6].{{16}})[.][0-9]+Z\\\\z', '\\\\1Z')"
        value = f"parseDateTime64BestEffortOrNull({known}, {digits}, 'UTC')"
        fraction = f"rightPad(substring(replaceOne({known}, 'Z', ''), 21, {digits}), {digits}, '0')"
        text = f"{whole}, '.', {fraction})" if digits else f"{whole})"
    rest = f"match(substring({x}, {21 + digits}), '^[.]?0*Z?\\\\z')"
    years = f"substring({x}, 1, 4) BETWEEN '1900' AND '{2261 if digits > 8 else 2299}'"
    return f"if(match({x}, {quote_text(_MOMENT)}) AND {years} AND {rest} AND toString({value}) = {text}, {value}, NULL)"


def _json_text(raw: str, tag: str) -> str:
    """Plain JSON text of a typed value, as ``dynamodb_values.plain_text`` writes it; NULL where that is not sure.

    There are no recursive expressions, so the types are taken off from the inside out, scalars first, then one level of
    maps and lists a step. What is done has control characters for its brackets: raw JSON has none, and so no key of a
    map can be mistaken for a type.
    """
    text = f"replaceAll({raw}, '{{\"NULL\":true}}', '\\x05')"
    text = f"replaceRegexpAll({text}, {quote_text(_SETS)}, '\\x03\\\\1\\x04')"
    text = f"replaceRegexpAll({text}, {quote_text(_SCALARS)}, '\\\\1\\\\2\\\\3')"
    for _ in range(JSON_LEVELS):
        text = f"replaceRegexpAll({text}, {quote_text(_MAP)}, '\\x01\\\\1\\x02')"
        text = f"replaceRegexpAll({text}, {quote_text(_LIST)}, '\\x03\\\\1\\x04')"
    done = f"extract({text}, '(?s)^[\\x01\\x03].*')"  # nothing, where there were more levels
    plain = f"replaceAll(translate({done}, '\\x01\\x02\\x03\\x04', '{{}}[]'), '\\x05', 'null')"
    if tag == "NS":
        return _number_set_text(raw)
    sure = f"position({raw}, {_UNSURE}) = 0 AND position({raw}, '{{\"NS\":[') = 0"
    return f"if(startsWith({raw}, '{{\"{tag}\":') AND {sure}, nullIf({plain}, ''), NULL)"


def _number_set_text(raw: str) -> str:
    numbers = f"JSONExtract({raw}, 'NS', 'Array(String)')"
    return f"if(JSONHas({raw}, 'NS'), concat('[', arrayStringConcat({numbers}, ','), ']'), NULL)"

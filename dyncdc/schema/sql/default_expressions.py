"""DEFAULT expressions: what a column added over the spill shows for rows that were written before it. Pure text.

Each gives what the decoder would have put into the column, or NULL (or the column's default) where it would not have,
and also where ClickHouse cannot say it exactly: the value is in the spill then. None ever raises: it runs in inserts.
The family of a type makes its expression; this module adds what depends on the column.
"""

from __future__ import annotations

from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.types.encodings import UNIT_PLACES
from dyncdc.schema.types.families import FAMILIES
from dyncdc.schema.types.families.expressions import UNSURE_ESCAPE, payload_of
from dyncdc.schema.types.type_parser import TypeNode, parse_type

from .quoting import quote_name, quote_text


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
    family = FAMILIES.get(node.name)
    if family is None:
        return None
    place = place_in_spill(column.path, spill)
    if beside is not None:
        held = _held(beside, tag)
        if held is None or column.encoding:
            return None
        found = family.expression(node, tag, f"coalesce({payload_of(place, tag)}, {held})")
        return _never_null(found, node, column.type)
    if column.encoding:
        return _encoded(column, node, place)
    found = family.spill_expression(node, tag, place)
    return _never_null(found, node, column.type) if family.can_be_null else found


def _held(column: ColumnSpec, tag: str) -> str | None:
    """The payload that another column holds, as the spill would have it: NULL must mean that it holds none."""
    node = parse_type(column.type)
    family = FAMILIES.get(node.name)
    if family is None or family.text_holds != tag or column.encoding or column.takes != (tag,) or not node.nullable:
        return None
    return f"toString({quote_name(column.name)})"


def _never_null(found: str | None, node: TypeNode, kind: str) -> str | None:
    if found is None or node.nullable:
        return found
    return f"ifNull({found}, defaultValueOfTypeName({quote_text(kind)}))"


def _encoded(column: ColumnSpec, node: TypeNode, place: str) -> str | None:
    if column.encoding in UNIT_PLACES:
        seconds = _in_seconds(payload_of(place, "N"), UNIT_PLACES[column.encoding])
        return _never_null(FAMILIES[node.name].expression(node, "N", seconds), node, column.type)
    if node.name != "String":
        return None
    if column.encoding == "raw":
        payload = payload_of(place, "B")
        found = f"if(isNull({payload}), NULL, base64Decode(ifNull({payload}, '')))"
    else:
        raw = f"JSONExtractRaw({place})"
        known = " OR ".join(f"JSONHas({place}, '{tag}')" for tag in column.takes)
        found = f"if(({known}) AND position({raw}, {UNSURE_ESCAPE}) = 0, {raw}, NULL)"
    return found if node.nullable else f"ifNull({found}, '')"


def _in_seconds(x: str, places: int) -> str:
    """Whole numbers of a smaller unit as canonical seconds, NULL for any other."""
    padded = f"leftPad({x}, greatest(length({x}), {places + 1}), '0')"
    moved = f"concat(substring({padded}, 1, length({padded}) - {places}), '.', right({padded}, {places}))"
    return f"if(match({x}, '^(0|[1-9][0-9]{{0,17}})\\\\z'), replaceRegexpOne({moved}, '[.]?0+\\\\z', ''), NULL)"

"""String, FixedString and Enum."""

from __future__ import annotations

from typing import ClassVar, Final

import orjson

from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.table_spec import AttributeType
from dyncdc.schema.types.cells import Encoder, Encoders, Inexact, quoted
from dyncdc.schema.types.dynamodb_values import boolean, canonical_base64, canonical_number, plain_text, text
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import UNSURE_ESCAPE
from .family import CompiledKind, Family, KindName

JSON_LEVELS: Final = 12
"""Maps and lists inside each other that become JSON text; older rows with deeper ones show NULL. Each level costs
0.2 KB of the table's definition."""

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_INSIDE: Final = rf"(?:[^{{}}\[\]\"]|{_STRING})*"
_SETS: Final = rf'\{{"[SB]S":\[({_INSIDE})\]\}}'
_SCALARS: Final = rf'\{{"(?:[SB]":({_STRING})|N":"([^"]*)"|BOOL":(true|false))\}}'
_MAP: Final = rf'\{{"M":\{{({_INSIDE})\}}\}}'
_LIST: Final = rf'\{{"L":\[({_INSIDE})\]\}}'


def text_cell(payload: object) -> bytes:
    """S into a String."""
    return orjson.dumps(text(payload))


def number_text_cell(payload: object) -> bytes:
    """N into a String, as canonical text."""
    return quoted(canonical_number(payload))


def base64_cell(payload: object) -> bytes:
    """B into a String, as base64: raw bytes cannot travel in JSON."""
    return quoted(canonical_base64(payload))


def boolean_text_cell(payload: object) -> bytes:
    """BOOL into a String."""
    return b'"true"' if boolean(payload) else b'"false"'


def json_text_encoder(tag: str) -> Encoder:
    """M, L or a set into a String, as plain JSON text."""

    def encode(payload: object) -> bytes | None:
        plain, exact = plain_text(tag, payload)
        cell = orjson.dumps(plain)
        return cell if exact else Inexact(cell)

    return encode


class String(Family):
    """String, which takes every DynamoDB type: numbers, binary and documents as text."""

    text_holds = "S"
    _ENCODERS: ClassVar[Encoders] = {
        "S": text_cell,
        "N": number_text_cell,
        "B": base64_cell,
        "BOOL": boolean_text_cell,
        **{tag: json_text_encoder(tag) for tag in ("M", "L", "SS", "NS", "BS")},
    }
    _KINDS: ClassVar[dict[str, tuple[KindName, AttributeType]]] = {
        "S": ("text", "S"),
        "N": ("number", "N"),
        "B": ("base64", "B"),
        "M": ("plain", "M"),
        "L": ("plain", "L"),
    }

    def encoders(self, node: TypeNode) -> Encoders:
        """Take every type."""
        return self._ENCODERS

    def default(self, node: TypeNode) -> bytes:
        """The empty text."""
        return b'""'

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S, N, B and BOOL."""
        if tag == "BOOL":
            return f"toString({x})"
        return x if tag in ("S", "N", "B") else None

    def spill_expression(self, node: TypeNode, tag: str, place: str) -> str | None:
        """From M, L and sets, too."""
        if tag in ("M", "L", "SS", "NS", "BS"):
            return _json_text(f"JSONExtractRaw({place})", tag)
        return super().spill_expression(node, tag, place)

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For all but BOOL and sets."""
        found = self._KINDS.get(tag)
        return CompiledKind(found[0], (found[1],)) if found is not None else None


class FixedString(Family):
    """FixedString(n): only text of exactly that length that does not end in the zeros that it is padded with."""

    def encoders(self, node: TypeNode) -> Encoders | None:
        """Take S."""
        if len(node.numbers) != 1 or node.numbers[0] < 1:
            return None
        return {"S": fixed_string_encoder(node.numbers[0])}

    def default(self, node: TypeNode) -> bytes:
        """The empty text, which ClickHouse pads."""
        return b'""'

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S."""
        if tag != "S":
            return None
        nbytes = node.numbers[0]
        fits = f"ifNull(length({x}) = {nbytes} AND NOT endsWith({x}, '\\0'), 0)"
        return f"if({fits}, CAST(if({fits}, {x}, '') AS Nullable(FixedString({nbytes}))), NULL)"


class Enum(Family):
    """Enum8 and Enum16: one of its names."""

    shown_default = "the Enum's first name"

    def encoders(self, node: TypeNode) -> Encoders | None:
        """Take S."""
        if not node.texts or len(node.texts) != len(node.numbers):
            return None  # an Enum without values never comes from system.columns
        return {"S": enum_encoder(node.texts)}

    def default(self, node: TypeNode) -> bytes:
        """The name of 0, else of the least value."""
        values = dict(zip(node.numbers, node.texts, strict=True))
        return orjson.dumps(values[0] if 0 in values else values[min(values)])

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S."""
        if tag != "S":
            return None
        names = ", ".join(map(quote_text, node.texts))
        pairs = zip(node.texts, node.numbers, strict=True)
        values = ", ".join(f"{quote_text(name)} = {value}" for name, value in pairs)
        known = f"ifNull({x} IN ({names}), 0)"
        # an unknown name would raise, also where its result is not taken
        name = f"if({known}, {x}, {quote_text(node.texts[0])})"
        return f"if({known}, CAST({name} AS Nullable({node.name}({values}))), NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        if tag != "S":
            return None
        return CompiledKind("checked", ("S",), check=frozenset(name.encode() for name in node.texts).__contains__)


def fixed_string_encoder(nbytes: int) -> Encoder:
    """S into a FixedString."""

    def encode(payload: object) -> bytes | None:
        raw = text(payload).encode()
        return text_cell(payload) if len(raw) == nbytes and not raw.endswith(b"\0") else None

    return encode


def enum_encoder(names: tuple[str, ...]) -> Encoder:
    """S into an Enum."""
    cells = {name: orjson.dumps(name) for name in names}

    def encode(payload: object) -> bytes | None:
        return cells.get(text(payload))

    return encode


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
    sure = f"position({raw}, {UNSURE_ESCAPE}) = 0 AND position({raw}, '{{\"NS\":[') = 0"
    return f"if(startsWith({raw}, '{{\"{tag}\":') AND {sure}, nullIf({plain}, ''), NULL)"


def _number_set_text(raw: str) -> str:
    numbers = f"JSONExtract({raw}, 'NS', 'Array(String)')"
    return f"if(JSONHas({raw}, 'NS'), concat('[', arrayStringConcat({numbers}, ','), ']'), NULL)"


FAMILIES: Final = {"String": String(), "FixedString": FixedString(), "Enum8": Enum(), "Enum16": Enum()}

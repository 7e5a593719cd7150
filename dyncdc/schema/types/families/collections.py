"""Array, Map and JSON. Arrays and maps hold what the family of their elements says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from dyncdc.errors import ConfigError
from dyncdc.schema.naming import ELEMENT
from dyncdc.schema.table_spec import AttributeType
from dyncdc.schema.types.cells import Encoder, Inexact, Rounded
from dyncdc.schema.types.dynamodb_values import binary_set, elements, entries, number_set, string_set, unpack
from dyncdc.schema.types.json_documents import json_encoder
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import payload_of
from .family import Codec, CompiledKind, Families, Family, node_codec

_SET_ELEMENTS: Final = {"SS": "S", "NS": "N", "BS": "B"}
_SET_MEMBERS: Final[dict[str, Callable[[object], list[str]]]] = {"SS": string_set, "NS": number_set, "BS": binary_set}
_SETS: Final[dict[str, AttributeType]] = {"S": "SS", "N": "NS"}
"""The set that an Array stands for, by what its elements stand for; any other stands for L."""


class Array(Family):
    """Array(T), of L and, where T takes their members, of sets."""

    can_be_null = False

    def __init__(self, families: Families) -> None:
        self._families = families

    def codec(self, node: TypeNode, text: str) -> Codec | None:
        """Take L and sets."""
        if len(node.arguments) != 1:
            return None
        inner = node_codec(node.arguments[0], text, self._families)
        encoders: dict[str, Encoder] = {"L": _list_encoder(inner)}
        for tag, element in _SET_ELEMENTS.items():
            if element in inner.encoders:
                encoders[tag] = _set_encoder(_SET_MEMBERS[tag], inner.encoders[element])
        return Codec(node, b"[]", encoders, _SETS.get(inner.own, "L"), False)

    def spill_expression(self, node: TypeNode, tag: str, place: str) -> str | None:
        """From L and sets: the whole array, or an empty one where any element does not fit."""
        inner = node.arguments[0]
        if tag in _SET_ELEMENTS:
            members = f"JSONExtract({place}, '{tag}', 'Array(String)')"
            if inner.name == "String" and not inner.nullable:
                return members
            family = self._families.get(inner.name)
            value = family.expression(inner, _SET_ELEMENTS[tag], ELEMENT) if family is not None else None
            extra = ""
        else:
            members = f"JSONExtractArrayRaw({place}, 'L')"
            value, extra = _element_expression(inner, self._families)
        if tag not in (*_SET_ELEMENTS, "L") or value is None:
            return None
        kept = value if inner.nullable else f"assumeNotNull({value})"
        misfit = f"arrayExists({ELEMENT} -> isNull({value}){extra}, {members})"
        return f"if({misfit}, [], arrayMap({ELEMENT} -> {kept}, {members}))"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For SS into an Array(String)."""
        texts = node.arguments[0].name == "String" and not node.arguments[0].nullable
        return CompiledKind("text_set", ("SS",)) if tag == "SS" and texts else None


class Map(Family):
    """Map(String, T), of M."""

    own = "M"
    can_be_null = False

    def __init__(self, families: Families) -> None:
        self._families = families

    def codec(self, node: TypeNode, text: str) -> Codec | None:
        """Take M."""
        if len(node.arguments) != 2 or node.arguments[0].name != "String" or node.arguments[0].nullable:
            return None
        encode = _element_encoder(node_codec(node.arguments[1], text, self._families))

        def encode_map(payload: object) -> bytes | None:
            found = [(orjson.dumps(name), encode(value)) for name, value in sorted(entries(payload).items(), key=_name)]
            cells = [cell if cell is None else type(cell)(name + b":" + cell) for name, cell in found]
            return _joined(b"{", cells, b"}")

        return Codec(node, b"{}", {"M": encode_map}, self.own, False)

    def spill_expression(self, node: TypeNode, tag: str, place: str) -> str | None:
        """From M: the whole map, or an empty one where any value does not fit."""
        inner = node.arguments[1]
        value, extra = _element_expression(inner, self._families)
        if tag != "M" or value is None or node.arguments[0].name != "String":
            return None
        entries = f"JSONExtractKeysAndValuesRaw({place}, 'M')"
        values = f"arrayMap({ELEMENT} -> {ELEMENT}.2, {entries})"
        kept = value if inner.nullable else f"assumeNotNull({value})"
        fitting = f"if(arrayExists({ELEMENT} -> isNull({value}){extra}, {values}), [], {entries})"
        keys, raws = (f"arrayMap({ELEMENT} -> {ELEMENT}.{part}, {fitting})" for part in (1, 2))
        return f"mapFromArrays({keys}, arrayMap({ELEMENT} -> {kept}, {raws}))"


class Json(Family):
    """JSON, of M. It blurs every map: no DEFAULT expression and no compiled kind."""

    own = "M"

    def __init__(self, families: Families) -> None:
        self._families = families

    def codec(self, node: TypeNode, text: str) -> Codec | None:
        """Take M, each typed path as its type has it."""
        typed = {path: self._typed_path(inner, text) for path, inner in node.paths}
        return Codec(node, b"{}", {"M": json_encoder(typed)}, self.own, False)

    def _typed_path(self, node: TypeNode, text: str) -> Callable[[object], bytes | None]:
        """A typed path's encoder: what it would refuse would take the whole insert with it."""
        try:
            return node_codec(node, text, self._families).encode
        except ConfigError:
            return lambda _: None


def _element_expression(inner: TypeNode, families: Families) -> tuple[str | None, str]:
    """The value of one element, raw typed JSON, and what else must hold for it to be a misfit."""
    family = families.get(inner.name)
    if family is None:
        return None, ""
    extra = f" AND NOT JSONHas({ELEMENT}, 'NULL')" if inner.nullable else ""
    return family.expression(inner, family.own, payload_of(ELEMENT, family.own)), extra


def _element_encoder(inner: Codec) -> Encoder:
    """Encode elements of the one type that the column stands for: S "1" and N 1 must not meet in one array."""
    own = "L" if inner.node.name == "Array" else inner.own

    def encode(value: object) -> bytes | None:
        tag, _ = unpack(value)
        return inner.encode(value) if tag in (own, "NULL") else None

    return encode


def _list_encoder(inner: Codec) -> Encoder:
    encode = _element_encoder(inner)
    return lambda payload: _joined(b"[", [encode(value) for value in elements(payload)], b"]")


def _set_encoder(members: Callable[[object], list[str]], encode: Encoder) -> Encoder:
    return lambda payload: _joined(b"[", [encode(member) for member in members(payload)], b"]")


def _name(entry: tuple[str, object]) -> str:
    return entry[0]


def _joined(opening: bytes, found: list[bytes | None], closing: bytes) -> bytes | None:
    fitting = [cell for cell in found if cell is not None]
    if len(fitting) < len(found):
        return None
    whole = opening + b",".join(fitting) + closing
    kinds = {type(cell) for cell in fitting} & {Inexact, Rounded}
    return Rounded(whole) if Rounded in kinds else Inexact(whole) if kinds else whole


def with_collections(scalars: Families) -> Families:
    """Return the families of scalars, and those of this module over all of them."""
    families = dict(scalars)
    families |= {"Array": Array(families), "Map": Map(families), "JSON": Json(families)}
    return families

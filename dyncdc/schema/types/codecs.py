"""A column's ClickHouse type compiled into a codec: which DynamoDB types it can hold, and their cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import orjson

from dyncdc.errors import ConfigError
from dyncdc.schema.table_spec import AttributeType, Encoding

from . import datetimes, scalars
from .dynamodb_values import binary_set, elements, entries, null, number_set, string_set, unpack
from .encodings import TYPED_TYPES, raw_encoder, typed_encoder
from .json_documents import json_encoder
from .scalars import Encoder, Encoders, Inexact, Rounded
from .type_parser import TypeNode, parse_type

NULL_CELL: Final = b"null"


@dataclass(frozen=True, slots=True)
class Codec:
    """How values become cells of one column type.

    ``default`` is the cell of an absent attribute: null, or what the type itself calls its default. ``own`` is the
    DynamoDB type that the type stands for when no one says otherwise, and that of its elements' siblings.
    """

    node: TypeNode
    default: bytes
    encoders: Encoders
    own: AttributeType
    injective: bool
    """Whether different values always give different cells, so that it may hold a key."""

    @property
    def nullable(self) -> bool:
        """Whether NULL is a value of the type."""
        return self.node.nullable

    def encode(self, value: object) -> bytes | None:
        """Return the cell of a typed value, None if it does not fit. Raises UndecodableRecord for what is no value."""
        tag, payload = unpack(value)
        if tag == "NULL":
            return NULL_CELL if null(payload) and self.nullable else None
        encoder = self.encoders.get(tag)
        return encoder(payload) if encoder is not None else None


def compile_type(text: str, encoding: Encoding = "") -> Codec:
    """Compile a type's codec. Raises ConfigError for a type that no attribute can fill, or not in this encoding."""
    codec = _compile(parse_type(text), text)
    if not encoding:
        return codec
    kind = codec.node.name
    if encoding in datetimes.UNIT_PLACES:
        if kind not in ("DateTime", "DateTime64"):
            raise ConfigError(
                f"using the column type {text!r} with encoding = {encoding!r}", hint="it is for DateTime and DateTime64"
            )
        places = datetimes.UNIT_PLACES[encoding]
        return replace(codec, encoders={"N": datetimes.epoch_encoder(*_moment_range(codec.node), places)}, own="N")
    if kind != "String" and not (kind == "FixedString" and encoding == "raw"):
        raise ConfigError(
            f"using the column type {text!r} with encoding = {encoding!r}", hint="it is for String columns"
        )
    if encoding == "raw":
        nbytes = codec.node.numbers[0] if kind == "FixedString" else None
        return replace(codec, encoders={"B": raw_encoder(nbytes)}, own="B")
    return replace(codec, encoders={tag: typed_encoder(tag) for tag in TYPED_TYPES})


def default_takes(text: str, encoding: Encoding = "") -> tuple[AttributeType, ...]:
    """Return the DynamoDB types a column of this type takes unless its mapping names others. Raises ConfigError."""
    codec = compile_type(text, encoding)
    return TYPED_TYPES if encoding == "typed" else (codec.own,)


def _compile(node: TypeNode, text: str) -> Codec:
    family = _FAMILIES.get(node.name)
    codec = family(node, text) if family is not None else None
    if codec is None:
        raise ConfigError(
            f"using the column type {text!r}",
            hint="no DynamoDB attribute can fill it; leave the column out or give it another type",
        )
    if not node.nullable:
        return codec
    if node.name in ("Array", "Map"):  # the server would say so of the whole table, and be asked again and again
        raise ConfigError(f"using the column type {text!r}", hint=f"ClickHouse has no Nullable({node.name})")
    return Codec(node, NULL_CELL, codec.encoders, codec.own, codec.injective)


def _scalar(default: bytes, own: AttributeType, encoders: Encoders) -> Callable[[TypeNode, str], Codec | None]:
    return lambda node, _: Codec(node, default, encoders, own, True)


def _integer(low: int, high: int) -> Callable[[TypeNode, str], Codec | None]:
    encoders: dict[str, Encoder] = {"N": scalars.integer_encoder(low, high)}
    if (low, high) == (0, 255):
        encoders["BOOL"] = scalars.boolean_digit_cell
    return _scalar(b'"0"', "N", encoders)


def _floating(encoder: Encoder) -> Callable[[TypeNode, str], Codec | None]:
    return lambda node, _: Codec(node, b'"0"', {"N": encoder}, "N", False)


def _decimal(precision: int | None) -> Callable[[TypeNode, str], Codec | None]:
    def family(node: TypeNode, _: str) -> Codec | None:
        given = node.numbers if precision is None else (precision, *node.numbers)
        if len(given) == 1:
            given = (given[0], 0)
        if len(given) != 2 or not 1 <= given[0] <= 76 or not 0 <= given[1] <= given[0]:
            return None
        return Codec(node, b'"0"', {"N": scalars.decimal_encoder(*given)}, "N", True)

    return family


def _fixed_string(node: TypeNode, _: str) -> Codec | None:
    if len(node.numbers) != 1 or node.numbers[0] < 1:
        return None
    return Codec(node, b'""', {"S": scalars.fixed_string_encoder(node.numbers[0])}, "S", True)


def _enum(node: TypeNode, _: str) -> Codec | None:
    if not node.texts or len(node.texts) != len(node.numbers):
        return None  # an Enum without values never comes from system.columns
    values = dict(zip(node.numbers, node.texts, strict=True))
    default = orjson.dumps(values[0] if 0 in values else values[min(values)])
    return Codec(node, default, {"S": scalars.enum_encoder(node.texts)}, "S", True)


def _moment_range(node: TypeNode) -> tuple[int, tuple[int, int]]:
    """Digits below the second, and the first and last second."""
    if node.name == "DateTime":
        return 0, datetimes.DATETIME_RANGE
    digits = node.numbers[0] if node.numbers else 3
    return digits, datetimes.NANOSECOND_RANGE if digits > 8 else datetimes.DATETIME64_RANGE


def _moment(node: TypeNode, _: str) -> Codec | None:
    digits, limits = _moment_range(node)
    if not 0 <= digits <= 9:
        return None
    encoders = {"S": datetimes.datetime_encoder(digits, limits), "N": datetimes.epoch_encoder(digits, limits)}
    return Codec(node, datetimes.datetime_default(digits), encoders, "S", True)


def _array(node: TypeNode, text: str) -> Codec | None:
    if len(node.arguments) != 1:
        return None
    inner = _compile(node.arguments[0], text)
    encoders: dict[str, Encoder] = {"L": _list_encoder(inner)}
    sets: tuple[tuple[str, str, Callable[[object], list[str]]], ...] = (
        ("SS", "S", string_set),
        ("NS", "N", number_set),
        ("BS", "B", binary_set),
    )
    for tag, element, members in sets:
        if element in inner.encoders:
            encoders[tag] = _set_encoder(members, inner.encoders[element])
    own: dict[str, AttributeType] = {"S": "SS", "N": "NS"}
    return Codec(node, b"[]", encoders, own.get(inner.own, "L"), False)


def _set_encoder(members: Callable[[object], list[str]], encode: Encoder) -> Encoder:
    return lambda payload: _joined(b"[", [encode(member) for member in members(payload)], b"]")


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


def _map(node: TypeNode, text: str) -> Codec | None:
    if len(node.arguments) != 2 or node.arguments[0].name != "String" or node.arguments[0].nullable:
        return None
    encode = _element_encoder(_compile(node.arguments[1], text))

    def encode_map(payload: object) -> bytes | None:
        found = [(orjson.dumps(name), encode(value)) for name, value in sorted(entries(payload).items(), key=_name)]
        return _joined(b"{", [cell if cell is None else type(cell)(name + b":" + cell) for name, cell in found], b"}")

    return Codec(node, b"{}", {"M": encode_map}, "M", False)


def _name(entry: tuple[str, object]) -> str:
    return entry[0]


def _joined(opening: bytes, found: list[bytes | None], closing: bytes) -> bytes | None:
    fitting = [cell for cell in found if cell is not None]
    if len(fitting) < len(found):
        return None
    whole = opening + b",".join(fitting) + closing
    kinds = {type(cell) for cell in fitting} & {Inexact, Rounded}
    return Rounded(whole) if Rounded in kinds else Inexact(whole) if kinds else whole


def _json(node: TypeNode, text: str) -> Codec | None:
    typed = {path: _typed_path(inner, text) for path, inner in node.paths}
    return Codec(node, b"{}", {"M": json_encoder(typed)}, "M", False)


def _typed_path(node: TypeNode, text: str) -> Callable[[object], bytes | None]:
    """A typed path's encoder: what it would refuse would take the whole insert with it."""
    try:
        return _compile(node, text).encode
    except ConfigError:
        return lambda _: None


_FAMILIES: Final[dict[str, Callable[[TypeNode, str], Codec | None]]] = {
    "String": _scalar(b'""', "S", scalars.STRING),
    "FixedString": _fixed_string,
    "Bool": _scalar(b"false", "BOOL", {"BOOL": scalars.boolean_cell, "N": scalars.number_boolean_cell}),
    "UUID": _scalar(b'"00000000-0000-0000-0000-000000000000"', "S", {"S": scalars.uuid_cell}),
    "IPv4": _scalar(b'"0.0.0.0"', "S", {"S": scalars.ipv4_cell}),
    "IPv6": _scalar(b'"::"', "S", {"S": scalars.ipv6_cell}),
    "Date": _scalar(b'"1970-01-01"', "S", {"S": datetimes.date_encoder(datetimes.DATE_RANGE)}),
    "Date32": _scalar(b'"1900-01-01"', "S", {"S": datetimes.date_encoder(datetimes.DATE32_RANGE)}),
    "DateTime": _moment,
    "DateTime64": _moment,
    "Enum8": _enum,
    "Enum16": _enum,
    "Float32": _floating(scalars.float32_cell),
    "Float64": _floating(scalars.float64_cell),
    "Decimal": _decimal(None),
    **{f"Decimal{bits}": _decimal(digits) for bits, digits in ((32, 9), (64, 18), (128, 38), (256, 76))},
    **{f"Int{bits}": _integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64, 128, 256)},
    **{f"UInt{bits}": _integer(0, 2**bits - 1) for bits in (8, 16, 32, 64, 128, 256)},
    "Array": _array,
    "Map": _map,
    "JSON": _json,
}

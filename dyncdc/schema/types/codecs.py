"""A column's ClickHouse type compiled into a codec: which DynamoDB types it can hold, and their cells."""

from __future__ import annotations

from dataclasses import replace

from dyncdc.errors import ConfigError
from dyncdc.schema.table_spec import AttributeType, Encoding

from .encodings import TYPED_TYPES, UNIT_PLACES, raw_encoder, typed_encoder
from .families import FAMILIES
from .families.datetimes import DateTime
from .families.family import Codec, node_codec
from .type_parser import parse_type


def compile_type(text: str, encoding: Encoding = "") -> Codec:
    """Compile a type's codec. Raises ConfigError for a type that no attribute can fill, or not in this encoding."""
    codec = node_codec(parse_type(text), text, FAMILIES)
    if not encoding:
        return codec
    kind = codec.node.name
    if encoding in UNIT_PLACES:
        family = FAMILIES[kind]
        if not isinstance(family, DateTime):
            raise ConfigError(
                f"using the column type {text!r} with encoding = {encoding!r}", hint="it is for DateTime and DateTime64"
            )
        return replace(codec, encoders={"N": family.epoch_encoder(codec.node, UNIT_PLACES[encoding])}, own="N")
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

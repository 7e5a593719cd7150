"""What dyncdc knows of a ClickHouse type: the cells of its values, the DEFAULT over the spill, and the compiled kind.

One object holds all of it, so that a new type is one class here and its readback, which is apart on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dyncdc.errors import ConfigError
from dyncdc.schema.table_spec import AttributeType
from dyncdc.schema.types.cells import NULL_CELL, Encoders
from dyncdc.schema.types.dynamodb_values import null, unpack
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import payload_of

Check = Callable[[bytes], object]

KindName = Literal[
    "odd",
    "text",
    "checked",
    "integer",
    "decimal",
    "float",
    "number",
    "bool",
    "base64",
    "raw",
    "text_set",
    "plain",
    "typed",
    "parts",
]
"""What compiled code can make of a value: ``enum Kind`` of ``native/rows/layout.h``, in its order."""


@dataclass(frozen=True, slots=True)
class CompiledKind:
    """What a column makes of the values of the DynamoDB types ``takes``, as compiled code is told.

    ``low`` and ``high``: digits of the least (without its sign) and the greatest integer; ``whole`` and ``fraction``:
    most digits of a decimal; ``check``: whether a text becomes a cell as it is. It may refuse what the encoder accepts,
    never the other way round.
    """

    name: KindName
    takes: tuple[AttributeType, ...]
    low: bytes = b""
    high: bytes = b""
    whole: int = 0
    fraction: int = 0
    check: Check | None = None


def text_matching(pattern: str) -> CompiledKind:
    """Return the kind of the S texts that become cells as they are when they match."""
    return CompiledKind("checked", ("S",), check=re.compile(pattern.encode()).fullmatch)


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
        """Return the cell of a typed value, None if it does not fit. Raises Undecodable for what is no value."""
        tag, payload = unpack(value)
        if tag == "NULL":
            return NULL_CELL if null(payload) and self.nullable else None
        encoder = self.encoders.get(tag)
        return encoder(payload) if encoder is not None else None


class Family:
    """One ClickHouse type, or several with one rule. Holds no state of a column: methods take the type as parsed.

    A scalar defines ``encoders`` and ``default``; a collection defines ``codec`` instead.
    """

    own: ClassVar[AttributeType] = "S"
    """The DynamoDB type that the type stands for."""
    injective: ClassVar[bool] = True
    can_be_null: ClassVar[bool] = True
    """Whether ClickHouse has the type as Nullable."""
    text_holds: ClassVar[AttributeType | None] = None
    """The DynamoDB type whose payload ``toString`` of a column always gives, if there is one."""
    shown_default: str = ""
    """What a column that cannot be NULL shows for no value, for people; "" where that does not look like a value."""

    def codec(self, node: TypeNode, text: str) -> Codec | None:
        """Return the codec, None for parameters that ClickHouse does not have. Nullable is the caller's business.

        ``text``: the whole type, for messages. Raises ConfigError for an inner type that no attribute can fill.
        """
        encoders = self.encoders(node)
        return None if encoders is None else Codec(node, self.default(node), encoders, self.own, self.injective)

    def encoders(self, node: TypeNode) -> Encoders | None:
        """Return the encoders, None for parameters that ClickHouse does not have."""
        raise NotImplementedError

    def default(self, node: TypeNode) -> bytes:
        """Return the cell of what ClickHouse calls the type's default."""
        raise NotImplementedError

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """Return the SQL of the value that the payload ``x`` of DynamoDB type ``tag`` becomes, NULL for a misfit.

        ``x`` is SQL too: a text, for BOOL a Bool. It must never raise, whatever ``x`` is: it runs in inserts. None
        where there is no such expression.
        """
        return None

    def spill_expression(self, node: TypeNode, tag: str, place: str) -> str | None:
        """As ``expression``, for the typed value at a place in the spill: see ``place_in_spill``.

        A type that cannot be NULL shows its default for a misfit.
        """
        return self.expression(node, tag, payload_of(place, tag))

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """Return what compiled code makes of values of type ``tag``, None where only the encoder will do."""
        return None


Families = Mapping[str, Family]
"""By the name of the type."""


def node_codec(node: TypeNode, text: str, families: Families) -> Codec:
    """Return the codec of a type, Nullable or not. Raises ConfigError, which names the whole type ``text``."""
    family = families.get(node.name)
    codec = family.codec(node, text) if family is not None else None
    if family is None or codec is None:
        raise ConfigError(
            f"using the column type {text!r}",
            hint="no DynamoDB attribute can fill it; leave the column out or give it another type",
        )
    if not node.nullable:
        return codec
    if not family.can_be_null:  # the server would say so of the whole table, and be asked again and again
        raise ConfigError(f"using the column type {text!r}", hint=f"ClickHouse has no Nullable({node.name})")
    return Codec(node, NULL_CELL, codec.encoders, codec.own, codec.injective)

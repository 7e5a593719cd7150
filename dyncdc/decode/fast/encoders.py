"""Which column encoder takes the values of a mapped attribute, if any does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Final

from ..spec import ColumnSpec, TableSpec
from ..types import Codec, compile_type
from .columns import BinaryColumn, Column, FloatColumn, PatternColumn, TextColumn, TextSetColumn, bool_column
from .documents import DocumentColumn
from .patterns import number_pattern, text_pattern
from .typed import TypedColumn

_TABLE_FIELDS: Final = frozenset(
    {"source_table", "destination", "keys", "columns", "version_column", "version_type"}
    | {"deleted_column", "spill_column", "deletes", "base_microseconds"}
)
_COLUMN_FIELDS: Final = frozenset({"name", "type", "path", "takes", "lossy", "key"})


def is_understood(spec: TableSpec | ColumnSpec) -> bool:
    """Whether everything that a mapping says is something that the fast path knows of."""
    known = _TABLE_FIELDS if isinstance(spec, TableSpec) else _COLUMN_FIELDS
    return all(
        each.name in known or (each.default is not MISSING and getattr(spec, each.name) == each.default)
        for each in fields(spec)
    )


def encoder_of(column: ColumnSpec) -> Column | None:
    """Return the encoder of what stands at a column's path, None where only the exact path will do."""
    if column.encoding == "typed" and is_understood(replace(column, encoding="")):
        return TypedColumn(column.takes, compile_type(column.type, column.encoding).default)
    if not is_understood(column):
        return None
    codec = compile_type(column.type)
    make = _MAKERS.get(column.takes[0])
    return make(codec, codec.default) if make is not None else None


def key_encoder_of(column: ColumnSpec) -> Column | None:
    """Return the encoder of a key column. It marks absent keys, which have no row, by null."""
    if not is_understood(column):
        return None
    make = _MAKERS.get(column.takes[0])
    return make(compile_type(column.type), b"null") if make is not None else None


def _of_text(codec: Codec, default: bytes) -> Column | None:
    node = codec.node
    if node.name == "String":
        return TextColumn(default)
    if node.name in ("Enum8", "Enum16"):
        return TextColumn(default, frozenset(node.texts))
    pattern = text_pattern(node)
    return PatternColumn("S", pattern, default) if pattern else None


def _of_number(codec: Codec, default: bytes) -> Column | None:
    pattern = number_pattern(codec.node)
    if pattern is None:
        return None
    return FloatColumn(pattern, default) if codec.node.name == "Float64" else PatternColumn("N", pattern, default)


def _of_binary(codec: Codec, default: bytes) -> Column | None:
    return BinaryColumn(default) if codec.node.name == "String" else None


def _of_boolean(codec: Codec, default: bytes) -> Column | None:
    return bool_column(default) if codec.node.name == "Bool" else None


def _of_map(codec: Codec, default: bytes) -> Column | None:
    return DocumentColumn("M", default) if codec.node.name == "String" else None


def _of_list(codec: Codec, default: bytes) -> Column | None:
    return DocumentColumn("L", default) if codec.node.name == "String" else None


def _of_text_set(codec: Codec, default: bytes) -> Column | None:
    node = codec.node
    texts = node.name == "Array" and node.arguments[0].name == "String" and not node.arguments[0].nullable
    return TextSetColumn() if texts else None


_MAKERS: Final[Mapping[str, Callable[[Codec, bytes], Column | None]]] = {
    "S": _of_text,
    "N": _of_number,
    "B": _of_binary,
    "BOOL": _of_boolean,
    "M": _of_map,
    "L": _of_list,
    "SS": _of_text_set,
}

"""A table's plan as the compiled reader takes it: which kind of column each attribute fills, and what it can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Final, get_args

from dyncdc.decode.table_plan import TablePlan, fillings
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.families import FAMILIES
from dyncdc.schema.types.families.family import CompiledKind, KindName

_TAGS: Final[tuple[AttributeType, ...]] = ("S", "N", "B", "M", "L", "SS", "NS", "BS", "BOOL", "NULL")
TAGS: Final[Mapping[AttributeType, int]] = {tag: number for number, tag in enumerate(_TAGS, start=1)}
"""As in ``values.h``."""

_KINDS: Final[Mapping[KindName, int]] = {name: number for number, name in enumerate(get_args(KindName))}
"""As in ``layout.h``."""

_TABLE_FIELDS: Final = frozenset(
    {"source_table", "destination", "keys", "columns", "version_column", "version_type"}
    | {"deleted_column", "spill_column", "deletes", "base_microseconds"}
    | {"redaction", "ttl_deletes", "expired_column", "history"}
)
_COLUMN_FIELDS: Final = frozenset({"name", "type", "path", "takes", "lossy", "key", "defaulted"})

ChangeTold = tuple[list[bytes], str | None, str, bytes, bytes, bytes | None]
"""What a history needs of a row: the cells of the key, the event (None: an item of a snapshot), who deleted it, the
cells of the old and of the new image, and that of the event's id, if it has one."""

Told = tuple[int, list[bytes], list[bytes], list[int], list[int], int, int, list[ChangeTold | None]]
"""What was read of one table: which of the reader's it is, its columns, the key and the time of each row, the number of
its record, how many values the spill keeps or have no place (rows of the reference path are not in these two), and what
the history needs of each row, nothing without one, None for rows of the reference path."""


class CompiledTable:
    """One table as ``Reader`` takes it. ``told`` is its argument; ``indexes``: the columns that an attribute fills."""

    def __init__(self, plan: TablePlan) -> None:
        """Compile. Raises ValueError for a table that only the reference path knows how to read."""
        spec = plan.spec
        hidden = {path[0] for path in (*spec.redaction.exclude, *spec.redaction.mask)}
        if not is_understood(spec):
            raise ValueError("the mapping says what the compiled path does not know")
        self.plan = plan
        self.has_spill = bool(spec.spill_column)
        self.defaults = fillings(spec)
        self.defaults += [b'""' if name == spec.spill_column else b"" for name in plan.columns[len(self.defaults) :]]
        keys: dict[str, tuple[int, ColumnSpec]] = {}
        mapped: dict[str, list[tuple[int, ColumnSpec]]] = {}
        for index, column in enumerate(spec.columns):
            if column.key:
                keys[column.path[0]] = (index, column)
            else:
                mapped.setdefault(column.path[0], []).append((index, column))
        if keys.keys() & (mapped.keys() | hidden):
            raise ValueError("a column repeats an attribute of the key")
        if spec.expired_column:
            self.defaults[plan.columns.index(spec.expired_column)] = b"0"
        self.indexes = {name: tuple(index for index, _ in columns) for name, columns in mapped.items()}
        told = [self._key(*keys[key.name]) for key in spec.keys]
        told += [self._attribute(name, columns) for name, columns in mapped.items() if name not in hidden]
        told += [_field(name, CompiledKind("odd", ()), -1, b"") for name in sorted(hidden)]
        self.told = (
            spec.source_table.encode(),
            tuple(told),
            self.defaults,
            plan.columns.index(spec.spill_column) if spec.spill_column else -1,
            plan.columns.index(spec.deleted_column) if spec.deleted_column else -1,
            not plan.keeps_deletes,
            plan.keeps_expired,
            plan.history is not None,
            bool(hidden),
        )

    @property
    def open(self) -> bool:
        """Whether attributes without a column must be taken note of, which only the reference path does."""
        unmapped = self.plan.unmapped
        return self.has_spill and unmapped is not None and not unmapped.closed

    def _key(self, index: int, column: ColumnSpec) -> tuple[object, ...]:
        kind = kind_of(column)
        if kind is None:
            raise ValueError("a key column has a type that the compiled path does not know")
        return _field(column.path[0], kind, index, b"", key=True)

    def _attribute(self, name: str, columns: Sequence[tuple[int, ColumnSpec]]) -> tuple[object, ...]:
        index, column = columns[0]
        if len(columns) == 1 and len(column.path) == 1:
            return self._column(name, index, column)
        parts = {column.path[1]: (index, column) for index, column in columns if len(column.path) == 2}
        odd = len(parts) < len(columns) or any(kind_of(column) is None for _, column in columns)
        told = () if odd else tuple(self._column(part, *each) for part, each in parts.items())
        return _field(name, CompiledKind("odd" if odd else "parts", ()), -1, b"", parts=told)

    def _column(self, name: str, index: int, column: ColumnSpec) -> tuple[object, ...]:
        kind = kind_of(column)
        if kind is None:
            return _field(name, CompiledKind("odd", ()), index, b"")
        codec = compile_type(column.type, column.encoding)
        return _field(name, kind, index, codec.default, nullable=codec.nullable, lossy=column.lossy)


def _field(
    name: str,
    kind: CompiledKind,
    index: int,
    absent: bytes,
    *,
    nullable: bool = False,
    lossy: bool = False,
    key: bool = False,
    parts: tuple[object, ...] = (),
) -> tuple[object, ...]:
    takes = sum(1 << TAGS[tag] for tag in kind.takes)
    tag = TAGS[kind.takes[0]] if kind.takes else 0
    limits = (kind.low, kind.high, kind.whole, kind.fraction)
    return name.encode(), _KINDS[kind.name], tag, index, *limits, takes, kind.check, absent, nullable, lossy, key, parts


def is_understood(spec: TableSpec | ColumnSpec) -> bool:
    """Whether everything that a mapping says is something that the compiled path knows of."""
    known = _TABLE_FIELDS if isinstance(spec, TableSpec) else _COLUMN_FIELDS
    return all(
        each.name in known or (each.default is not MISSING and getattr(spec, each.name) == each.default)
        for each in fields(spec)
    )


def kind_of(column: ColumnSpec) -> CompiledKind | None:
    """Return what a column makes of the type that it takes first, None where only the reference path will do."""
    if not is_understood(replace(column, encoding="")):
        return None
    codec = compile_type(column.type, column.encoding)
    if column.encoding == "typed":
        return CompiledKind("typed", column.takes)
    if column.encoding == "raw":
        return CompiledKind("raw", ("B",)) if codec.node.name == "String" else None
    if column.encoding:
        return None
    return FAMILIES[codec.node.name].compiled_kind(codec.node, column.takes[0])

"""One table's plan for the fast path, compiled from the plan of the exact path, which it hands to what is not plain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import orjson

from ..attributes import TypedValue
from ..plan import TablePlan
from ..spec import ColumnSpec
from ..types import compile_type
from .columns import Column
from .encoders import encoder_of, is_understood, key_encoder_of
from .objects import ObjectReader

NULL: Final[TypedValue] = {"NULL": True}


@dataclass(frozen=True, slots=True)
class Group:
    """A map of which columns take parts. ``members``: column and encoder of each of the reader's names."""

    reader: ObjectReader
    members: tuple[tuple[int, Column], ...]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A mapped attribute. Without an encoder, each of its values takes the exact path."""

    name: str
    place: int
    """Which of the image reader's names it is."""
    indexes: tuple[int, ...]
    """The columns that it fills; with an encoder exactly one."""
    encoder: Column | None
    null: TypedValue | None
    """What the spill keeps of a NULL, if anything."""
    default: TypedValue | None
    """What the spill keeps of a value that looks like an absent one, if anything."""
    null_fits: bool
    """Whether NULL may stand in a row at all."""
    group: Group | None = None
    """What is inside, where the columns take parts of a map; then there is no encoder."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key attribute and its column."""

    name: str
    place: int
    index: int
    encoder: Column


class FastTable:
    """What a sub-batch of one table needs. ``open``: images are looked through for names without a column.

    ``open`` follows what was seen last; results do not depend on it.
    """

    def __init__(self, plan: TablePlan) -> None:
        """Compile. Raises ValueError for a table that only the exact path knows how to read."""
        spec = plan.spec
        if not is_understood(spec):
            raise ValueError("the mapping says what the fast path does not know")
        self.plan = plan
        self.has_spill = bool(spec.spill_column)
        self.open = False
        mapped: dict[str, list[tuple[int, ColumnSpec]]] = {}
        keys: dict[str, tuple[int, ColumnSpec]] = {}
        for index, column in enumerate(spec.columns):
            if column.key:
                keys[column.path[0]] = (index, column)
            else:
                mapped.setdefault(column.path[0], []).append((index, column))
        self.keys = [_key(place, *keys[key.name]) for place, key in enumerate(spec.keys)]
        names = list(dict.fromkeys([*(key.name for key in self.keys), *mapped]))
        self.attributes = [self._attribute(name, names.index(name), columns) for name, columns in mapped.items()]
        absents = {
            each.name: each.encoder.absent if each.encoder is not None else msgspec.Raw(b"") for each in self.attributes
        }
        absents |= {key.name: key.encoder.absent for key in self.keys}
        self.images = ObjectReader(names, [absents[name] for name in names])
        self.key_objects = ObjectReader([key.name for key in self.keys], [key.encoder.absent for key in self.keys])
        self.defaults = [compile_type(column.type, column.encoding).default for column in spec.columns]

    def _attribute(self, name: str, place: int, columns: list[tuple[int, ColumnSpec]]) -> Attribute:
        indexes = tuple(index for index, _ in columns)
        alone = len(columns) == 1 and all(key.name != name for key in self.keys)
        encoder = encoder_of(columns[0][1]) if alone and len(columns[0][1].path) == 1 else None
        if encoder is None:
            return Attribute(name, place, indexes, None, None, None, True, _group(columns))
        column = columns[0][1]
        codec = compile_type(column.type)
        kept = self.has_spill
        return Attribute(
            name,
            place,
            indexes,
            encoder,
            null=NULL if kept and not (codec.nullable and column.lossy) else None,
            default={column.takes[0]: orjson.loads(codec.default)} if kept and not column.lossy else None,
            null_fits=codec.nullable or self.has_spill,
        )


def _group(columns: list[tuple[int, ColumnSpec]]) -> Group | None:
    """Compile the parts of a map, None unless each is one level down and has one column that is known."""
    names = [column.path[1] for _, column in columns if len(column.path) == 2]
    encoders = [encoder_of(column) for _, column in columns]
    members = tuple((index, each) for (index, _), each in zip(columns, encoders, strict=True) if each is not None)
    if not len(set(names)) == len(names) == len(columns) == len(members):
        return None
    try:
        return Group(ObjectReader(names, [each.absent for _, each in members], wrapped=True), members)
    except ValueError:  # a name that has to be escaped
        return None


def _key(place: int, index: int, column: ColumnSpec) -> Key:
    encoder = key_encoder_of(column)
    if encoder is None:
        raise ValueError("a key column has a type that the fast path does not know")
    return Key(column.path[0], place, index, encoder)

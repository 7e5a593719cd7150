"""The places of an item that columns are filled from, compiled: which column takes what, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyncdc.schema.spec_checks import unusable
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.cells import Encoder, Encoders
from dyncdc.schema.types.families.family import Codec


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how values become its cells; ``encoders`` are those of the types that it takes."""

    index: int
    name: str
    label: str
    encoders: Encoders
    own: str
    """The type that a value has unless the spill says otherwise; "" where the cell itself says it."""
    default: bytes
    nullable: bool
    lossy: bool


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A key column: every value of ``tag`` gets a cell of its own, or none."""

    index: int
    name: str
    label: str
    attribute: str
    tag: str
    encode: Encoder


@dataclass(slots=True)
class Node:
    """A place in the item: the columns it fills, and the places below it when it is a map."""

    columns: list[Column] = field(default_factory=list)
    children: dict[str, Node] = field(default_factory=dict)


def key_column(
    spec: TableSpec, index: int, column: ColumnSpec, codec: Codec, attributes: dict[str, KeyAttribute]
) -> KeyColumn:
    """Compile a key column. Raises ConfigError for one that could blur keys."""
    attribute = attributes.get(column.path[0]) if len(column.path) == 1 else None
    if attribute is None:
        raise unusable(spec, column, "a key column takes exactly one key attribute")
    if column.encoding:
        hint = "other columns may take the key's attribute in any encoding"
        raise unusable(spec, column, f"a key column has no encoding ({column.encoding!r})", hint)
    encode = codec.encoders.get(attribute.type)
    if encode is None or codec.nullable or not codec.injective or column.takes != (attribute.type,):
        raise unusable(
            spec,
            column,
            f"{column.type} cannot hold the {attribute.type} key attribute {attribute.name!r} without blurring it",
            hint="a key is a String, or for N an integer or Decimal column; never Nullable",
        )
    return KeyColumn(index, column.name, column.type, attribute.name, attribute.type, encode)


def add_column(spec: TableSpec, root: dict[str, Node], index: int, column: ColumnSpec, codec: Codec) -> None:
    """Compile a column into its place below ``root``. Raises ConfigError for types that it cannot hold."""
    strange = [tag for tag in column.takes if tag != "NULL" and tag not in codec.encoders]
    if strange or not column.takes or not column.path:
        found = strange[0] if strange else "nothing"
        raise unusable(spec, column, f"{column.type} cannot hold {found}", hint=f"it takes {', '.join(codec.encoders)}")
    if codec.node.name == "JSON" and not column.lossy and not spec.spill_column:
        hint = "set lossy = true, use String, or add a _spill String column"
        raise unusable(spec, column, "JSON blurs every map, and the table has no spill column", hint=hint)
    node = root.setdefault(column.path[0], Node())
    for name in column.path[1:]:
        node = node.children.setdefault(name, Node())
    encoders: dict[str, Encoder] = {tag: codec.encoders[tag] for tag in column.takes if tag != "NULL"}
    own = "" if column.encoding == "typed" else column.takes[0]
    node.columns.append(
        Column(index, column.name, column.type, encoders, own, codec.default, codec.nullable, column.lossy)
    )

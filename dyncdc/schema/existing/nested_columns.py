"""Columns of someone else's table whose names may mean a place inside a map, as ``address.city``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError
from dyncdc.schema.sql.column_comments import Origin
from dyncdc.schema.table_spec import AttributeType, KeyAttribute
from dyncdc.schema.types.codecs import compile_type

from .table import ExistingColumn, ExistingTable

Seen = Mapping[tuple[str, ...], Mapping[str, int]]
"""Places in sampled items, and how often each held which DynamoDB type."""

NOTHING_SEEN: Final[Seen] = {}


def seen_places(items: Iterable[Mapping[str, object]]) -> Seen:
    """Return every place in items of DynamoDB's typed JSON."""
    found: dict[tuple[str, ...], Counter[str]] = {}
    rest: list[tuple[tuple[str, ...], object]] = [((name,), value) for item in items for name, value in item.items()]
    while rest:
        path, value = rest.pop()
        if not isinstance(value, Mapping) or len(value) != 1:
            continue
        ((tag, payload),) = value.items()
        found.setdefault(path, Counter())[str(tag)] += 1
        if tag == "M" and isinstance(payload, Mapping):
            rest += [((*path, name), inner) for name, inner in payload.items()]
    return found


def doubtful_columns(config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable) -> list[str]:
    """Return the columns whose attribute neither a mapping nor their name alone tells."""
    metadata = config.metadata
    own = {metadata.version, metadata.deleted, metadata.spill, metadata.expired, *table.engine_columns}
    own |= {key.name for key in keys}
    parts = nested_arrays(table)
    return [
        column.name
        for column in table.columns
        if column.origin is None and not column.computed and column.name not in own and column.name not in parts
        if "." in column.name or "_" in column.name.strip("_")
    ]


def found_place(column: ExistingColumn, seen: Seen) -> Origin | None:
    """Return the place inside a map that a column is named after, None where its name is an attribute, or tells none.

    As ``init --into`` has it: an attribute of that very name comes first, and a place must be the only one.
    """
    if (column.name,) in seen:
        return None
    paths = [path for path in seen if len(path) > 1 and column.name in ("_".join(path), ".".join(path))]
    if len(paths) != 1:
        return None
    try:
        codec = compile_type(column.type)
    except ConfigError:
        return None
    tags = sorted(seen[paths[0]].items(), key=lambda each: -each[1])
    takes = next((tag for tag, _ in tags if tag != "NULL" and tag in codec.encoders), codec.own)
    return Origin(paths[0], (cast(AttributeType, takes),))


def nested_arrays(table: ExistingTable) -> set[str]:
    """Return the columns of Nested structures: ClickHouse refuses a row whose arrays there differ in length."""
    groups: dict[str, set[str]] = {}
    for column in table.columns:
        prefix, dot, _ = column.name.partition(".")
        if dot and column.type.startswith("Array(") and column.origin is None:
            groups.setdefault(prefix, set()).add(column.name)
    return {name for names in groups.values() if len(names) > 1 for name in names}

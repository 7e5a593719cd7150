"""A mapping onto the columns of a table that is there: which attribute fills which column, and how well. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.inference import Inference, Observation
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.cells import Inexact
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.encodings import epoch_unit
from dyncdc.schema.types.families.family import Codec
from dyncdc.schema.types.reject_reasons import UndecodableRecord

_MOMENTS: Final = ("DateTime", "DateTime64")
_NOT_ALNUM: Final = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Matched:
    """One column with the attribute that is to fill it. ``why``: by what it was found; holds no values.

    ``misfits``: of how many sampled values the column cannot hold the exact value; ``better``: a type that holds them
    all, "" when this one does or none is known.
    """

    column: ColumnSpec
    why: str
    observed: Observation | None
    misfits: int = 0
    better: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """The proposal. ``unfilled`` columns keep their default; ``outside`` are places in the sample without a column."""

    spec: TableSpec
    columns: tuple[Matched, ...]
    unfilled: tuple[str, ...]
    outside: tuple[Observation, ...]


def match_columns(
    config: TableConfig,
    keys: Sequence[KeyAttribute],
    table: ExistingTable,
    inference: Inference,
    items: Sequence[Mapping[str, object]],
) -> Match:
    """Propose what fills the columns of a table: its comments first, then equal names, then names that are alike."""
    base = existing_table_spec(config, keys, table)
    seen = {observed.path: observed for observed in inference.observations}
    own = {base.version_column, base.deleted_column, base.spill_column}
    commented = {column.name: column for column in base.columns if column.path != (column.name,)}
    found: list[Matched] = []
    unfilled: list[str] = []
    used: set[tuple[str, ...]] = set()
    for place in sorted(table.columns, key=lambda column: column.name not in commented):
        if place.computed or place.name in own:
            continue
        path, why = _path(place.name, commented, seen, keys, used)
        if not path:
            path, why = _only_key(place.name, table, keys)
        column = _column(place, path, seen.get(path), keys, commented.get(place.name)) if path else None
        if column is None:
            unfilled.append(place.name)
            continue
        used.add(path)
        column, more = _suited(column, items, spill=bool(base.spill_column))
        found.append(_measured(Matched(column, why + more, seen.get(path)), items, keys))
    order = [column.name for column in table.columns]
    found.sort(key=lambda each: (not each.column.key, order.index(each.column.name)))
    outside = tuple(
        observed for observed in inference.observations if not any(observed.path[: len(p)] == p for p in used)
    )
    spec = replace(base, columns=tuple(each.column for each in found))
    return Match(spec, tuple(found), tuple(sorted(unfilled, key=order.index)), outside)


def _path(
    name: str,
    commented: Mapping[str, ColumnSpec],
    seen: Mapping[tuple[str, ...], Observation],
    keys: Sequence[KeyAttribute],
    used: set[tuple[str, ...]],
) -> tuple[tuple[str, ...], str]:
    if name in commented:
        return commented[name].path, "by its comment"
    paths = [*((key.name,) for key in keys), *seen]
    free = [path for path in dict.fromkeys(paths) if path not in used]
    if (name,) in free:
        return (name,), "by its name"
    joined = [path for path in free if "_".join(path) == name]
    if len(joined) == 1:
        return joined[0], "by its name"
    exact = {path for path in free if path == (name,)}
    alike = [path for path in free if path not in exact and _plain("_".join(path)) == _plain(name)]
    if len(alike) == 1:
        return alike[0], "its name is only alike: look whether it is meant"
    return (), ""


def _plain(name: str) -> str:
    return _NOT_ALNUM.sub("", name).lower()


def _only_key(name: str, table: ExistingTable, keys: Sequence[KeyAttribute]) -> tuple[tuple[str, ...], str]:
    """A table sorted by one column, for items with one key attribute, whatever the two are called."""
    if len(keys) == 1 and table.sorting_columns == (name,) and table.column(keys[0].name) is None:
        return (keys[0].name,), "the only column of ORDER BY, for the only key attribute"
    return (), ""


def _column(
    place: ExistingColumn,
    path: tuple[str, ...],
    observed: Observation | None,
    keys: Sequence[KeyAttribute],
    commented: ColumnSpec | None,
) -> ColumnSpec | None:
    if commented is not None:
        return commented
    key = next((key.type for key in keys if (key.name,) == path), None)
    try:
        codec = compile_type(place.type)
    except ConfigError:
        return None
    takes: AttributeType = key or _most_frequent(codec, observed)
    return ColumnSpec(place.name, place.type, path, (takes,), key=key is not None)


def _suited(column: ColumnSpec, items: Sequence[Mapping[str, object]], *, spill: bool) -> tuple[ColumnSpec, str]:
    """The column with the options that its values and its table ask for, and why."""
    kind = compile_type(column.type, column.encoding).node.name
    if kind in _MOMENTS and column.takes == ("N",) and not column.encoding and not column.key:
        values = _values(items, column.path)
        unit = epoch_unit(str(value["N"]) for value in values if isinstance(value, dict) and "N" in value)
        return replace(column, encoding=unit), "; its numbers are of a smaller unit than seconds" if unit else ""
    if kind == "JSON" and not spill and not column.lossy:
        why = "; JSON blurs every map and the table has no spill column to keep it in: lossy, or use a String"
        return replace(column, lossy=True), why
    return column, ""


def _most_frequent(codec: Codec, observed: Observation | None) -> AttributeType:
    for tag, _ in observed.types if observed is not None else ():
        if tag != "NULL" and tag in codec.encoders:
            return tag
    return codec.own


def _measured(matched: Matched, items: Sequence[Mapping[str, object]], keys: Sequence[KeyAttribute]) -> Matched:
    """Try the sampled values on the column."""
    codec = compile_type(matched.column.type, matched.column.encoding)
    misfits = sum(not _fits(codec, matched.column, value) for value in _values(items, matched.column.path))
    inferred = matched.observed.column if matched.observed is not None else None
    better = ""
    if misfits and inferred is not None and not matched.column.key and inferred.takes == matched.column.takes:
        better = inferred.type
        if not codec.nullable and better.startswith("Nullable("):
            better = better.removeprefix("Nullable(").removesuffix(")")
        better = "" if better == matched.column.type else better
    return replace(matched, misfits=misfits, better=better)


def _values(items: Sequence[Mapping[str, object]], path: tuple[str, ...]) -> list[object]:
    found: list[object] = []
    for item in items:
        value: object = {"M": item}
        for name in path:
            inner = value.get("M") if isinstance(value, dict) else None
            value = inner.get(name) if isinstance(inner, dict) else None
        if value is not None:
            found.append(value)
    return found


def _fits(codec: Codec, column: ColumnSpec, value: object) -> bool:
    if not isinstance(value, dict) or (column.takes[0] not in value and "NULL" not in value):
        return False
    try:
        cell = codec.encode(value)
    except UndecodableRecord:
        return False
    return cell is not None and (column.lossy or not isinstance(cell, Inexact))

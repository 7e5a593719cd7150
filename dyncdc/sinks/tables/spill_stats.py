"""What the spill of a destination holds of one attribute: how many values of each type, and which fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from dyncdc.schema.sql.default_expressions import default_expression, place_in_spill
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.sinks.client.client import ClickHouse

SAMPLE_VALUES = 10_000


async def spilled_types(clickhouse: ClickHouse, spec: TableSpec, path: tuple[str, ...]) -> Mapping[str, int]:
    """Return how many items have a value there, by DynamoDB type. Reads the whole spill column once."""
    tag = f"JSONExtractKeys({place_in_spill(path, spec.spill_column)})[1]"
    rows = await clickhouse.fetch(
        f"SELECT {tag} AS tag, count() FROM {_items(spec)} GROUP BY tag HAVING tag != '' ORDER BY 2 DESC, 1",
        doing=f"looking at the spill of {spec.destination}",
    )
    return {str(tag): int(count) for tag, count in rows}


async def misfits(clickhouse: ClickHouse, spec: TableSpec, column: ColumnSpec, beside: ColumnSpec | None) -> int:
    """Return how many values of the type that a column takes it cannot show. ``beside``: see ``default_expression``."""
    codec = compile_type(column.type, column.encoding)
    place, tag = place_in_spill(column.path, spec.spill_column), column.takes[0]
    if codec.node.name in ("Array", "Map"):
        left = f"empty({default_expression(column, spec.spill_column)}) AND JSONLength({place}, '{tag}') > 0"
    else:
        nullable = column if codec.nullable else replace(column, type=f"Nullable({column.type})")
        left = f"isNull({default_expression(nullable, spec.spill_column, beside)})"
    held = f"JSONHas({place}, '{tag}')"
    if beside is not None:
        held = f"({held} OR isNotNull({quote_name(beside.name)}))"
    rows = await clickhouse.fetch(
        f"SELECT countIf({held} AND {left}) FROM {_items(spec, beside)}",
        doing=f"looking at the spill of {spec.destination}",
    )
    return int(rows[0][0])


async def held_elsewhere(clickhouse: ClickHouse, spec: TableSpec, path: tuple[str, ...]) -> tuple[list[str], int]:
    """Return the columns of the map around a place, or of the places inside it, and how many items only they hold.

    What such a column says exactly is not in the spill, so no DEFAULT over the spill shows it.
    """
    others = [column for column in spec.columns if column.path != path and _overlap(column.path, path)]
    if not others:
        return [], 0
    held = " OR ".join(_holds(column, path) for column in others)
    shown = ", ".join(quote_name(name) for name in (spec.spill_column, *(column.name for column in others)))
    rows = await clickhouse.fetch(
        f"SELECT countIf(NOT JSONHas({place_in_spill(path, spec.spill_column)}) AND ({held}))"
        f" FROM (SELECT {shown} FROM {qualified(spec.destination)} FINAL{_alive(spec)})",
        doing=f"looking at the columns of {spec.destination}",
    )
    return [column.name for column in others], int(rows[0][0])


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _holds(column: ColumnSpec, path: tuple[str, ...]) -> str:
    """Whether a column holds something of a place."""
    name, node = quote_name(column.name), compile_type(column.type).node
    rest = path[len(column.path) :]
    if rest and node.name == "String":  # a JSON text, plain or typed
        steps = [step for each in rest for step in ("M", each)] if column.encoding == "typed" else rest
        return f"ifNull(JSONHas({', '.join([name, *map(quote_text, steps)])}), 0)"
    if node.nullable:
        return f"isNotNull({name})"
    return f"{name} != defaultValueOfTypeName({quote_text(column.type)})"


async def spilled_sample(clickhouse: ClickHouse, spec: TableSpec, path: tuple[str, ...]) -> list[object]:
    """Return some typed values, for inference only."""
    place = place_in_spill(path, spec.spill_column)
    rows = await clickhouse.fetch(
        f"SELECT DISTINCT JSONExtractRaw({place}) FROM {_items(spec)} WHERE JSONHas({place}) LIMIT {SAMPLE_VALUES}",
        doing=f"looking at the spill of {spec.destination}",
    )
    return [orjson.loads(raw) for (raw,) in rows]


def _items(spec: TableSpec, beside: ColumnSpec | None = None) -> str:
    shown = ", ".join(quote_name(name) for name in (spec.spill_column, *([beside.name] if beside else [])))
    return f"(SELECT {shown} FROM {qualified(spec.destination)} FINAL{_alive(spec)})"


def _alive(spec: TableSpec) -> str:
    return f" WHERE {quote_name(spec.deleted_column)} = 0" if spec.deleted_column else ""

"""``dyncdc promote``: an attribute becomes a column by hand, older rows included, if the type holds its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from dyncdc.app.assembly.table_plans import plan_table
from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig, format_attribute_path, parse_attribute_path
from dyncdc.errors import ConfigError
from dyncdc.schema.inference import infer_columns
from dyncdc.schema.naming import RESERVED_NAMES, column_name
from dyncdc.schema.sql.default_expressions import default_expression
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, Encoding, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.encodings import UNIT_PLACES, epoch_unit
from dyncdc.schema.types.families.family import Codec
from dyncdc.sinks.tables.evolution import refresh_view, run_add_columns
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.server_types import server_type, virtual_names
from dyncdc.sinks.tables.spill_stats import held_elsewhere, misfits, spilled_sample, spilled_types

LOOK_SECONDS = 3600.0
"""Reading the spill of a large table takes its time."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What was done. ``values``: items that show a value; ``left``: values of other types, or that do not fit."""

    table: str
    attribute: str
    column: str
    type: str
    added: bool
    values: int
    left: int

    def document(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.added:
            return f"{self.attribute} of {self.table} is column {self.column} {self.type} already"
        left = f", {self.left:,} more stay in the spill" if self.left else ""
        now = f"{self.attribute} of {self.table} is column {self.column} {self.type} now"
        return f"{now}; {self.values:,} values came from the spill{left}"


async def promote(
    context: AppContext, table: str, attribute: str, kind: str, *, keep_misfits: bool = False
) -> Promoted:
    """Give an attribute of a table (DynamoDB's names) a column of a type.

    ``keep_misfits``: go on where some values do not fit, or are not in the spill but in the column of a map around the
    attribute; the column shows none of them.

    Raises ConfigError for whatever would blur a value or cannot be, FatalError, RetryableError.
    """
    doing = f"promoting {attribute} of {table}"
    config = _configured(context, table, doing)
    planned = await plan_table(context, config)
    refusal = planned.incompatibility()
    if refusal is not None:
        raise refusal
    if planned.existing is None:
        raise ConfigError(f"{doing}: its destination is not there yet", hint="`dyncdc ddl --apply`, or `run`, makes it")
    spec, path = planned.spec, _path(attribute, planned.spec, doing)
    kind = await context.retry(lambda: server_type(context.clickhouse, kind, doing))
    codec = compile_type(kind)
    there = [column for column in spec.columns if column.path == path]
    for column in there:
        if compile_type(column.type).node == codec.node and column.encoding in ("", *UNIT_PLACES):
            return Promoted(table, attribute, column.name, column.type, False, 0, 0)
    context.clickhouse.timeout_seconds = max(context.clickhouse.timeout_seconds, LOOK_SECONDS)
    found = await spilled_types(context.clickhouse, spec, path)
    there = _of_same_values(there, codec, found)
    takes = _takes(found, codec, there, doing)
    taken = RESERVED_NAMES | {column.name for column in planned.existing.columns}
    taken |= await context.retry(lambda: virtual_names(context.clickhouse, spec.destination))
    column = ColumnSpec(column_name(path, taken), kind, path, (takes,))
    if takes == "N" and codec.node.name in ("DateTime", "DateTime64") and not there:
        column = replace(column, encoding=await _unit(context, spec, path))
    beside = there[0] if there else None
    if default_expression(column, spec.spill_column, beside) is None:
        what = f"of what column {beside.name} {beside.type} holds" if beside else "of the spill"
        raise ConfigError(f"{doing}: no exact expression makes {kind} {what}", hint="give it another type")
    left = sum(count for tag, count in found.items() if tag not in (takes, "NULL"))
    misfit = await misfits(context.clickhouse, spec, column, beside)
    if misfit + left and not keep_misfits:
        raise await _misfit_error(context, spec, column, misfit + left, doing)
    if not keep_misfits:
        await _check_held_elsewhere(context, spec, path, doing)
    await run_add_columns(context.clickhouse, spec.destination, [column], spec.spill_column, context.cluster, beside)
    await _read_back(context, spec, column, doing)
    await refresh_view(context.clickhouse, spec, context.cluster)
    return Promoted(table, attribute, column.name, kind, True, found.get(takes, 0) - misfit, misfit + left)


async def _unit(context: AppContext, spec: TableSpec, path: tuple[str, ...]) -> Encoding:
    """Whether its numbers can only be milliseconds or microseconds."""
    values = await spilled_sample(context.clickhouse, spec, path)
    return epoch_unit(str(value["N"]) for value in values if isinstance(value, dict) and "N" in value)


def _configured(context: AppContext, name: str, doing: str) -> TableConfig:
    for table in context.config.tables:
        if table.dynamodb == name:
            return table
    names = ", ".join(table.dynamodb for table in context.config.tables)
    raise ConfigError(f"{doing}: the configuration has no such table", hint=f"it has {names}")


def _path(attribute: str, spec: TableSpec, doing: str) -> tuple[str, ...]:
    try:
        path = parse_attribute_path(attribute)
    except ValueError as error:
        raise ConfigError(f"{doing}: {error}") from None
    if not spec.spill_column:
        raise ConfigError(f"{doing}: {spec.destination} has no spill column, so older rows do not hold it")
    if path[0] in {key.name for key in spec.keys}:
        raise ConfigError(f"{doing}: it is of the key, which has its column already")
    if spec.redaction.hides(path):
        raise ConfigError(f"{doing}: it is left out, or inside of what is masked", hint="see exclude and mask")
    return path


def _of_same_values(there: list[ColumnSpec], codec: Codec, found: Mapping[str, int]) -> list[ColumnSpec]:
    """The columns whose values the new one is to show too: none where it is for a type that has no column yet."""
    if codec.own in found and not any(codec.own in column.takes for column in there):
        return []
    return [column for column in there if column.takes[0] in codec.encoders]


def _takes(found: Mapping[str, int], codec: Codec, there: list[ColumnSpec], doing: str) -> AttributeType:
    """Which DynamoDB type the column takes: its own one if there is any of it, else the most frequent that it can."""
    if there:
        return there[0].takes[0]
    if not found or codec.own in found or set(found) == {"NULL"}:
        return codec.own
    tag = next((tag for tag in found if tag in codec.encoders), None)
    if tag is None:
        kinds = ", ".join(f"{tag} ({count:,})" for tag, count in found.items())
        raise ConfigError(
            f"{doing}: {codec.node.label} cannot hold its values, which are {kinds}",
            hint=f"{codec.node.label} takes {', '.join(codec.encoders)}",
        )
    return tag  # type: ignore[return-value]


async def _check_held_elsewhere(context: AppContext, spec: TableSpec, path: tuple[str, ...], doing: str) -> None:
    """Older rows must not show NULL for what another column holds of the same map. Raises ConfigError."""
    names, count = await held_elsewhere(context.clickhouse, spec, path)
    if count:
        raise ConfigError(
            f"{doing}: {count:,} items have it in {', '.join(names[:5])}, and not in the spill",
            hint="go on by --keep-misfits: they show none until `dyncdc snapshot` has read them again",
        )


async def _misfit_error(
    context: AppContext, spec: TableSpec, column: ColumnSpec, count: int, doing: str
) -> ConfigError:
    """Say how many values do not fit, and which type would hold more of them."""
    values = await spilled_sample(context.clickhouse, spec, column.path)
    better = infer_columns((), [{"a": value} for value in values], nested="json")
    other = f"{better[0].type} is what their values tell; or " if better and better[0].type != column.type else ""
    return ConfigError(
        f"{doing}: {count:,} values do not fit {column.type}",
        hint=f"{other}leave them in the spill by --keep-misfits",
    )


async def _read_back(context: AppContext, spec: TableSpec, column: ColumnSpec, doing: str) -> None:
    """Someone else may have added a column of that name a moment before."""
    table = await context.retry(lambda: read_table(context.clickhouse, spec.destination))
    found = table.column(column.name) if table is not None else None
    if table is None or found is None or compile_type(found.type).node != compile_type(column.type).node:
        attribute = format_attribute_path(column.path)
        raise ConfigError(f"{doing}: the table has changed meanwhile", hint=f"promote {attribute} once more")

"""Table plans: how each configured table maps to its ClickHouse table, existing or to be made. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import ConfigError, UnusableTableError
from dyncdc.schema.existing.compatibility import DELETED_COLUMN, Incompatibility, incompatibilities
from dyncdc.schema.existing.nested_columns import Seen, doubtful_columns, nested_arrays, seen_places
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.mapping import existing_table_spec, new_table_spec, offered_statements, unfilled_columns
from dyncdc.schema.naming import VIRTUAL_NAMES
from dyncdc.schema.sql.ddl import add_mark_column, create_table, create_view
from dyncdc.schema.sql.history import create_history, history_incompatibilities
from dyncdc.schema.sql.quoting import quote_name
from dyncdc.schema.table_spec import KeyAttribute, TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import check_cluster
from dyncdc.sinks.state.destinations import refuse_detached
from dyncdc.sinks.state.mappings import read_destination
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.name_length import refuse_long_names
from dyncdc.sinks.tables.server_types import with_server_types
from dyncdc.sinks.tables.versions import incompatible_versions, made_by_others, read_versions
from dyncdc.sinks.tables.views import view_name, view_state
from dyncdc.sources.dynamodb import TableDescription

from .owners import check_owner

SAMPLE_ITEMS = 1000
"""Items that inference looks at: one page of a scan for most tables."""


@dataclass(frozen=True, slots=True)
class TablePlanned:
    """What would be done for one table. ``statements`` make what is missing, ``offers`` are up to the user."""

    config: TableConfig
    spec: TableSpec
    existing: ExistingTable | None
    statements: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: tuple[Incompatibility, ...] = ()
    """Why an existing table would lose rows; empty when it is safe."""
    source: TableDescription | None = None
    """The table that it mirrors, as DynamoDB describes it."""
    seen: Seen = field(default_factory=dict)
    """What a sample of items holds, where it was needed."""

    def incompatibility(self) -> ConfigError | None:
        """The error that says so, None when it is safe."""
        if not self.refused:
            return None
        reasons = "; ".join(refusal.reason for refusal in self.refused)
        return UnusableTableError(
            f"using {self.config.destination} for {self.config.dynamodb}: {reasons}",
            hint="; ".join(refusal.todo for refusal in self.refused),
        )

    @property
    def exists(self) -> bool:
        """Whether the destination is there already."""
        return self.existing is not None


async def check_clickhouse(context: AppContext) -> None:
    """Look at what concerns all destinations: the cluster, when one is named. Raises ConfigError."""
    cluster = context.cluster
    if cluster is not None:
        await context.retry(lambda: check_cluster(context.clickhouse, cluster))


async def plan_table(context: AppContext, config: TableConfig) -> TablePlanned:
    """Find the mapping of one table; changes nothing.

    Raises ConfigError for a table that does not exist in DynamoDB, or a mapping that cannot be.
    """
    description = await context.retry(lambda: context.tables.describe(config.dynamodb))
    _check_names(config)
    config = await with_types(context, config)
    existing = await context.retry(lambda: _attached(context.clickhouse, config.destination))
    if existing is not None:
        seen = await _seen(context, config, description.keys, existing)
        planned = _existing(config, description.keys, existing, context.cluster, seen)
        planned = await _with_versions(context, replace(planned, source=description), existing)
        refused, notes = await check_owner(context, config, description, existing)
        planned = replace(planned, refused=(*planned.refused, *refused), notes=[*planned.notes, *notes])
        planned = await _with_history(context, planned)
        return await _with_lengths(context, await _with_view(context, planned))
    version_type = await _version_type(context, config)
    spec = new_table_spec(config, description.keys, await _sample(context, config), version_type=version_type)
    compile_table(spec)
    notes = list(name_notes(config, None))
    planned = TablePlanned(config, spec, None, [create_table(spec, context.cluster)], notes=notes, source=description)
    planned = await _with_view(context, await _with_history(context, planned))
    return await _with_lengths(context, planned)


async def _attached(clickhouse: ClickHouse, name: str) -> ExistingTable | None:
    found = await read_destination(clickhouse, name)
    if found is None:
        await refuse_detached(clickhouse, name)
    return found


def _check_names(config: TableConfig) -> None:
    taken = [column.column for column in config.column_list if column.column in VIRTUAL_NAMES]
    if taken:
        raise ConfigError(
            f"mapping {config.dynamodb} to {config.destination}: ClickHouse has a virtual column {taken[0]}",
            hint="give the column another name in [[tables.columns]]",
        )


async def with_types(context: AppContext, config: TableConfig) -> TableConfig:
    """The configuration with every type as the server spells it: one type is one text from here on."""
    return await context.retry(lambda: with_server_types(context.clickhouse, config))


async def _seen(context: AppContext, config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable) -> Seen:
    """What items hold, where the name of a column alone does not tell its attribute."""
    if config.column_list or not doubtful_columns(config, keys, table):
        return {}
    return seen_places(await _sample(context, config))


async def _with_versions(context: AppContext, planned: TablePlanned, table: ExistingTable) -> TablePlanned:
    """Look at the versions that someone else wrote: what is greater than ours can never be replaced."""
    if planned.refused or not made_by_others(table):
        return planned
    versions = await context.retry(lambda: read_versions(context.clickhouse, table))
    found = incompatible_versions(planned.spec, versions) if versions is not None else ()
    return replace(planned, refused=tuple(found))


async def _with_history(context: AppContext, planned: TablePlanned) -> TablePlanned:
    """Add the history where it is missing; one that exists must be safe."""
    spec = planned.spec
    if not spec.history:
        return planned
    existing = await context.retry(lambda: read_table(context.clickhouse, spec.history))
    if existing is None:
        planned.statements.append(create_history(spec, context.cluster))
        return planned
    return replace(planned, refused=(*planned.refused, *history_incompatibilities(existing, spec)))


async def _with_view(context: AppContext, planned: TablePlanned) -> TablePlanned:
    """Add the view where it is missing or out of date; what is not ours under its name is never replaced."""
    spec = planned.spec
    state = await context.retry(lambda: view_state(context.clickhouse, spec, planned.existing))
    if state == "foreign":
        taken = Incompatibility(
            f"{view_name(spec)} exists and is not its view", "rename it, or give tables.clickhouse another name"
        )
        return replace(planned, refused=(*planned.refused, taken))
    if state != "current":
        planned.statements.append(create_view(spec, context.cluster))
    return planned


async def _with_lengths(context: AppContext, planned: TablePlanned) -> TablePlanned:
    """Refuse names that are too long for what would be made."""
    spec = planned.spec
    keys = {spec.destination: "tables.clickhouse", spec.history: "tables.history", view_name(spec): "tables.clickhouse"}
    made = {made_by(statement) for statement in planned.statements}
    names = {name: key for name, key in keys.items() if quote_name(name) in made}
    found = await context.retry(lambda: refuse_long_names(context.clickhouse, names))
    return replace(planned, refused=(*planned.refused, *found))


async def _version_type(context: AppContext, config: TableConfig) -> str:
    """Milliseconds tie: then the version also holds the sequence number, so that the order is total."""
    stream = context.config.stream_of(config)
    destinations, _ = await context.retry(lambda: context.tables.destinations(config.dynamodb))
    mine = [found for found in destinations if stream in (found.stream_arn, found.stream_arn.rpartition("/")[2])]
    return "UInt256" if any(found.precision != "MICROSECOND" for found in mine) else "Int64"


async def _sample(context: AppContext, config: TableConfig) -> Sequence[Mapping[str, object]]:
    if config.column_list:
        return ()
    return await context.retry(lambda: context.tables.sample(config.dynamodb, SAMPLE_ITEMS))


def _of_evolve(config: TableConfig, spec: TableSpec) -> Sequence[Incompatibility]:
    if config.evolve == "spill" or spec.spill_column or "evolve" not in config.model_fields_set:
        return ()
    todo = f'set evolve = "spill", or give it a column {config.metadata.spill or "_spill"} String'
    return [Incompatibility('it has no spill column, from which evolve = "add_columns" reads older rows', todo)]


def _existing(
    config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable, cluster: str | None, seen: Seen
) -> TablePlanned:
    spec = spec_of(config, keys, table, seen)
    offers = offered_statements(config, table, spec, cluster)
    notes = []
    if spec.deletes == "ignore" and not spec.deleted_column:
        offers.append(add_mark_column(table.name, config.metadata.deleted or DELETED_COLUMN, cluster))
        notes.append('deleted items stay (deletes = "ignore"): `dyncdc ddl` has the column that would mark them')
    if not spec.spill_column:
        notes.append("no spill column: attributes without a column are left out, misfits become dead letters")
    parts = nested_arrays(table)
    if parts and not config.column_list:
        notes.append(
            f"{', '.join(sorted(parts))} are parts of a Nested structure, whose arrays must be of one length: nothing"
            " fills them, name them in [[tables.columns]] if they always are"
        )
    empty = [name for name in unfilled_columns(table, spec) if name not in parts]
    if empty:
        notes.append(f"nothing fills {', '.join(empty)}: they keep their defaults")
    if table.hazards.constraints:
        names = ", ".join(table.hazards.constraints)
        notes.append(f"its constraints ({names}) hold for rows of deletes too: what violates one becomes a dead letter")
    notes += name_notes(config, table)
    found = (*incompatibilities(table, spec, cluster), *_of_evolve(config, spec))
    if not found:
        with _as_it_stands():
            compile_table(spec)
    return TablePlanned(config, spec, table, [], offers, notes, found, seen=seen)


def spec_of(config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable, seen: Seen) -> TableSpec:
    """How a table maps to a destination that is there. Raises UnusableTableError."""
    with _as_it_stands():
        return existing_table_spec(config, keys, table, seen)


@contextmanager
def _as_it_stands() -> Iterator[None]:
    """What does not fit a table that is there may fit once someone has fixed that: it is about this table alone."""
    try:
        yield
    except ConfigError as error:
        raise UnusableTableError(str(error), hint=error.hint) from None


def name_notes(config: TableConfig, table: ExistingTable | None) -> Iterator[str]:
    """What to say of names that mean something else than they look like."""
    if "." in config.destination:
        yield f"{config.destination} is the name of a table, dot and all; a database is named in clickhouse.url"
    for column in table.columns if table is not None else ():
        if column.name in VIRTUAL_NAMES:
            yield f"its column {column.name} has the name of a virtual one of ClickHouse, which may end it: rename it"


def made_by(statement: str) -> str:
    """The name of what a statement makes, for messages."""
    found = re.search(r"(?:TABLE|VIEW) (?:IF NOT EXISTS )?(`(?:[^`\\]|\\.)*`|\w+)", statement)
    return found[1] if found is not None else "tables"

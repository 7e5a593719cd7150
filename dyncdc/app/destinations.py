"""Destinations: how each configured table maps to its ClickHouse table, existing or to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..config import TableConfig
from ..decode.plan import compile_table
from ..decode.spec import KeyAttribute, TableSpec
from ..errors import ConfigError
from ..sinks.ddl import add_deleted_column, create_table, create_view
from ..sinks.mapping import existing_table_spec, new_table_spec
from ..sinks.own_tables import own_statements
from ..sinks.tables import ExistingTable, has_rows, read_table, refusals
from .world import World

SAMPLE_ITEMS = 1000
"""Items that inference looks at: one page of a scan for most tables."""

DEFAULT_DELETED_COLUMN = "_deleted"


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be done for one table. ``statements`` make what is missing, ``offers`` are up to the user."""

    config: TableConfig
    spec: TableSpec
    existing: ExistingTable | None
    statements: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exists(self) -> bool:
        """Whether the destination is there already."""
        return self.existing is not None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A destination that is there and safe. ``had_rows``: it was not empty when this process started."""

    config: TableConfig
    spec: TableSpec
    uuid: str
    had_rows: bool


async def plan_table(world: World, config: TableConfig) -> Planned:
    """Find the mapping of one table; changes nothing.

    Raises ConfigError for a table that does not exist in DynamoDB, or a destination that would lose rows.
    """
    description = await world.patience(lambda: world.tables.describe(config.dynamodb))
    existing = await world.patience(lambda: read_table(world.clickhouse, config.destination))
    if existing is not None:
        return _existing(config, description.keys, existing)
    spec = new_table_spec(config, description.keys, await _sample(world, config))
    compile_table(spec)
    return Planned(config, spec, None, [create_table(spec), create_view(spec)])


async def _sample(world: World, config: TableConfig) -> Sequence[Mapping[str, object]]:
    if config.column_list:
        return ()
    return await world.patience(lambda: world.tables.sample(config.dynamodb, SAMPLE_ITEMS))


def _existing(config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable) -> Planned:
    spec = existing_table_spec(config, keys, table)
    found = refusals(table, spec)
    if found:
        raise ConfigError(
            f"using {config.destination} for {config.dynamodb}: {'; '.join(refusal.reason for refusal in found)}",
            hint="; ".join(refusal.todo for refusal in found),
        )
    compile_table(spec)
    planned = Planned(config, spec, table, [create_view(spec)])
    if not spec.deleted_column:
        planned.offers.append(add_deleted_column(config.destination, DEFAULT_DELETED_COLUMN))
        planned.notes.append(
            f"deleted items stay, since the table has no column for it: add one with `dyncdc ddl` and set"
            f' tables.metadata.deleted = "{DEFAULT_DELETED_COLUMN}" and deletes = "tombstone"'
        )
    if not spec.spill_column:
        planned.notes.append("no spill column: attributes without a column are left out, misfits become dead letters")
    return planned


async def prepare(world: World, planned: Sequence[Planned]) -> list[Prepared]:
    """Make what is missing and return every destination, ready to be written."""
    await run_statements(world, [*own_statements(), *(text for plan in planned for text in plan.statements)])
    return [await _prepared(world, plan) for plan in planned]


async def run_statements(world: World, statements: Sequence[str]) -> None:
    """Run DDL, one statement after the other; each is harmless when repeated."""
    for statement in statements:
        await world.patience(partial(world.clickhouse.execute, statement, doing="creating tables"))


async def _prepared(world: World, plan: Planned) -> Prepared:
    table = await world.patience(lambda: read_table(world.clickhouse, plan.config.destination))
    if table is None:
        raise ConfigError(
            f"creating {plan.config.destination}: it is not there afterwards", hint="check the grants of the user"
        )
    # Read back, so that what is inserted fits the table as it is, whoever made it.
    spec = existing_table_spec(plan.config, plan.spec.keys, table)
    rows = await world.patience(lambda: has_rows(world.clickhouse, plan.config.destination))
    return Prepared(plan.config, spec, table.uuid, rows)

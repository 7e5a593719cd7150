"""Prepared tables: makes what is missing of planned destinations, and reads back what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from dyncdc.app.context import AppContext
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.pipeline.destinations.bindings import Target
from dyncdc.schema.existing.compatibility import Incompatibility, one_server_only
from dyncdc.schema.existing.table import ExistingTable, is_replicated
from dyncdc.schema.sql.ddl import is_view
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import SPLIT_HINT, present_tables, refuse_engines, refuse_split, split_tables
from dyncdc.sinks.client.durability import with_fsync
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.state.mappings import read_destination
from dyncdc.sinks.state.tables import own_statements, own_tables
from dyncdc.sinks.tables.disk_space import require_space
from dyncdc.sinks.tables.introspection import has_rows
from dyncdc.sinks.tables.server_types import virtual_names
from dyncdc.sinks.tables.views import make_view
from dyncdc.sources.dynamodb import TableDescription

from .table_plans import TablePlanned, made_by, name_notes, spec_of

_log = structlog.get_logger("dyncdc")


@dataclass(frozen=True, slots=True)
class PreparedTable:
    """A destination that is there and safe. ``had_rows``: it was not empty when this session was assembled.

    ``source``: the table that it mirrors, as DynamoDB describes it.
    """

    config: TableConfig
    spec: TableSpec
    table: ExistingTable
    had_rows: bool
    source: TableDescription | None = None
    virtual: frozenset[str] = frozenset()
    """Names that ClickHouse keeps for itself in the table."""

    @property
    def created(self) -> float:
        """When DynamoDB made the table that it mirrors, in seconds since the epoch; 0 if that is unknown."""
        return self.source.created if self.source is not None else 0.0

    @property
    def target(self) -> Target:
        """What goes where."""
        arn, id_ = (self.source.arn, self.source.id) if self.source is not None else ("", "")
        return Target(self.spec.source_table, self.spec.destination, self.uuid, arn, id_, str(self.table.hazards))

    @property
    def uuid(self) -> str:
        """What ClickHouse tells the table from any other of its name by."""
        return self.table.uuid


async def make_own_tables(context: AppContext) -> None:
    """Make those of dyncdc's own tables that are missing. Raises ConfigError for what they are then."""
    own = await own_tables_to_make(context.clickhouse, context.retry, context.cluster)
    if own:
        await run_statements(context, as_configured(context, own))
        await own_tables_to_make(context.clickhouse, context.retry, context.cluster)


async def prepare(context: AppContext, plan: TablePlanned) -> PreparedTable:
    """Make what is missing of one destination and return it, ready to be written."""
    for text in name_notes(plan.config, plan.existing):
        _log.warning("name of a destination", table=plan.config.dynamodb, said=text)
    views = [text for text in plan.statements if plan.exists and is_view(text)]
    await run_statements(context, as_configured(context, [text for text in plan.statements if text not in views]))
    for text in views:
        await _make_view_again(context, text)
    return await _prepared(context, plan)


async def _make_view_again(context: AppContext, statement: str) -> None:
    """Make the view of a table that is there. Rows do not wait for it: a new column, or the next start, tries again."""
    doing = f"making {made_by(statement)} again"
    try:
        await make_view(context.clickhouse, statement, doing)
    except (RetryableError, FatalError, ConfigError) as error:
        context.retry.health.log_error("view not made", doing=doing, error=str(error), hint=error.hint)


def as_configured(context: AppContext, statements: Sequence[str]) -> list[str]:
    """Statements that make tables, with the settings that the configuration asks for."""
    return with_fsync(statements) if context.config.clickhouse.insert_fsync else list(statements)


async def own_tables_to_make(clickhouse: ClickHouse, startup_retry: StartupRetry, cluster: str | None) -> list[str]:
    """Statements for dyncdc's own tables if one is missing here. Raises ConfigError, SplitTablesError.

    Where an administrator has made the tables, the user need not be allowed to.
    """
    present = await startup_retry(lambda: present_tables(clickhouse, own_tables()))
    refuse_engines(clickhouse, cluster, present)
    await startup_retry(lambda: refuse_split(clickhouse, cluster, list(present)))
    return [] if len(present) == len(own_tables()) else own_statements(cluster)


async def run_statements(context: AppContext, statements: Sequence[str]) -> None:
    """Run DDL, one statement after the other; each is harmless when repeated. Raises NoSpaceError before an ALTER."""
    for statement in statements:
        if statement.startswith("ALTER "):
            await context.retry(partial(require_space, context.clickhouse, f"altering {made_by(statement)}"))
        doing = f"creating {made_by(statement)}"
        if is_view(statement):
            await context.retry(partial(make_view, context.clickhouse, statement, doing))
        else:
            await context.retry(partial(context.clickhouse.define, statement, doing=doing))


async def _not_shared(context: AppContext, table: ExistingTable, spec: TableSpec) -> tuple[Incompatibility, ...]:
    """Why servers of the cluster would not all have the rows of a destination or its history; empty when they do."""
    names = [name for name in (spec.destination, spec.history) if name]
    found = await context.retry(lambda: split_tables(context.clickhouse, context.cluster, names))
    alone = () if context.cluster is None or is_replicated(table.engine) else (one_server_only(table, context.cluster),)
    return (*alone, *(Incompatibility(str(each), SPLIT_HINT) for each in found))


async def _prepared(context: AppContext, plan: TablePlanned) -> PreparedTable:
    table = await context.retry(lambda: read_destination(context.clickhouse, plan.config.destination))
    if table is None:
        # dropped by someone, or ClickHouse went back just now: beginning over makes it again
        raise TableGoneError(
            f"creating {plan.config.destination}: it is not there afterwards", hint="check the grants of the user"
        )
    # Read back, so that inserts fit the table as it is, even if another tool made it.
    spec = spec_of(plan.config, plan.spec.keys, table, plan.seen)
    made = replace(plan, refused=await _not_shared(context, table, spec)).incompatibility()
    if made is not None:
        raise made
    rows = await context.retry(lambda: has_rows(context.clickhouse, plan.config.destination))
    virtual = await context.retry(lambda: virtual_names(context.clickhouse, plan.config.destination))
    return PreparedTable(plan.config, spec, table, rows, plan.source, virtual)

"""Whose rows a destination holds: those of one DynamoDB table, written by one pipeline at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.bindings import Binding, Target
from dyncdc.pipeline.members.liveness import LIVE_SECONDS
from dyncdc.schema.existing.compatibility import Incompatibility
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import present_tables
from dyncdc.sinks.state.destinations import count_rows, read_bindings, write_bindings
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.tables import DESTINATIONS, MEMBERS, SNAPSHOTS
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sources.dynamodb import TableDescription


async def check_owner(
    context: AppContext, config: TableConfig, source: TableDescription, table: ExistingTable
) -> tuple[list[Incompatibility], list[str]]:
    """Refuse a destination that holds the rows of another table, or that another pipeline writes now.

    Also returns notes: what the first load does to rows that no one of us has written.
    """
    clickhouse, pipeline = context.clickhouse, context.config.pipeline
    present = await context.retry(lambda: present_tables(clickhouse, [DESTINATIONS, MEMBERS, SNAPSHOTS]))
    bindings = await context.retry(partial(read_bindings, clickhouse)) if DESTINATIONS in present else []
    owner = owner_of(table.uuid, bindings)
    if owner is not None:
        refusal = await _refusal(context, config.dynamodb, source.arn, owner)
        return [refusal] if refusal is not None else [], []
    loaded = await context.retry(ClickHouseSnapshots(clickhouse, pipeline).load) if SNAPSHOTS in present else ()
    rows = await context.retry(lambda: count_rows(clickhouse, table.name))
    if not rows or not _sweeps(config) or _is_loaded(table.uuid, loaded):
        return [], []
    note = (
        f"{rows:,} rows are in it that dyncdc has not written: the first load marks those as deleted that"
        f" {config.dynamodb} does not hold"
    )
    return [], [note]


async def claim(context: AppContext, config: TableConfig) -> None:
    """Make a destination the table's own, which may hold the rows of another. Raises ConfigError."""
    table = await context.retry(lambda: read_table(context.clickhouse, config.destination))
    if table is None:
        return
    source = await context.retry(lambda: context.tables.describe(config.dynamodb))
    bindings = await context.retry(partial(read_bindings, context.clickhouse))
    owner = owner_of(table.uuid, bindings)
    if owner is None or _is_of(config.dynamodb, source.arn, owner):
        return
    if owner.pipeline != context.config.pipeline and await is_alive(context.clickhouse, owner.pipeline):
        raise ConfigError(
            f"taking {config.destination} over for {config.dynamodb}: pipeline {owner.pipeline} writes it now",
            hint=f"stop pipeline {owner.pipeline} first",
        )
    target = Target(config.dynamodb, config.destination, table.uuid, source.arn, source.id)
    row = Binding(context.config.pipeline, target, max(row.number for row in bindings) + 1, time.time())
    await context.retry(lambda: write_bindings(context.clickhouse, [row]))


def owner_of(uuid: str, bindings: Sequence[Binding]) -> Binding | None:
    """The binding that wrote a ClickHouse table last."""
    return max((row for row in bindings if row.target.uuid == uuid), key=lambda row: row.number, default=None)


def _is_of(table: str, arn: str, owner: Binding) -> bool:
    """Whether a destination's owner is the very table that it is wanted for. An unknown ARN tells nothing."""
    return owner.target.table == table and (arn == owner.target.arn or "" in (arn, owner.target.arn))


async def is_alive(clickhouse: ClickHouse, pipeline: str) -> bool:
    """Whether a process of the pipeline was seen lately. A row of the future, of a wrong clock, says nothing."""
    members = await ClickHouseMembers(clickhouse, pipeline).members()
    return any(not one.left and abs(one.age_seconds) <= LIVE_SECONDS for one in members)


async def _refusal(context: AppContext, name: str, arn: str, owner: Binding) -> Incompatibility | None:
    other, theirs = owner.pipeline, owner.target.arn or owner.target.table
    if not _is_of(name, arn, owner):
        return Incompatibility(
            f"it holds the rows of DynamoDB table {theirs}, written by pipeline {other}",
            "give tables.clickhouse another name; or, if this table is to take its place, and all rows that it does not"
            f" hold are to be marked as deleted, run: dyncdc snapshot {name} --accept-deletes",
        )
    if other != context.config.pipeline and await context.retry(lambda: is_alive(context.clickhouse, other)):
        return Incompatibility(
            f"pipeline {other} writes it now", f"stop pipeline {other} first, or give tables.clickhouse another name"
        )
    return None


def _sweeps(config: TableConfig) -> bool:
    return config.snapshot.method != "none" and config.deletes != "ignore"


def _is_loaded(uuid: str, snapshots: Sequence[Snapshot]) -> bool:
    return any(snapshot.destination_uuid == uuid for snapshot in snapshots)

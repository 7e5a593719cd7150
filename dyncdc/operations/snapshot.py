"""``dyncdc snapshot``: leaves a request for a fresh snapshot where the running daemon, or the next, looks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from dyncdc.app.assembly.owners import claim
from dyncdc.app.assembly.prepared_tables import own_tables_to_make
from dyncdc.app.context import AppContext, open_clickhouse, open_context
from dyncdc.app.startup_retry import limited
from dyncdc.config import Config, TableConfig
from dyncdc.errors import ConfigError
from dyncdc.model.snapshots import Snapshot
from dyncdc.sinks.client.cluster import cluster_in_use
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.tables.introspection import read_table


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What was asked for: a new snapshot by the request ``id``, or that the ``going_on`` one goes on."""

    id: str
    going_on: bool = False


async def accept_deletes(config: Config, table: str) -> SnapshotRequest:
    """Let the snapshot that waits for a word, or else a new one, mark as deleted all that the table does not hold.

    The destination is the table's own from then on, even if another filled it. Raises ConfigError (also while another
    pipeline writes it), FatalError.
    """
    configured = _configured(config, table)
    _refuse(configured)
    with limited(config, "snapshot") as startup_retry:
        async with open_context(config, startup_retry) as context:
            for statement in await own_tables_to_make(context.clickhouse, startup_retry, context.cluster):
                await startup_retry(partial(context.clickhouse.execute, statement, doing="creating tables"))
            store = ClickHouseRecovery(context.clickhouse, config.pipeline)
            await claim(context, configured)
            waiting = await _waiting(context, configured)
            if waiting is None:
                return SnapshotRequest(await startup_retry(lambda: store.request(table, accept_deletes=True)))
            await startup_retry(lambda: store.accept_deletes(table, waiting.id))
            return SnapshotRequest(waiting.id, going_on=True)


async def _waiting(context: AppContext, table: TableConfig) -> Snapshot | None:
    """The newest snapshot of the destination, if nothing is left of it but to mark what is gone."""
    existing = await context.retry(lambda: read_table(context.clickhouse, table.destination))
    known = await context.retry(ClickHouseSnapshots(context.clickhouse, context.config.pipeline).load)
    uuid = existing.uuid if existing is not None else ""
    mine = [one for one in known if (one.table, one.destination_uuid) == (table.dynamodb, uuid)]
    return mine[-1] if mine and mine[-1].state == "sweeping" else None


async def request_snapshot(config: Config, table: str) -> str:
    """Ask for a snapshot of a table, named as in DynamoDB; return the request's id.

    Raises ConfigError (not configured, or it cannot be loaded again), FatalError (ClickHouse does not answer).
    """
    _refuse(_configured(config, table))
    with limited(config, "snapshot") as startup_retry:
        async with open_clickhouse(config, startup_retry) as clickhouse:
            cluster = await startup_retry(lambda: cluster_in_use(clickhouse, config.clickhouse.cluster))
            for statement in await own_tables_to_make(clickhouse, startup_retry, cluster):
                await startup_retry(partial(clickhouse.execute, statement, doing="creating tables"))
            return await startup_retry(lambda: ClickHouseRecovery(clickhouse, config.pipeline).request(table))


def _configured(config: Config, name: str) -> TableConfig:
    for table in config.tables:
        if table.dynamodb == name:
            return table
    names = ", ".join(table.dynamodb for table in config.tables)
    raise ConfigError(f"asking for a snapshot of {name}: the configuration has no such table", hint=f"it has {names}")


def _refuse(table: TableConfig) -> None:
    """Refuse what the daemon would ignore."""
    doing = f"asking for a snapshot of {table.dynamodb}"
    if table.snapshot.method == "none":
        raise ConfigError(
            f'{doing}: its snapshot.method is "none"', hint='set snapshot.method = "export" with a bucket, or "scan"'
        )
    if table.snapshot.export_arn is not None:
        raise ConfigError(
            f"{doing}: its snapshot.export_arn names one export forever",
            hint="set snapshot.bucket instead, so that a new export can be made",
        )

"""``dyncdc snapshot``: leaves a request for a fresh snapshot where the running daemon, or the next, looks for it."""

from __future__ import annotations

from functools import partial

from ..app.destinations import own_tables_to_make
from ..app.patience import limited
from ..app.world import open_clickhouse
from ..config import Config, TableConfig
from ..errors import ConfigError
from ..sinks.recovery import ClickHouseRecovery


async def request_snapshot(config: Config, table: str) -> str:
    """Ask for a snapshot of a table, named as in DynamoDB; return the request's id.

    Raises ConfigError (not configured, or it cannot be loaded again), FatalError (ClickHouse does not answer).
    """
    _refuse(_configured(config, table))
    with limited(config, "snapshot") as patience:
        async with open_clickhouse(config, patience) as clickhouse:
            for statement in await own_tables_to_make(clickhouse, patience, config.clickhouse.cluster):
                await patience(partial(clickhouse.execute, statement, doing="creating tables"))
            return await patience(lambda: ClickHouseRecovery(clickhouse, config.pipeline).request(table))


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
            f"{doing}: its snapshot.export_arn names one export for ever",
            hint="set snapshot.bucket instead, so that a new export can be made",
        )

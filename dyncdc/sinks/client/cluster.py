"""A cluster that ON CLUSTER names: whether tables made on it can keep one truth. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.errors import ConfigError
from dyncdc.schema.sql.quoting import quote_text

from .client import ClickHouse


async def check_cluster(clickhouse: ClickHouse, cluster: str) -> None:
    """Refuse a cluster that the server does not know, or whose tables have several shards. Raises ConfigError.

    Each server of another shard would take rows of its own, and versions of one item on different shards never meet.
    """
    rows = await clickhouse.fetch(
        f"SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {quote_text(cluster)}",
        doing=f"looking at cluster {cluster}",
    )
    shards = int(rows[0][0])
    doing = f"using clickhouse.cluster {cluster}"
    if not shards:
        hint = "`SELECT * FROM system.clusters` lists them"
        raise ConfigError(f"{doing}: the server knows no such cluster", hint=hint)
    if shards > 1:
        raise ConfigError(
            f"{doing}: it has {shards} shards; versions of one item on different shards would never replace each other",
            hint="name a cluster of one shard with all its replicas (remote_servers in the server's configuration)",
        )


async def present_tables(clickhouse: ClickHouse, names: Sequence[str]) -> dict[str, str]:
    """Engines of those of the tables that the server has, by name."""
    rows = await clickhouse.fetch(
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
        f" AND name IN ({', '.join(map(quote_text, names))})",
        doing="looking for dyncdc's own tables",
    )
    return {str(name): str(engine) for name, engine in rows}

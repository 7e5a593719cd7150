"""The servers that statements about tables are for, and whether tables on them keep one truth. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dyncdc.errors import AccessDeniedError, ConfigError
from dyncdc.schema.existing.table import is_replicated
from dyncdc.schema.sql.quoting import DATABASE_ITSELF, quote_text

from .client import ClickHouse

SHARDS_PAGE: Final = "docs/clickhouse.md#clusters-of-several-shards"


async def cluster_in_use(clickhouse: ClickHouse, configured: str | None) -> str | None:
    """Return what stands for the cluster in every statement about tables.

    Within a Replicated database a plain table is made on every server and filled on one: it is seen and not configured.
    """
    return DATABASE_ITSELF if await _database_engine(clickhouse) == "Replicated" else configured


async def makes_shared_tables(clickhouse: ClickHouse) -> bool:
    """Whether the database makes every table one that all servers share, whatever engine is named, as Cloud's does."""
    return await _database_engine(clickhouse) == "Shared"


async def _database_engine(clickhouse: ClickHouse) -> str:
    rows = await clickhouse.fetch(
        "SELECT engine FROM system.databases WHERE name = currentDatabase()", doing="looking at the database"
    )
    return str(rows[0][0]) if rows else ""


async def check_cluster(clickhouse: ClickHouse, cluster: str) -> None:
    """Refuse a cluster that the server does not know, or whose tables have several shards. Raises ConfigError.

    Each server of another shard would take rows of its own, and versions of one item on different shards never meet.
    """
    rows = await clickhouse.fetch(
        f"SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {_name(cluster)}",
        doing="looking at the cluster",
    )
    shards = int(rows[0][0])
    itself = cluster == DATABASE_ITSELF
    doing = (
        f"using the Replicated database {clickhouse.url.database}" if itself else f"using clickhouse.cluster {cluster}"
    )
    if not shards and not itself:
        hint = "`SELECT * FROM system.clusters` lists them"
        raise ConfigError(f"{doing}: the server knows no such cluster", hint=hint)
    if shards > 1:
        hint = (
            "name a cluster of one shard with all its replicas (remote_servers in the server's configuration); several"
            f" shards take one dyncdc each, with tables of its own ({SHARDS_PAGE})"
        )
        if itself:
            hint = "give all servers one shard's name in ENGINE = Replicated(path, shard, replica)"
        raise ConfigError(
            f"{doing}: it has {shards} shards; versions of one item on different shards would never replace each other",
            hint=hint,
        )


def _name(cluster: str) -> str:
    """The name in ``system.clusters``. That of a Replicated database has the database's."""
    return "currentDatabase()" if cluster == DATABASE_ITSELF else quote_text(cluster)


@dataclass(frozen=True, slots=True)
class Replicas:
    """A replicated table as this server has it. ``members``: servers that share its rows, ``pending``: that will."""

    table: str
    path: str
    members: int
    servers: int
    pending: int = 0

    @property
    def is_split(self) -> bool:
        """Whether other servers of the cluster may share other rows under the table's name.

        At most one Keeper path has more than half of the servers. None known: Keeper does not answer.
        """
        return 0 < self.members and 2 * (self.members + self.pending) <= self.servers

    def __str__(self) -> str:
        return f"{self.table} is shared by {self.members} of the {self.servers} servers of the cluster ({self.path})"


SPLIT_HINT = (
    "the others have another table of that name, or none, and a failover would go on from there: where it has no rows,"
    " drop it and create it with the UUID that it has elsewhere (docs/operations/guide.md)"
)


class SplitTablesError(AccessDeniedError):
    """Tables of dyncdc's own that most servers of the cluster do not share: it waits until someone fixes that."""


async def split_tables(clickhouse: ClickHouse, cluster: str | None, tables: Sequence[str]) -> list[Replicas]:
    """Which of these tables, of those that are there, are not shared by most of the servers of the cluster.

    Without a cluster's name no one knows which servers there should be; in a Replicated database all share all.
    """
    if not cluster or not tables:
        return []
    rows = await clickhouse.fetch(
        "SELECT table, any(zookeeper_path), max(total_replicas),"
        f" (SELECT uniqExact(host_name, port) FROM system.clusters WHERE cluster = {_name(cluster)})"
        " FROM system.replicas WHERE database = currentDatabase()"
        f" AND table IN ({', '.join(map(quote_text, tables))}) GROUP BY table ORDER BY table",
        doing="looking at the replicas of tables",
    )
    found = [Replicas(str(table), str(path), int(members), int(servers)) for table, path, members, servers in rows]
    return [
        each
        for each in found
        if each.is_split and replace(each, pending=await _pending(clickhouse, cluster, each)).is_split
    ]


async def _pending(clickhouse: ClickHouse, cluster: str, found: Replicas) -> int:
    """How many servers have yet to make this very table, as they were down when it was made.

    None where one has run the statement and does not share the rows: it had a table of that name already.
    """
    table = quote_text(found.table)
    uuid = f"SELECT toString(uuid) FROM system.tables WHERE database = currentDatabase() AND name = {table}"
    try:
        rows = await clickhouse.fetch(
            "SELECT uniqExactIf((host, port), status != 'Finished'),"
            " uniqExactIf((host, port), status = 'Finished' AND exception_code = 0)"
            f" FROM system.distributed_ddl_queue WHERE cluster = {quote_text(cluster)}"
            f" AND position(query, ({uuid})) > 0",
            doing="looking at statements that servers of the cluster have yet to run",
        )
    except AccessDeniedError:  # a grant that earlier versions did not need: then none is known
        return 0
    pending, done = map(int, rows[0])
    return pending if done <= found.members else 0


async def refuse_split(clickhouse: ClickHouse, cluster: str | None, tables: Sequence[str]) -> None:
    """Raise SplitTablesError for the first of ``split_tables``."""
    for found in await split_tables(clickhouse, cluster, tables):
        raise SplitTablesError(f"using clickhouse.cluster {cluster}: {found}", hint=SPLIT_HINT)


def refuse_engines(clickhouse: ClickHouse, cluster: str | None, present: Mapping[str, str]) -> None:
    """Raise ConfigError where own tables keep no rows themselves, or on one server of several. ``present``: engines.

    A Distributed table acknowledges rows before any server has them; what is behind it may have several shards.
    """
    others = [f"{name} ({engine})" for name, engine in present.items() if not engine.endswith("MergeTree")]
    if others:
        raise ConfigError(
            f"using {clickhouse.url.database}: dyncdc's own tables must be those that it makes, and there are"
            f" {', '.join(others)}",
            hint=f"use another database for them, of one server or of a cluster of one shard ({SHARDS_PAGE})",
        )
    alone = [name for name, engine in present.items() if not is_replicated(engine)]
    if cluster is not None and alone:
        used = f"clickhouse.cluster {cluster}" if cluster else f"the Replicated database {clickhouse.url.database}"
        raise ConfigError(
            f"using {used}: {', '.join(alone)} are of one server only",
            hint="they were made without it: use another database, or drop them and start over",
        )


async def present_tables(clickhouse: ClickHouse, names: Sequence[str]) -> dict[str, str]:
    """Engines of those of the tables that the server has, by name."""
    rows = await clickhouse.fetch(
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
        f" AND name IN ({', '.join(map(quote_text, names))})",
        doing="looking for dyncdc's own tables",
    )
    return {str(name): str(engine) for name, engine in rows}

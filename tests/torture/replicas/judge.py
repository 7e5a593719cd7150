"""Judge of replicas: they hold the same tables, and each of them has what the others have."""

from __future__ import annotations

import time

from matrix.cluster import Replica
from support.processes.harness import ClickHouseHttp, wait_until

from ..world import World


def expect_one_truth(world: World, seconds: float) -> None:
    """Wait until each replica has fetched all; then each table must be the same one on all of them."""
    end = time.monotonic() + seconds
    world.cluster.await_writable(seconds)
    for replica in world.cluster.replicas:
        _fetch_all(ClickHouseHttp(replica.http_port, world.place.name))
    last: list[str] = []

    def same() -> bool:
        last[:] = differing_tables(world)
        return not last

    try:
        wait_until(same, max(1.0, end - time.monotonic()), "all replicas have the same tables", pause_seconds=0.5)
    except AssertionError:
        raise AssertionError(f"replicas do not share their tables: {'; '.join(last[:5])}") from None


def differing_tables(world: World) -> list[str]:
    """Tables that are not on all replicas, or that one of them has under another UUID."""
    found = [tables_of(replica, world.place.name) for replica in world.cluster.replicas]
    names = sorted({name for tables in found for name in tables})
    return [
        f"{name}: {[tables.get(name, 'none') for tables in found]}"
        for name in names
        if len({tables.get(name) for tables in found}) > 1
    ]


def tables_of(replica: Replica, database: str) -> dict[str, str]:
    """Tables by name, with UUID and engine; of views the definition counts, and they have UUIDs of their own."""
    rows = replica.http.rows(
        f"SELECT name, engine, if(engine = 'View', '', toString(uuid)) FROM system.tables WHERE database = '{database}'"
    )
    return {str(name): f"{engine} {uuid}".strip() for name, engine, uuid in rows}


def expect_nothing_written_apart(replica: Replica, database: str) -> None:
    """A table that no other replica shares has no rows: what is written there, no one else sees."""
    found = replica.http.rows(
        "SELECT name, total_rows FROM system.tables WHERE total_rows > 0 AND (database, name) IN"
        f" (SELECT database, table FROM system.replicas WHERE database = '{database}' AND total_replicas = 1)"
    )
    assert not found, f"rows were written on {replica.directory.name} into tables that it shares with no one: {found}"


def _fetch_all(clickhouse: ClickHouseHttp) -> None:
    for (name,) in clickhouse.rows(
        f"SELECT table FROM system.replicas WHERE database = '{clickhouse.database}' ORDER BY table"
    ):
        clickhouse.run(f"SYSTEM SYNC REPLICA `{name}`")

"""Rebuild a replica that lost its disk, as an operator does."""

from __future__ import annotations

from .cluster import Replica

DROP_REPLICA_SECONDS = 20.0
"""Longer than the lost session of a replica lasts: until it is over, the replica counts as active."""


def forget(replica: Replica, name: str, database: str) -> bool:
    """Drop another replica that is gone for good from the keeper; False while that one still counts as active."""
    try:
        replica.http.run(f"SYSTEM DROP REPLICA '{name}' FROM DATABASE {database}")
    except AssertionError:
        return False
    return True


def copy_tables(source: Replica, target: Replica, database: str) -> None:
    """Make the tables of one replica on another, with their UUIDs: the path in ZooKeeper is made of them."""
    for name in target.http.rows(f"SELECT name FROM system.tables WHERE database = '{database}'"):
        target.http.run(f"DROP TABLE {database}.`{name[0]}` SYNC")
    statements = source.http.rows(
        f"SELECT create_table_query FROM system.tables WHERE database = '{database}' ORDER BY engine = 'View'"
        " SETTINGS show_table_uuid_in_table_create_query_if_not_nil = 1"
    )
    for (statement,) in statements:
        target.http.run(str(statement))

"""The least that a ClickHouse user needs for given destinations, as GRANT statements. Pure text.

Source: ClickHouse documentation, GRANT: which privilege each statement takes. The system tables read most
(``system.tables`` and ``columns``) are open to every user, and show what the user has a privilege on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dyncdc.schema.sql.ddl import VIEW_SUFFIX
from dyncdc.schema.sql.quoting import qualified, quote_name
from dyncdc.sinks.state.tables import own_tables

_DELETING: Final = ", ALTER DELETE, ALTER UPDATE(_row_exists)"
"""What DELETE takes: the second on 24.x and 25.x, where it marks rows by an update, the first since then."""


@dataclass(frozen=True, slots=True)
class GrantedTable:
    """One destination; ``made``: it has to be created, ``grows``: columns are added, ``cleaned``: old tombstones go."""

    name: str
    made: bool
    grows: bool
    history: str = ""
    cleaned: bool = False


def grant_statements(
    user: str,
    database: str,
    tables: Sequence[GrantedTable],
    *,
    cluster: str | None = None,
    replicated: bool = False,
    engines: bool = True,
) -> list[str]:
    """Return the grants for ``run`` and every other command.

    ``replicated``: dyncdc's own tables are waited for, as replicas; ``engines``: the server grants engines too.
    """
    found = needed_grants(database, tables, cluster=cluster, replicated=replicated, engines=engines)
    return [f"GRANT {privileges} ON {place} TO {quote_name(user)}" for place, privileges in found]


def needed_grants(
    database: str, tables: Sequence[GrantedTable], *, cluster: str | None, replicated: bool, engines: bool
) -> list[tuple[str, str]]:
    """The same as (place, privileges with commas between)."""
    found = list(_grants(database, tables, cluster, replicated))
    if engines:
        found.append((f"{'' if cluster is None else 'Replicated'}ReplacingMergeTree", "TABLE ENGINE"))
    return found


def _grants(
    database: str, tables: Sequence[GrantedTable], cluster: str | None, replicated: bool
) -> Iterator[tuple[str, str]]:
    replicated = replicated or cluster is not None
    own = "SELECT, INSERT, CREATE TABLE" + (", SYSTEM SYNC REPLICA" if replicated else "")
    for name in own_tables():
        yield qualified(name, database), own
    for table in tables:
        created = ", CREATE TABLE" if table.made else ""
        # comments that someone took away are restored; without the grant that is told, and rows are right all the same
        grows = ", ALTER ADD COLUMN, ALTER COMMENT COLUMN" if table.grows else ""
        cleaned = _DELETING if table.cleaned else ""
        yield qualified(table.name, database), f"SELECT, INSERT{created}{grows}{cleaned}"
        if table.history:
            yield qualified(table.history, database), "SELECT, INSERT, CREATE TABLE"
        # recreated whenever the table has other columns
        yield qualified(table.name + VIEW_SUFFIX, database), "SELECT, CREATE VIEW, DROP VIEW"
    if any(table.grows for table in tables):  # no ALTER on a full disk
        yield "system.disks", "SELECT"
        yield "system.storage_policies", "SELECT"
    yield "system.parts", "SELECT"
    yield "system.detached_tables", "SELECT"
    if any(table.cleaned for table in tables):
        yield "system.mutations", "SELECT"
    if replicated:
        yield "system.replicas", "SELECT"
    if cluster is not None:
        yield "system.clusters", "SELECT"
    if cluster:
        yield "system.distributed_ddl_queue", "SELECT"
        yield "*.*", "CLUSTER"

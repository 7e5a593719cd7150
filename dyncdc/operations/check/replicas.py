"""Replicas: what an insert waits for, told before one of them is down."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dyncdc.app.context import AppContext
from dyncdc.errors import AccessDeniedError
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.cluster import present_tables
from dyncdc.sinks.client.quorum import InsertQuorum

from .findings import Finding

SUBJECT = "clickhouse"


async def replica_findings(context: AppContext, tables: Collection[str]) -> list[Finding]:
    """What ``clickhouse.insert_quorum`` means for these tables, as far as they are there.

    Nothing of SharedMergeTree tables: an insert is in the storage that all servers share, and waits for none of them.
    Nothing where the user may not look: the grants name that where there are replicas.
    """
    engines = await present_tables(context.clickhouse, list(tables))
    tables = [name for name, engine in engines.items() if engine.startswith("Replicated")]
    if not tables:
        return []
    try:
        rows = await context.clickhouse.fetch(
            "SELECT table, total_replicas, active_replicas FROM system.replicas WHERE database = currentDatabase()"
            f" AND table IN ({', '.join(map(quote_text, tables))})",
            doing="looking for replicas",
        )
    except AccessDeniedError:
        return []
    counted = {str(table): (int(total), int(active)) for table, total, active in rows}
    return list(_of(counted, context.config.clickhouse.insert_quorum))


def _of(counted: Mapping[str, tuple[int, int]], wanted: InsertQuorum) -> Iterator[Finding]:
    by_total: dict[int, list[str]] = {}
    for table, (total, active) in sorted(counted.items()):
        by_total.setdefault(total, []).append(table)
        needed = total // 2 + 1 if wanted == "auto" else 1 if wanted == "off" else wanted
        if total and active < needed:
            text = f"{table} has {active} replicas at work, and an insert waits for {needed}"
            yield Finding("error", SUBJECT, text, "bring one back, or set clickhouse.insert_quorum")
    several = {total: tables for total, tables in by_total.items() if total > 1}
    if wanted == "auto" and 2 in several:
        text = f"an insert waits for both replicas of {_few(several[2])}: nothing is written while one is down"
        todo = 'a third replica; or clickhouse.insert_quorum = "off", by SIGHUP, when it happens'
        yield Finding("warning", SUBJECT, text, todo)
    if several and wanted in ("off", 1):
        tables = [table for names in several.values() for table in names]
        text = f"insert_quorum = {wanted!r}: what is acknowledged may be on one replica of {_few(tables)} alone"
        yield Finding("warning", SUBJECT, text.replace("'", '"'), 'insert_quorum = "auto" waits for a majority')


def _few(tables: list[str]) -> str:
    return f"{tables[0]}" if len(tables) == 1 else f"{len(tables)} tables"

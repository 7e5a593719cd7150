"""Whether a destination is still what its rows were made for: asked after every insert, before it counts as durable.

ClickHouse trusts its client: a column whose type someone narrows takes "300" as 44 and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dyncdc.model.blocks import Block
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.destinations import refuse_detached


@dataclass(slots=True)
class _Known:
    uuid: str
    types: Mapping[str, str]
    fingerprint: int = 0


class SchemaCheck:
    """What every destination was when its plan was compiled. ``on_news``: a destination has changed harmlessly."""

    def __init__(self, clickhouse: ClickHouse, on_news: Callable[[str], None]) -> None:
        self._clickhouse = clickhouse
        self._on_news = on_news
        self._known: dict[str, _Known] = {}

    def expect(self, destination: str, uuid: str, types: Mapping[str, str]) -> None:
        """From now on rows are made for this table, with columns of these types (ALIAS and the like left out)."""
        self._known[destination] = _Known(uuid, types)

    def knows(self, table: str) -> bool:
        """Whether ``check`` tells anything about this table."""
        return table in self._known

    async def is_there(self, table: str) -> bool:
        """Whether a table of that name is there, known or not. Raises RetryableError, FatalError."""
        return bool(await self._uuid(table))

    async def check(self, block: Block) -> None:
        """Return if the block's columns are what they were. Raises RetryableError, FatalError, DestinationChangedError.

        Only a look that begins after the block's insert has ended tells anything about it.
        """
        known = self._known.get(block.table)
        if known is None:
            return
        fingerprint = await self._fingerprint(block.table)
        if fingerprint == known.fingerprint:
            return
        types = await self._types(block.table)
        if not types:  # it comes back as it was, with its UUID: no other table need wait for that
            await refuse_detached(self._clickhouse, block.table)
        changed = [name for name in block.columns if types.get(name) != known.types.get(name)]
        if changed:
            raise _changed(block.table, f"column {changed[0]} is {types.get(changed[0], 'gone')}")
        if await self._uuid(block.table) != known.uuid:
            raise _changed(block.table, "it was recreated")
        # what changed meanwhile has another fingerprint
        known.fingerprint = fingerprint
        if types != known.types:
            self._on_news(block.table)

    async def _fingerprint(self, table: str) -> int:
        uuid = f"ifNull(({_UUID_OF.format(quote_text(table))}), '')"
        rows = await self._clickhouse.fetch(
            f"SELECT cityHash64({uuid}, groupArray((name, type, default_kind)))"
            f" FROM system.columns WHERE database = currentDatabase() AND table = {quote_text(table)}",
            doing=f"looking at the columns of {table}",
        )
        return int(rows[0][0])

    async def _types(self, table: str) -> dict[str, str]:
        rows = await self._clickhouse.fetch(
            f"SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {quote_text(table)}"
            " AND default_kind NOT IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL')",
            doing=f"reading the columns of {table}",
        )
        return dict(rows)

    async def _uuid(self, table: str) -> str:
        rows = await self._clickhouse.fetch(_UUID_OF.format(quote_text(table)), doing=f"reading the UUID of {table}")
        return str(rows[0][0]) if rows else ""


_UUID_OF = "SELECT toString(uuid) FROM system.tables WHERE database = currentDatabase() AND name = {}"


def _changed(table: str, how: str) -> DestinationChangedError:
    return DestinationChangedError(
        f"inserting into {table}: {how}, not what its rows were made for",
        hint="the mapping is read again; rows that were not acknowledged are made again",
    )

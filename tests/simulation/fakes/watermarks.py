"""``dyncdc_watermarks`` as one session sees it. Every watermark is compared with the truth when it is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from dyncdc.model.shards import SourceId
from dyncdc.model.watermarks import Watermark
from simulation.process_run import Life, server_time
from simulation.world import EPOCH

from .clickhouse import ClickHouse, position_index

STREAM_DELAY_SECONDS = 1.0
"""No change of the script is on its way into the stream for so long."""


class WatermarksClient:
    """Implements ``WatermarkStore``. ``loaded``: tables that have a snapshot."""

    def __init__(self, server: ClickHouse, session: Life, loaded: Collection[str]) -> None:
        self._server = server
        self._session = session
        self._loaded = loaded

    async def load(self) -> Sequence[Watermark]:
        await self._answer()
        return list({row.table: row for row in self._server.watermarks}.values())

    async def open_dead_letters(self) -> Collection[tuple[str, SourceId]]:
        await self._answer()
        found: set[tuple[str, SourceId]] = set()
        for identity in self._server.dead_letters:
            if identity.startswith("refused/"):
                found.add((identity.split("/")[1], SourceId("")))
            else:
                source = next(stream.id for stream in self._server.world.streams if identity.startswith(stream.id))
                found.add(("", SourceId(source)))
        return found

    async def save(self, rows: Sequence[Watermark]) -> None:
        await self._answer()
        for row in rows:
            self._probe(row)
        self._server.watermarks += [replace(row, saved_at=server_time()) for row in rows]

    async def _answer(self) -> None:
        await asyncio.sleep(0.01)
        if self._session.dead:
            await asyncio.Event().wait()

    def _probe(self, row: Watermark) -> None:
        if row.complete_until is None:
            return
        server, until = self._server, row.complete_until - EPOCH
        complete = {found.table for found in server.snapshots.values() if found.state == "complete"}
        if row.table in self._loaded and row.table not in complete:
            raise self._session.violated(f"a watermark of {row.table}, which is not loaded")
        for stream in server.world.streams:
            position = server.first_positions.get(stream.id, "TRIM_HORIZON")
            for log in stream.shards.values():
                for entry in log.entries[position_index(log.sequences, log.arrivals, position) :]:
                    change = entry.change
                    if change.table != row.table or change.kind == "garbage" or change.at >= until:
                        continue
                    found = server.tables.get(change.table, {}).get(change.key)
                    if found is not None and found.number == change.number:
                        continue  # the change itself, perhaps under the version of the snapshot that brought it
                    if found is None or found.rank < change.rank:
                        raise self._session.violated(f"watermark {until} of {row.table} passed change {change.number}")

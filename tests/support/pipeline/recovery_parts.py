"""Small parts for tests of losses and snapshots: stores that keep in memory what they are given."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence

from dyncdc.model.gaps import Gap, Request, TableSource
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.ports.orphan_rows import Counted, Swept


class MemoryRecovery:
    """Keeps gaps, requests and followed tables. ``answer`` is called before a gap is kept and may wait or raise."""

    def __init__(self) -> None:
        self.gaps: dict[tuple[str, str, str, int], Gap] = {}
        self.recovered: list[Gap] = []
        self.requests: list[Request] = []
        self.done: list[Request] = []
        self.tables: dict[str, TableSource] = {}
        self.answer: Callable[[], Coroutine[object, object, None]] | None = None

    async def server_time(self) -> float:
        return 1_000.0

    async def open_gaps(self) -> Sequence[Gap]:
        return list(self.gaps.values())

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        if self.answer is not None:
            await self.answer()
        for gap in gaps:
            if recovered_at is None:
                self.gaps[gap.key] = gap
            else:
                del self.gaps[gap.key]
                self.recovered.append(gap)

    async def open_requests(self) -> Sequence[Request]:
        return [request for request in self.requests if request not in self.done]

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        self.done += requests

    async def table_sources(self) -> Sequence[TableSource]:
        return list(self.tables.values())

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        self.tables.update((row.table, row) for row in tables)


class MemoryGhosts:
    """Counts sweeps. ``steps``: into how many ranges of keys the table falls."""

    def __init__(self) -> None:
        self.dead_letters = 0
        self.steps = 3
        self.live = self.orphan_rows = 0
        """Of each range."""
        self.accepts: set[str] = set()
        self.swept: list[tuple[str, int, tuple[str, ...]]] = []
        self.answer: Callable[[], Coroutine[object, object, None]] | None = None

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        return self.dead_letters

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        step = int(after[0]) + 1 if after else 1
        return Counted(self.live, self.orphan_rows, (str(step),) if step < self.steps else None)

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        return not self.accepts.isdisjoint((snapshot, request))

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        if self.answer is not None:
            await self.answer()
        self.swept.append((table, version, after))
        step = int(after[0]) + 1 if after else 1
        return Swept(1, (str(step),) if step < self.steps else None)


class NoSnapshots:
    """Snapshots are not what a test is about."""

    async def load(self) -> Sequence[Snapshot]:
        return []

    async def save(self, snapshot: Snapshot) -> None:
        raise AssertionError("no snapshot was asked for")

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        raise AssertionError("there is no gap")

    def for_snapshot(self, table: str, version: int) -> Decoder:
        raise AssertionError("no snapshot was asked for")

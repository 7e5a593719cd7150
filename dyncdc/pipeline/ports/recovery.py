"""Where gaps, requests and table sources are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dyncdc.model.gaps import Gap, Request, TableSource


class RecoveryStore(Protocol):
    """``dyncdc_gaps``, ``dyncdc_requests``, ``dyncdc_table_sources``. Every call raises RetryableError, FatalError."""

    async def server_time(self) -> float:
        """Seconds since the epoch by the store's own clock."""

    async def open_gaps(self) -> Sequence[Gap]:
        """Every gap that is not recovered, the earliest first."""

    async def save_gaps(self, gaps: Sequence[Gap], *, recovered_at: float | None = None) -> None:
        """Append gaps, as recovered when ``recovered_at`` is given: that stands, up to the end that they have then."""

    async def open_requests(self) -> Sequence[Request]:
        """Every request that is not done, the earliest first."""

    async def finish_requests(self, requests: Sequence[Request], done_at: float) -> None:
        """Mark requests as done."""

    async def table_sources(self) -> Sequence[TableSource]:
        """For each table, by what session it was followed last."""

    async def save_table_sources(self, tables: Sequence[TableSource]) -> None:
        """Append, before the session reads anything."""

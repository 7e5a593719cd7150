"""Where watermarks are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from dyncdc.model.shards import SourceId
from dyncdc.model.watermarks import Watermark


class WatermarkStore(Protocol):
    """``dyncdc_watermarks``. Every call raises RetryableError, FatalError."""

    async def load(self) -> Sequence[Watermark]:
        """The newest row of every member of every assignment."""

    async def save(self, rows: Sequence[Watermark]) -> None:
        """Append rows, all of them in one insert."""

    async def open_dead_letters(self) -> Collection[tuple[str, SourceId]]:
        """Tables and sources with open dead letters; a record that names no table has table ""."""

"""Where limit stops are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dyncdc.pipeline.writing.dead_letter_limits import LimitStop


class LimitStopStore(Protocol):
    """What earlier sessions of this pipeline have stopped at, kept among its dead letters."""

    async def open_limit_stops(self) -> Sequence[LimitStop]:
        """Those that no one has closed. Raises RetryableError, FatalError."""

    async def save_limit_stop(self, stop: LimitStop) -> None:
        """Append one. Raises RetryableError, FatalError."""

    async def close_limit_stop(self, stop: LimitStop) -> None:
        """Mark one as done with: its record has become a row. Raises RetryableError, FatalError."""

"""Known contents: what each destination held at the last look."""

from __future__ import annotations

import asyncio

from dyncdc.errors import RetryableError
from dyncdc.pipeline.runtime import Retrier

from .bindings import DestinationContents, DestinationStore

SAVE_SECONDS = 3600.0
"""Until what a destination holds is written down again although it has the same partitions: it stays true."""

LIVE_PAUSE = 50.0
"""Until a destination without an item is asked again for one, as a multiple of what the last time took."""


class KnownContents:
    """What the destinations held, by DynamoDB's name of the table."""

    def __init__(self, store: DestinationStore, retry: Retrier) -> None:
        self._store = store
        self._retry = retry
        self._held: dict[str, DestinationContents] = {}
        self._held_at: dict[str, float] = {}
        self._live_until: dict[str, float] = {}

    def note(self, table: str, held: DestinationContents, at: float) -> None:
        """Note what a destination holds, seen ``at`` (seconds, the store's clock)."""
        self._held[table], self._held_at[table] = held, at

    def of(self, table: str) -> DestinationContents:
        """What the destination held; nothing if that is not known."""
        return self._held.get(table, DestinationContents())

    def known_at(self, table: str) -> float:
        """When that was seen, in seconds by the store's clock."""
        return self._held_at[table]

    async def is_live(self, table: str, destination: str, *, pause_seconds: float) -> bool:
        """Whether there is an item in the destination, as far as one has to know. Unknown counts as yes.

        ``pause_seconds``: until the next look, if this one fails.
        """
        loop = asyncio.get_running_loop()
        held, began = self.of(table), loop.time()
        if began < self._live_until.get(table, 0.0):
            return held.live
        try:
            live = await self._store.any_live(destination)
        except RetryableError as error:
            self._retry.failed(error, pause_seconds)
            return True
        # to find none among many tombstones takes time
        self._live_until[table] = loop.time() + (SAVE_SECONDS if live else LIVE_PAUSE * (loop.time() - began))
        return live

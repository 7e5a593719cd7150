"""Peer checkpoints: what other members of the pipeline have saved, read often enough that no one waits for long."""

from __future__ import annotations

import asyncio

from dyncdc.pipeline.runtime import Instruments, Retrier

from .checkpointer import Checkpointer

LOOK_SECONDS = 0.3
"""A child of another member's shard is not read before its parent's end has been seen here."""

LOOK_SHARE = 0.05
"""At most this share of the time goes into looking: with very many rows the pauses grow."""


class PeerCheckpoints:
    """One task, over whatever the checkpointer watches."""

    def __init__(self, checkpointer: Checkpointer, instruments: Instruments) -> None:
        self._checkpointer = checkpointer
        self._instruments = instruments

    async def run(self) -> None:
        """Look until cancelled."""
        loop, retry = asyncio.get_running_loop(), Retrier(self._instruments, "others", "others")
        with self._instruments.health.task("others") as task:
            while True:
                begun = loop.time()
                task.waiting_for("ClickHouse to show the other members' checkpoints")
                with retry.tolerate(LOOK_SECONDS):
                    await self._checkpointer.refresh(tuple(self._checkpointer.watched))
                    task.moved()
                pause_seconds = max(LOOK_SECONDS, (loop.time() - begun) / LOOK_SHARE)
                task.waiting_for("the next look at the other members", for_seconds=pause_seconds)
                await asyncio.sleep(pause_seconds)

"""Checkpoints of the pipeline's other members, looked at often enough that no shard waits for long."""

from __future__ import annotations

import asyncio

from dyncdc.pipeline.runtime import Instruments, Retrier

from .checkpointer import Checkpointer

LOOK_SECONDS = 0.3
"""A child of another member's shard is not read before its parent's end has been seen here."""

LOOK_SHARE = 0.05
"""At most this share of the time goes into looking: with very many rows the pauses grow."""


async def watch_peer_checkpoints(checkpointer: Checkpointer, instruments: Instruments) -> None:
    """Look at the rows of all sources that ``checkpointer`` watches, until cancelled."""
    loop, retry = asyncio.get_running_loop(), Retrier(instruments, "others", "others")
    with instruments.health.task("others") as task:
        while True:
            begun = loop.time()
            task.waiting_for("ClickHouse to show the other members' checkpoints")
            with retry.tolerate(LOOK_SECONDS):
                await checkpointer.refresh(tuple(checkpointer.watched))
                task.moved()
            pause_seconds = max(LOOK_SECONDS, (loop.time() - begun) / LOOK_SHARE)
            task.waiting_for("the next look at the other members", for_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)

"""A writer at work while a test hands over blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from dyncdc.pipeline.writing.writer import Writer


class HasWriter(Protocol):
    """What a test has set up."""

    writer: Writer


Bench = TypeVar("Bench", bound=HasWriter)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """Run the writer of ``bench`` for the block; what it raises ends the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(bench.writer.run(), name="writer")
        await asyncio.sleep(0)
        yield bench
        task.cancel()

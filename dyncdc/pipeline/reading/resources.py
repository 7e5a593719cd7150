"""ReadResources: what all shard readers of a session share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter
from dyncdc.pipeline.writing.writer import Writer

from .arrival_delays import ArrivalDelays
from .shard.polling import IdlePollLimiter


@dataclass(frozen=True, slots=True)
class ReadResources:
    """The way of a chunk from its source to the writer, and what bounds it."""

    instruments: Instruments
    budget: ByteBudget
    writer: Writer
    fetch_ceiling_bytes: int = 2 * 2**20
    dead_letter_limiter: DeadLetterLimiter = field(default_factory=DeadLetterLimiter)
    idle_poll_limiter: IdlePollLimiter = field(default_factory=IdlePollLimiter)
    delays: ArrivalDelays = field(default_factory=ArrivalDelays)
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one fetch that may need more than its share of the budget."""

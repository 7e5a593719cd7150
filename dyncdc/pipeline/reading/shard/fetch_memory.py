"""Fetch memory: how much of the budget the next fetch of a shard reserves."""

from __future__ import annotations

from contextlib import AsyncExitStack

from dyncdc.pipeline.budget import Reservation
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.ports.source import LargeAnswers, Source
from dyncdc.pipeline.reading.resources import ReadResources

from .polling import FetchSize

FETCH_COST = 4
"""Bytes of memory that a fetch takes for each byte of records while it is under way: the response as it arrives, the
response joined (both base64), and the records. Measured for GetRecords."""

DECODE_COST = 2
"""The same while the records are decoded: the records, and their columns growing beside them."""

ALONE_SHARE = 0.25
"""A fetch that may need more of the budget is under way alone, and reserves so much: all that it needs might never be
free beside what tables hold that take nothing. So the bound is exceeded by one answer, however many shards have one."""


class FetchMemory:
    """What the fetches of one shard reserve, by ``size``, which adapts to its answers."""

    def __init__(self, resources: ReadResources, source: Source, decoder: Decoder) -> None:
        self._resources = resources
        self._large = source if isinstance(source, LargeAnswers) else None
        self._decoder = decoder
        self.size = FetchSize(ceiling_bytes=resources.fetch_ceiling_bytes)

    async def reserve(self, alone: AsyncExitStack) -> Reservation:
        """Wait for memory, and until no table of the source holds too much of it: one may have begun to meanwhile.

        ``alone`` is closed once the answer is there, or the fetch has failed.
        """
        resources, tables = self._resources, self._decoder.tables
        share_bytes = int(resources.budget.capacity_bytes * ALONE_SHARE)
        while True:
            await resources.writer.wait_for_capacity(tables)
            largest_bytes = self._large.largest_answer_bytes if self._large is not None else 0
            nbytes = max(self.size.expected_bytes, largest_bytes) * FETCH_COST
            if largest_bytes and nbytes > share_bytes:
                await alone.enter_async_context(resources.alone)
                nbytes = share_bytes
            reservation = await resources.budget.reserve(nbytes)
            if resources.writer.has_capacity(tables):
                return reservation
            reservation.release()
            await alone.aclose()

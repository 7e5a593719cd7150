"""ChunkDecoder: decodes the chunks of a shard within their reservation, and counts what becomes a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from dyncdc.model.blocks import Block, DeadLetter
from dyncdc.model.shards import RawChunk, Shard
from dyncdc.pipeline.budget import Reservation
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter


class ChunkDecoder:
    """``unusable``: DynamoDB tables whose records the decoder leaves out."""

    def __init__(
        self,
        decoder: Decoder,
        shard: Shard,
        unusable: Collection[str],
        instruments: Instruments,
        limiter: DeadLetterLimiter,
    ) -> None:
        self._decoder = decoder
        self._shard = shard
        self._unusable = frozenset(unusable)
        self._instruments = instruments
        self._limiter = limiter

    async def decode(self, chunk: RawChunk, reservation: Reservation) -> tuple[list[Block], bool]:
        """Decode in sub-batches, giving the loop a turn after each. Raises LimitReached for too many dead letters.

        Returns also whether the blocks are the whole chunk: nothing in it is of a table that can not be used.
        """
        blocks: list[Block] = []
        whole = True
        judged, rejected = 0, list[DeadLetter]()
        held = chunk.nbytes
        with self._instruments.metrics.stage("decode"):
            for decoded in self._decoder.decode(chunk):
                blocks += decoded.blocks
                held += sum(block.nbytes for block in decoded.blocks)
                if held > reservation.nbytes:  # a history holds each image once more
                    reservation.resize(held)
                rejected += (
                    replace(dead_letter, ordinal=judged + dead_letter.ordinal) for dead_letter in decoded.dead_letters
                )
                judged += decoded.judged
                whole = whole and self._unusable.isdisjoint(decoded.records)
                self._instruments.metrics.decoded(decoded)
                await asyncio.sleep(0)
        self._instruments.health.diverted(rejected)
        self._limiter.count_decoded(self._shard, judged, rejected, chunk.positions)
        return blocks, whole

"""ChunkHandover: tracks the chunks of a shard in its ledger and puts their blocks into the writer."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.model.blocks import Block
from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import RawChunk
from dyncdc.pipeline.budget import Reservation
from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.reading.resources import ReadResources

from .read_progress import ReadProgress


class ChunkHandover:
    """The chunks of one shard, on their way from its decoder to the writer."""

    def __init__(self, resources: ReadResources, ledger: ShardLedger, progress: ReadProgress, decoder: Decoder) -> None:
        self._resources = resources
        self._ledger = ledger
        self._progress = progress
        self._decoder = decoder

    def hand_over(self, chunk: RawChunk, blocks: list[Block], reservation: Reservation, *, whole: bool) -> None:
        """Track and put, without an await in between: a cancellation sees all of it or nothing."""
        reservation.resize(sum(block.nbytes for block in blocks))
        self._measure(chunk, blocks)
        receipt = self._ledger.track(
            Mark(chunk.end, chunk.read_until),
            len(blocks),
            reservation.release,
            reservation.give_back,
            incomplete=not whole,
        )
        for block in blocks:
            self._resources.writer.put(block, receipt, self._progress.answered_at)
        if chunk.closed:
            # Behind the data: it cannot overtake what was read before it.
            self._ledger.track(Mark(chunk.end, self._progress.until_last(chunk), finished=True), 0, lambda: None)
            self._resources.writer.flush_soon(self._decoder.tables)

    def _measure(self, chunk: RawChunk, blocks: Sequence[Block]) -> None:
        """How long the newest change of the chunk took to get into the stream, and from there to us."""
        created = max((block.created for block in blocks), default=0.0)
        if not chunk.arrived:
            return
        metrics = self._resources.instruments.metrics
        metrics.passed("stream_to_read", self._progress.answered_by_clock - chunk.arrived)
        if created:
            delay_seconds = chunk.arrived - created
            metrics.passed("source_to_stream", delay_seconds)
            self._resources.delays.saw(chunk.shard.source, delay_seconds, self._progress.answered_at)

"""What turns records into rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from dyncdc.model.blocks import Decoded
from dyncdc.model.shards import RawChunk


class Decoder(Protocol):
    """Bytes of one source into blocks. Pure: no clock, no I/O, the same blocks for the same chunk."""

    @property
    def tables(self) -> Collection[str]:
        """Destination tables it may fill, the dead-letter table included."""

    def decode(self, chunk: RawChunk) -> Iterator[Decoded]:
        """Yield sub-batches of a few hundred records; the caller gives the event loop a turn between them."""


class SnapshotDecoders(Protocol):
    """Makes the decoder of one table's snapshot once its version is known."""

    def for_snapshot(self, table: str, version: int) -> Decoder:
        """``version`` in microseconds: what every row of this snapshot carries."""

"""Read progress: when one shard was read, and up to where. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.model.shards import RawChunk

READING_SECONDS = 30.0
"""A shard that gave no answer for so long is not being read, whatever keeps its reader."""


@dataclass(slots=True)
class ReadProgress:
    """Of one shard, since its reader began. ``*_until`` by the source's clock, ``*_at`` in loop time."""

    read_before: float
    """As ``read_until``, without the last answer: what follows a shard's end may have begun as early as that."""
    read_until: float = 0.0
    """How far the shard has been read (not: made durable)."""
    put_until: float = 0.0
    """As ``read_until``, but for what is with the writer."""
    asked_at: float = float("-inf")
    """When the last fetch that was answered was begun."""
    answered_at: float = float("-inf")
    answered_by_clock: float = 0.0
    """When the last answer was there: loop time, and by the clock."""
    tip_seen_at: float = float("-inf")
    """When the last fetch that reached the tip was begun. All of it is with the writer."""

    def answered(self, asked_at: float, answered_at: float, clock: float) -> None:
        """Note that a fetch was answered."""
        self.asked_at, self.answered_at, self.answered_by_clock = asked_at, answered_at, clock

    def read(self, chunk: RawChunk) -> None:
        """Note up to when the answer shows the shard."""
        self.read_before = self.read_until or self.read_before
        self.read_until = max(self.read_until, chunk.read_until)

    def put(self, chunk: RawChunk) -> None:
        """Note that all of the answer is with the writer."""
        self.put_until = max(self.put_until, chunk.read_until)
        if chunk.at_tip:
            self.tip_seen_at = self.asked_at

    def until_last(self, chunk: RawChunk) -> float:
        """Up to when the shard was read before its last chunk: its children may hold records as old as that."""
        return self.read_before or chunk.read_until

    def is_reading(self, now: float) -> bool:
        """Whether an answer came a short while before ``now`` (loop time): then what expires is noticed here."""
        return now - self.answered_at < READING_SECONDS

"""The edge of a stream's retention, seen from one shard that is read on. Pure decisions.

Kinesis goes on at its horizon without a word when a position has expired. Only time shows it: a reader that had read up
to an instant that is older than the retention when the answer came has not read what lay between.
"""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.model.shards import RawChunk

LEAST_RETENTION_SECONDS = 24 * 3600.0
"""A younger position has not expired, whatever the retention is by now. Source: AWS, Kinesis quotas."""

CLOCK_GRAIN_SECONDS = 1.0
"""A service tells its time in whole seconds, cut off: it may be later than it says."""

JUMP_SECONDS = 1.0
"""Records of a shard that is read with a lag follow each other more closely, or the shard is soon at its tip."""


@dataclass(frozen=True, slots=True)
class Hole:
    """What came into a shard between two instants was gone before it was read."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class ObservedRetention:
    """What is known of how long a stream keeps its records.

    ``expired_until``: what had arrived by then may have expired before the retention was increased. ``looks``: how
    often it was looked at; what came between the last two is certain only since.
    """

    seconds: float
    expired_until: float = 0.0
    looks: int = 0

    def seen(self, seconds: float, now: float) -> ObservedRetention:
        """Return what is known after another look at the retention."""
        expired_until = now + CLOCK_GRAIN_SECONDS - min(self.seconds, seconds)
        return ObservedRetention(seconds, max(self.expired_until, expired_until), self.looks + 1)


class RetentionEdge:
    """How far one shard was read, and up to when it is proven that nothing of it had expired before it was read.

    The two differ while the lag is longer than the least retention that there is: what the retention is was known by a
    look at it, and someone may have decreased it since.
    """

    def __init__(self, read_until: float) -> None:
        self.read_until = self._proven_until = read_until
        """Arrival of the last record, or the time at which the tip was seen."""
        self._looks = -1
        self._oldest_seconds = 0.0
        """Greatest age that a position had when an answer came, of answers since the last look."""

    def in_doubt(self, chunk: RawChunk) -> bool:
        """Whether an answer looks like one after a decrease of the retention, so that this must be looked at first.

        An empty one at the tip does, too: all that lay before it may have expired.
        """
        jumped = (chunk.first_arrived or chunk.read_until) - self.read_until > JUMP_SECONDS
        return self.describe(chunk) and jumped and self._age(chunk) > LEAST_RETENTION_SECONDS

    def hole(self, chunk: RawChunk, kept: ObservedRetention) -> Hole | None:
        """Return what had expired before this answer, if anything had.

        Changes nothing that asking again with the same answer would not.
        """
        if not self.describe(chunk):
            return None
        if kept.looks != self._looks:
            self._looks = kept.looks
            if self._oldest_seconds <= kept.seconds:
                self._proven_until, self._oldest_seconds = self.read_until, 0.0
        expired = 0.0 < self.read_until < kept.expired_until
        if max(self._oldest_seconds, self._age(chunk)) <= kept.seconds and not expired:
            return None
        # Before the first record that is there, or before all that the stream still keeps.
        end = chunk.first_arrived or max(chunk.answered - kept.seconds, kept.expired_until)
        return Hole(self._proven_until, max(end, self._proven_until))

    def passed(self, chunk: RawChunk, hole: Hole | None) -> None:
        """Go on behind an answer. Only once its hole is durable."""
        if not self.describe(chunk):
            return
        age = self._age(chunk)
        self.read_until = chunk.read_until
        self._oldest_seconds = max(self._oldest_seconds, age)
        if hole is not None or age <= LEAST_RETENTION_SECONDS:
            self._proven_until, self._oldest_seconds = self.read_until, 0.0

    def _age(self, chunk: RawChunk) -> float:
        known = self.read_until > 0 and chunk.answered > 0
        return chunk.answered + CLOCK_GRAIN_SECONDS - self.read_until if known else 0.0

    def describe(self, chunk: RawChunk) -> bool:
        """Whether an answer moves on in time. An empty one behind the tip says nothing, whatever it claims."""
        return bool(chunk.records) or chunk.at_tip

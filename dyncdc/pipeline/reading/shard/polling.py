"""Polling: how much a shard's next fetch asks for, and how long the shard rests before it."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.model.shards import RawChunk

IDLE_CALLS_PER_SECOND = 15.0
IDLE_CALLS_PER_SECOND_AND_SHARD = 0.2
IDLE_CALLS_PER_SECOND_AT_MOST = 400.0
"""Reads of all idle shards together: some, more where there are many shards, bounded by a share of a core.

An empty answer costs 0.8 to 1.2 ms of CPU (measured): some hundredths of a core with 100 idle shards, a third of one
with thousands.
"""


@dataclass(slots=True)
class FetchSize:
    """How many bytes the next fetch of a shard asks for.

    Starts small and doubles while answers come back full, so that hundreds of idle shards reserve next to nothing.
    """

    floor_bytes: int = 32 * 1024
    ceiling_bytes: int = 2 * 2**20
    want_bytes: int = 32 * 1024
    record_bytes: int = 0
    """Size of records seen of late: an answer holds one at least, however little is asked for."""

    def __post_init__(self) -> None:
        self.want_bytes = self.floor_bytes = min(self.want_bytes, self.floor_bytes, self.ceiling_bytes)

    @property
    def expected_bytes(self) -> int:
        """How large the next answer may be, so much is reserved for it."""
        return max(self.want_bytes, self.record_bytes)

    def learn(self, nbytes: int, records: int) -> None:
        """Adapt to what the last answer brought."""
        self.record_bytes = max(nbytes // records if records else 0, self.record_bytes // 2)
        if nbytes * 2 >= self.want_bytes:
            self.want_bytes = min(self.want_bytes * 2, self.ceiling_bytes)
        elif nbytes * 8 < self.want_bytes:
            self.want_bytes = max(self.want_bytes // 2, self.floor_bytes)


@dataclass(slots=True)
class PollInterval:
    """How long a shard rests between two fetches: the source's shortest pause, growing while the shard stays empty."""

    shortest_seconds: float
    ceiling_seconds: float = 1.0
    pause_seconds: float = 0.0

    def after(self, chunk: RawChunk, *, least_idle_seconds: float = 0.0) -> float:
        """Return the pause that follows this chunk; ``least_idle_seconds``: the shortest for an idle shard."""
        if chunk.nbytes or not chunk.at_tip:
            self.pause_seconds = self.shortest_seconds
        else:
            ceiling = max(self.ceiling_seconds, self.shortest_seconds)
            self.pause_seconds = min(max(self.pause_seconds, self.shortest_seconds) * 1.5, ceiling)
            self.pause_seconds = max(self.pause_seconds, least_idle_seconds)
        return self.pause_seconds


@dataclass(slots=True)
class IdlePollLimiter:
    """How many shards are read at the same time. Shard readers count themselves in and out."""

    shards: int = 0

    @property
    def least_idle_seconds(self) -> float:
        """How long an idle shard rests at least: thousands of them must leave the core to those that are not."""
        calls_per_second = IDLE_CALLS_PER_SECOND + self.shards * IDLE_CALLS_PER_SECOND_AND_SHARD
        return self.shards / min(calls_per_second, IDLE_CALLS_PER_SECOND_AT_MOST)

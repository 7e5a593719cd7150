"""How many records one GetRecords call asks for: the call has no byte limit, so it is derived from sizes seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT_MAX_RECORDS = 10_000
"""Source: AWS GetRecords, Limit."""

ANSWER_MAX_BYTES = 10 * 2**20
"""Source: AWS GetRecords: 10 MiB a call."""

USUAL_RECORD_BYTES = 2**20
"""Source: AWS CreateStream: what a record may have unless the stream's owner has raised it, to 10 MiB at most."""

SHARD_BYTES_PER_SECOND = 2 * 2**20
"""Source: Kinesis quotas, read throughput of a shard. After a larger answer calls fail until it is paid for."""

UNSEEN_RECORD_BYTES = 16 * 1024
UNSEEN_LIMIT_RECORDS = 256
"""A shard nothing is known about starts small: its records may be 1 MiB each, and hundreds of shards start at once."""

CUT_ANSWER_BYTES = 2**20
"""An answer that was cut for its size holds this much, as long as the next record may not fill all of an answer."""

FLOOR_BYTES = 1024

SHRINK = 0.5
GROW = 1.05
REMEMBER = 0.7


@dataclass(slots=True)
class RecordLimit:
    """Record size and tolerated answer size of one shard, learned from its answers."""

    record_bytes: float = 0.0
    ceiling_bytes: float = ANSWER_MAX_BYTES

    def limit(self, want_bytes: int) -> int:
        """Records to ask for, so that the answer holds about ``want_bytes`` and no throttling follows."""
        room = min(float(want_bytes), self.ceiling_bytes)
        if not self.record_bytes:
            return max(1, min(int(room / UNSEEN_RECORD_BYTES), UNSEEN_LIMIT_RECORDS))
        return max(1, min(int(room / self.record_bytes), LIMIT_MAX_RECORDS))

    def answered(self, records: int, nbytes: int) -> None:
        """Learn from an answer. Larger records count at once, smaller ones slowly: an overshoot costs memory."""
        self.ceiling_bytes = min(self.ceiling_bytes * GROW, ANSWER_MAX_BYTES)
        if records:
            seen = max(1.0, nbytes / records)
            self.record_bytes = max(seen, REMEMBER * self.record_bytes + (1 - REMEMBER) * seen)

    def throttled(self, pause_seconds: float) -> None:
        """Ask for less, down to what the shard gives in one pause: asking so fast for so much never throttles."""
        floor = max(SHARD_BYTES_PER_SECOND * pause_seconds, FLOOR_BYTES)
        self.ceiling_bytes = max(self.ceiling_bytes * SHRINK, min(floor, ANSWER_MAX_BYTES))


def may_be_cut(records: int, nbytes: int, limit: int, largest_record_bytes: int = USUAL_RECORD_BYTES) -> bool:
    """Whether more may follow an answer at once, whatever it says of its distance to the tip.

    Services say 0 that do not know it, or that cut it down to whole milliseconds or seconds.
    """
    least_bytes = min(CUT_ANSWER_BYTES, ANSWER_MAX_BYTES - largest_record_bytes)
    return records >= limit or (records > 0 and nbytes >= least_bytes)

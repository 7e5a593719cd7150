"""What one Kinesis shard lets through, reading and writing. Knows time and sizes, not records.

Source: AWS "Quotas and limits" of Kinesis Data Streams, 2025: 5 GetRecords/s, 2 MB/s, 10 MiB a call and then nothing
for 5 seconds; 1,000 records/s and 1 MiB/s written.
"""

from __future__ import annotations

from collections import deque

READS_PER_SECOND = 5
READ_BYTES_PER_SECOND = 2 * 1024 * 1024
READ_CALL_BYTES = 10 * 1024 * 1024
READ_CALL_RECORDS = 10_000
PAUSE_AFTER_FULL_ANSWER_SECONDS = 5.0
WRITE_RECORDS_PER_SECOND = 1000
WRITE_BYTES_PER_SECOND = 1024 * 1024


class ShardLimits:
    """The meters of one shard. Times are monotonic seconds."""

    __slots__ = (
        "_blocked_until",
        "_bytes_left",
        "_last_read",
        "_reads",
        "_write_second",
        "_written_bytes",
        "_written_records",
    )

    def __init__(self) -> None:
        self._reads: deque[float] = deque()
        self._bytes_left = float(READ_BYTES_PER_SECOND)
        self._last_read = 0.0
        self._blocked_until = 0.0
        self._write_second = -1
        self._written_records = 0
        self._written_bytes = 0

    def admit_read(self, now: float) -> bool:
        """Count a GetRecords call, unless it comes too early."""
        while self._reads and now - self._reads[0] > 1.0:
            self._reads.popleft()
        refill = (now - self._last_read) * READ_BYTES_PER_SECOND
        self._bytes_left = min(float(READ_BYTES_PER_SECOND), self._bytes_left + refill)
        self._last_read = now
        if now < self._blocked_until or self._bytes_left <= 0 or len(self._reads) >= READS_PER_SECOND:
            return False
        self._reads.append(now)
        return True

    def has_read(self, nbytes: int, now: float) -> None:
        """Charge the bytes of an answer. A full one blocks the shard for 5 seconds."""
        self._bytes_left -= nbytes
        if nbytes > 0.9 * READ_CALL_BYTES:
            self._blocked_until = now + PAUSE_AFTER_FULL_ANSWER_SECONDS

    def admit_write(self, nbytes: int, now: float) -> bool:
        """Count a record written, unless this second is full."""
        second = int(now)
        if second != self._write_second:
            self._write_second, self._written_records, self._written_bytes = second, 0, 0
        full = self._written_records >= WRITE_RECORDS_PER_SECOND
        if full or self._written_bytes + nbytes > WRITE_BYTES_PER_SECOND:
            return False
        self._written_records += 1
        self._written_bytes += nbytes
        return True

"""The switches of the local AWS that a test can turn while it runs. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


class UnknownSettingError(Exception):
    """The control API was asked for a setting that does not exist, or a value of another type."""


@dataclass(slots=True)
class Settings:
    """All durations in seconds."""

    limits: bool = False
    """Enforce a shard's limits: 5 reads/s, 2 MB/s, 5 s pause after 10 MiB; 1,000 records/s and 1 MiB/s written."""
    max_record_bytes: int = 1024 * 1024
    """Data of one Kinesis record; larger ones are refused, and change records larger than this vanish as in AWS."""
    iterator_ttl_seconds: float = 300.0
    token_ttl_seconds: float = 300.0
    """Session of a ListShards NextToken."""
    retention_seconds: float = 0.0
    """Overrides the retention period of every stream; 0 leaves it to the stream (hours)."""
    behind_grain_seconds: float = 0.001
    """MillisBehindLatest is cut down to a multiple of it: beyond all lags it is always 0, as where no one knows it."""
    arrival_grain_seconds: float = 0.001
    """ApproximateArrivalTimestamp is cut down to a multiple of it."""
    stream_delay_seconds: float = 0.0
    """How long a new stream is CREATING, and one that was resharded UPDATING."""
    enabling_delay_seconds: float = 0.05
    """How long a streaming destination is ENABLING, UPDATING or DISABLING."""
    streaming_delay_seconds: float = 0.0
    """From a write to its change record in the stream. The record carries the time of the write."""
    duplicate_probability: float = 0.0
    """Share of change records that are delivered a second time, with another sequence number, some records later."""
    seed: int = 0
    """For duplicates. Setting it restarts the sequence."""
    export_delay_seconds: float = 0.2
    """How long an export is IN_PROGRESS at least."""
    export_files: int = 0
    """Data files of an export; 0 chooses by size, 4 at least."""
    export_bare_empty_files: bool = False
    """A data file without items has 0 bytes, not even those of an empty gzip file."""
    ttl_sweep_seconds: float = 1.0
    """Pause between two sweeps for expired items; 0 stops the sweeps."""
    page_bytes: int = 1024 * 1024
    """Size of a page of Query or Scan."""

    def update(self, changes: dict[str, Any]) -> None:
        """Take over ``changes``; either all of them or none.

        Raises:
            UnknownSettingError: a name that does not exist, or a value of another type.
        """
        current = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in changes.items():
            if name not in current:
                raise UnknownSettingError(f"no setting {name!r}; there are: {', '.join(sorted(current))}")
            wanted = type(current[name])
            if wanted is float and type(value) is int:
                continue
            if type(value) is not wanted:
                raise UnknownSettingError(f"setting {name!r} takes a {wanted.__name__}")
        for name, value in changes.items():
            setattr(self, name, float(value) if isinstance(current[name], float) else value)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)

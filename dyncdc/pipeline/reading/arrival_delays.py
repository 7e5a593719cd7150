"""How long changes take into a stream: the longest way seen of late. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from dyncdc.model.shards import SourceId

AGE_SECONDS = 600.0
"""A delay is remembered for so long at least, and for twice as long at most: streams are late for a while, and records
that someone has put by hand only once."""


@dataclass(slots=True)
class _Longest:
    """The greatest delay since ``since`` (loop time), and that of the time before."""

    since: float = 0.0
    recent: float = 0.0
    before: float = 0.0

    def turn(self, now: float) -> None:
        if now - self.since >= AGE_SECONDS:
            self.before = self.recent if now - self.since < 2 * AGE_SECONDS else 0.0
            self.since, self.recent = now, 0.0


@dataclass(slots=True)
class ArrivalDelays:
    """Of each source the longest delay of late, in seconds. Times are loop times."""

    _sources: defaultdict[SourceId, _Longest] = field(default_factory=lambda: defaultdict(_Longest))

    def saw(self, source: SourceId, delay_seconds: float, now: float) -> None:
        """Remember that a change took so long."""
        longest = self._sources[source]
        longest.turn(now)
        longest.recent = max(longest.recent, delay_seconds)

    def longest(self, source: SourceId, now: float) -> float:
        """Return the longest delay that is not too old; 0 where none was seen."""
        longest = self._sources[source]
        longest.turn(now)
        return max(longest.recent, longest.before)

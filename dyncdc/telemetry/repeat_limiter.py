"""Logs the same error at most once per interval, with the number of times it was left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

REPEAT_INTERVAL_SECONDS = 10.0
_MOST_KEYS = 1000
"""Bound of memory; with more kinds of errors at a time some are logged too often, none is lost."""


@dataclass(slots=True)
class _Said:
    at: float
    left_out: int = 0


@dataclass(slots=True)
class RepeatLimiter:
    """Decides what is said. ``clock`` is monotonic seconds."""

    interval_seconds: float = REPEAT_INTERVAL_SECONDS
    clock: Callable[[], float] = time.monotonic
    _said: dict[Hashable, _Said] = field(default_factory=dict)

    def admit(self, key: Hashable, *, always: bool = False) -> int | None:
        """Return how many repeats were left out since ``key`` was last said, or None to leave this one out too."""
        now = self.clock()
        said = self._said.get(key)
        if said is not None and now - said.at < self.interval_seconds and not always:
            said.left_out += 1
            return None
        if said is None and len(self._said) >= _MOST_KEYS:
            self._said = {k: s for k, s in self._said.items() if now - s.at < self.interval_seconds}
            if len(self._said) >= _MOST_KEYS:
                self._said.clear()
        self._said[key] = _Said(now)
        return said.left_out if said is not None else 0

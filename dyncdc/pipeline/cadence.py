"""How often a table may be flushed: once per age in the long run, and where it can choose, just after a read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GATHER_SECONDS = 0.02
"""A flush begins so long after the block that asks for it: what arrives together goes together."""


@dataclass(frozen=True, slots=True)
class Pace:
    """One flush per ``age_seconds``; as many as ``most`` may be saved up, as many as ``owed`` may be owed."""

    age_seconds: float
    most: float = 2.0
    """A table that has been quiet need not wait at its second read either."""
    enough: float = 0.7
    """Of a flush, where a read has just brought something: the next read would come a little too late."""
    owed: float = 0.3

    @classmethod
    def exactly(cls, age_seconds: float) -> Pace:
        """Nothing saved up and nothing owed: for crowds of tables."""
        return cls(age_seconds, most=1.0, enough=1.0, owed=0.0)


@dataclass(slots=True)
class Cadence:
    """The flushes that a table has left, or all tables together. All times are of one clock, which never goes back.

    A flush at the very moment at which the next one is allowed would come at any time between two reads: what was read
    before has waited, and what is read next waits again. So it is put off until a read brings something, for as long as
    nobody waits longer than one age.
    """

    at: float
    left: float = 0.0

    def allows(self, now: float, pace: Pace) -> bool:
        """Whether a flush may begin now."""
        self._pass(now, pace)
        return self.left >= pace.enough

    def spend(self, now: float, pace: Pace) -> None:
        """A flush begins, whether or not one was allowed: a batch may be full."""
        self._pass(now, pace)
        self.left = max(-pace.owed, self.left - 1.0)

    def _pass(self, now: float, pace: Pace) -> None:
        earned = (now - self.at) / pace.age_seconds if pace.age_seconds > 0.0 else pace.most
        self.left, self.at = min(pace.most, self.left + earned), now

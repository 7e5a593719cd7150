"""How often a table may be flushed: once per age in the long run, and where it can choose, just after a read. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

GATHER_SECONDS = 0.02
"""A flush begins so long after the block that asks for it: what arrives together goes together."""


@dataclass(frozen=True, slots=True)
class FlushAllowance:
    """One flush per ``age_seconds``; as many as ``most`` may be saved up, as many as ``owed`` may be owed."""

    age_seconds: float
    most: float = 2.0
    """A table that has been quiet need not wait at its second read either."""
    enough: float = 0.7
    """Of a flush, where a read has just brought something: the next read would come a little too late."""
    owed: float = 0.3

    @classmethod
    def exactly(cls, age_seconds: float) -> FlushAllowance:
        """Nothing saved up and nothing owed: for many tables."""
        return cls(age_seconds, most=1.0, enough=1.0, owed=0.0)


@dataclass(slots=True)
class FlushRate:
    """The flushes that a table has left, or all tables together. All times are of one clock, which never goes back.

    A flush at the very moment at which the next one is allowed would come at any time between two reads: what was read
    before has waited, and what is read next waits again. So it is put off until a read brings something, for as long as
    no one waits longer than one age.
    """

    at: float
    left: float = 0.0

    def allows(self, now: float, pace: FlushAllowance) -> bool:
        """Whether a flush may begin now."""
        self._pass(now, pace)
        return self.left >= pace.enough

    def spend(self, now: float, pace: FlushAllowance) -> None:
        """A flush begins, whether or not one was allowed: a batch may be full."""
        self._pass(now, pace)
        self.left = max(-pace.owed, self.left - 1.0)

    def _pass(self, now: float, pace: FlushAllowance) -> None:
        earned = (now - self.at) / pace.age_seconds if pace.age_seconds > 0.0 else pace.most
        self.left, self.at = min(pace.most, self.left + earned), now


TRICKLE_INSERTS_PER_SECOND = 20.0
"""With more open batches than this a second would flush, each of them ages longer: every insert makes a part."""

ALL_TABLES = FlushAllowance(
    1.0 / TRICKLE_INSERTS_PER_SECOND, most=TRICKLE_INSERTS_PER_SECOND, enough=1.0, owed=TRICKLE_INSERTS_PER_SECOND
)
"""Flushes that do not wait for their age, of all tables together. Open batches alone do not tell that there are many
tables: those that are flushed at once are never open at the same time."""

OLDEST_SECONDS = 10.0
"""A batch of one table among many waits no longer than this, unless ``max_age_seconds`` is more."""


@dataclass(slots=True)
class FlushRates:
    """The flushes of all tables of one writer. ``batches``: how many are open at that moment."""

    max_age_seconds: float
    _tables: dict[str, FlushRate] = field(default_factory=dict)
    _together: FlushRate | None = None

    def age_seconds(self, batches: int) -> float:
        """How long a batch waits at most: ``max_age_seconds``; longer while very many tables trickle."""
        return max(self.max_age_seconds, min(batches / TRICKLE_INSERTS_PER_SECOND, OLDEST_SECONDS))

    def grant(self, table: str, now: float, batches: int) -> float | None:
        """Return when a batch of this table may be flushed before it is old, None if it may not.

        It is spent of what all tables have together; what the table has itself is spent by ``spend``.
        """
        # A daemon that starts mostly finds more than one block, so it has nothing saved up.
        cadence = self._tables.setdefault(table, FlushRate(now))
        together = self._together = self._together or FlushRate(now)
        if not (cadence.allows(now, self._pace(batches)) and together.allows(now, ALL_TABLES)):
            return None
        together.spend(now, ALL_TABLES)
        return now + min(GATHER_SECONDS, self.max_age_seconds)

    def spend(self, table: str, now: float, batches: int, *, granted: bool) -> None:
        """A flush of this table begins."""
        self._tables.setdefault(table, FlushRate(now)).spend(now, self._pace(batches))
        if self._together is not None and not granted:
            self._together.spend(now, ALL_TABLES)

    def _pace(self, batches: int) -> FlushAllowance:
        age_seconds = self.age_seconds(batches)
        return (
            FlushAllowance(age_seconds) if age_seconds <= self.max_age_seconds else FlushAllowance.exactly(age_seconds)
        )

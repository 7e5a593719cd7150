"""Members of a pipeline, their processes and sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Member:
    """One row of ``dyncdc_members``: a process that has a part of a pipeline, number ``member`` of ``members``.

    ``seen_at`` and ``age_seconds`` by the store's own clock. ``tables``: DynamoDB's names of those that it follows.
    ``left``: it has ended in order. ``errors``: by snapshot, why it cannot finish its part of it.
    """

    member: int
    members: int
    epoch: int
    seen_at: float = 0.0
    age_seconds: float = 0.0
    tables: tuple[str, ...] = ()
    left: bool = False
    errors: Mapping[str, str] = field(default_factory=dict)

    def follows(self, tables: Iterable[str]) -> bool:
        """Whether it follows all of these tables."""
        return set(tables) <= set(self.tables)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of an operating system. ``mark`` tells it from every other, however often its number is given out."""

    host: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One row of ``dyncdc_sessions``: one session of a process as ``member`` of ``members``, begun under its ``epoch``.

    ``id`` is random, so that two of one epoch are told apart; of two sessions of a member the greater ``rank`` counts.
    """

    member: int
    members: int
    epoch: int
    id: str
    process: Process = Process()
    began_at: float = 0.0
    """Seconds since the epoch, by the store's own clock."""

    @property
    def rank(self) -> tuple[int, str]:
        """What decides which of two is the later one."""
        return self.epoch, self.id

"""Orphan rows of a destination: what a later snapshot does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dyncdc.model.shards import SourceId


@dataclass(frozen=True, slots=True)
class Swept:
    """One step of a sweep: ``rows`` tombstones written; ``upto``: the last key looked at, None at the table's end."""

    rows: int
    upto: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """One step of a count: of ``live`` items a sweep would mark ``orphans`` as deleted; ``upto`` as in ``Swept``."""

    live: int
    orphans: int
    upto: tuple[str, ...] | None


class OrphanRows(Protocol):
    """Keys of a destination that a later snapshot does not hold. ``table`` is DynamoDB's name."""

    async def count(self, table: str, version: int, after: tuple[str, ...]) -> Counted:
        """What ``sweep`` would do, in the next range of keys behind ``after``. Changes nothing."""

    async def accepted(self, snapshot: SourceId, request: str) -> bool:
        """Whether someone has said of a snapshot, or of the request that it answers, that it may delete most items."""

    async def open_dead_letters(self, snapshot: SourceId) -> int:
        """How many items of a snapshot are dead letters that no one has dealt with."""

    async def sweep(self, table: str, version: int, after: tuple[str, ...]) -> Swept:
        """Mark as deleted what is older than ``version`` (microseconds), in the next range of keys behind ``after``.

        Idempotent. ``after`` is () at first, then what the step before returned.
        """

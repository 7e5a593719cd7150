"""Liveness: which members of a pipeline are alive, as their rows tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from dyncdc.model.members import Member

LIVE_SECONDS = 15.0
"""A member that has not been seen for so long is taken for dead; one that comes back after that joins again."""

AHEAD_SECONDS = 1.0
"""Clocks of two replicas differ by less. A row dated further ahead says nothing by its date."""

_log = structlog.get_logger("dyncdc")


def alive(seen: Iterable[Member]) -> list[Member]:
    """The members that have been seen lately, by the store's clock, and have not left."""
    return [one for one in seen if not one.left and -LIVE_SECONDS <= one.age_seconds <= LIVE_SECONDS]


class Sightings:
    """Which members are alive, whatever clocks dated their rows.

    A row from the future does not get old: it is watched instead, and its member is alive while new ones come.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[int, int, int], tuple[float, float]] = {}

    def look(self, seen: Sequence[Member]) -> None:
        """Take up when each row was seen for the first time."""
        now = asyncio.get_running_loop().time()
        since: dict[tuple[int, int, int], tuple[float, float]] = {}
        for one in seen:
            key = one.members, one.member, one.epoch
            before = self._since.get(key)
            same = before is not None and before[0] == one.seen_at
            since[key] = before if before is not None and same else (one.seen_at, now)
            if before is None and one.age_seconds < -AHEAD_SECONDS and not one.left:
                _log.warning(
                    "member dated in the future",
                    other=f"{one.member}/{one.members}",
                    seconds=round(-one.age_seconds),
                    hint="a clock of ClickHouse is or was ahead; its replicas need one time",
                )
        self._since = since

    def alive(self, seen: Iterable[Member]) -> list[Member]:
        """Of rows that were looked at: the members that have not left and were seen, or moved, lately."""
        now = asyncio.get_running_loop().time()
        return [one for one in seen if not one.left and self._age(one, now) <= LIVE_SECONDS]

    def _age(self, one: Member, now: float) -> float:
        if one.age_seconds >= -AHEAD_SECONDS:
            return one.age_seconds
        return now - self._since[one.members, one.member, one.epoch][1]

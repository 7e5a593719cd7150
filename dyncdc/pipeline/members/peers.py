"""Peers: the members of a pipeline that the last look has shown, and what they do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dyncdc.model.members import Member
from dyncdc.model.shards import Shard, ShardId, SourceId

from .assignment import Assignment
from .liveness import Sightings


class Peers:
    """The members beside the one that has this assignment, and itself.

    ``since``: when the run with ``--once`` began that this process is a part of, by the store's clock; others may have
    done their part of it before this process took the place of one that died.
    """

    def __init__(self, assignment: Assignment, since: float) -> None:
        self.assignment = assignment
        self._since = since
        self._seen: Sequence[Member] = ()
        self._sightings = Sightings()
        self._joined_at = 0.0
        """By the store's clock, the begin of the run if that is known; 0 before."""

    def look(self, seen: Sequence[Member]) -> None:
        """Take up when each row was seen for the first time."""
        self._sightings.look(seen)

    def take(self, seen: Sequence[Member]) -> None:
        """Believe rows that were looked at."""
        self._seen = seen

    def joined(self, epoch: int) -> None:
        """Note that this process is a member from now on, under this epoch."""
        mine = (self.assignment.member, self.assignment.members, epoch)
        own = (one.seen_at for one in self._seen if (one.member, one.members, one.epoch) == mine)
        self._joined_at = min(max(own, default=0.0), self._since)

    def foreign(self, seen: Iterable[Member]) -> list[Member]:
        """Of rows that were looked at: the live members of another assignment."""
        return [one for one in self._sightings.alive(seen) if one.members != self.assignment.members]

    def live(self) -> list[Member]:
        """Members that are alive, this process included, as of the last look."""
        return self._sightings.alive(self._seen)

    def all_follow(self, tables: Collection[str]) -> bool:
        """Whether every member of this assignment is alive and follows all of these tables.

        One that has done its part (``--once``) and left since this process joined, or its run began, is as good.
        """
        if not self.assignment.shared:
            return True
        seen = [*self.live(), *(one for one in self._seen if self._left_lately(one))]
        there = {one.member for one in seen if one.members == self.assignment.members and one.follows(tables)}
        return there | {self.assignment.member} >= set(range(self.assignment.members))

    def _left_lately(self, one: Member) -> bool:
        return one.left and one.seen_at >= self._joined_at

    def owner_left(self, source: SourceId, shard: ShardId) -> bool:
        """Whether a shard's owner has ended in order, since this process joined: it reads nothing more."""
        owner = self.assignment.owner(source, shard)
        return any(
            self._left_lately(one)
            for one in self._seen
            if (one.member, one.members) == (owner, self.assignment.members)
        )

    def unowned(self, shards: Iterable[Shard]) -> int:
        """How many of these shards belong to a member that is not alive."""
        there = {one.member for one in self.live() if one.members == self.assignment.members} | {self.assignment.member}
        return sum(1 for shard in shards if self.assignment.owner(shard.source, shard.id) not in there)

    def errors(self, snapshot: SourceId) -> Mapping[int, str]:
        """Which other members cannot finish their part of a snapshot, and why."""
        mine = self.assignment.member
        return {
            one.member: one.errors[snapshot] for one in self.live() if one.member != mine and snapshot in one.errors
        }

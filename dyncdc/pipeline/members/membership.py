"""Membership: which part of a pipeline is this process's, and who else is there. Moves no data and saves no position.

The assignment is a pure function of an id and of the number of members, so no one has to agree on anything. What it
needs is that all members know the same number: each writes itself down, and one that sees another number among them
stops.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dyncdc.errors import ConfigError, FatalError
from dyncdc.model.members import Member
from dyncdc.model.shards import Shard, ShardId, SourceId
from dyncdc.pipeline.ports.members import MemberStore
from dyncdc.pipeline.runtime import Instruments, ShownRetrier

from .liveness import LIVE_SECONDS, Sightings

T = TypeVar("T")

BEAT_SECONDS = 3.0
GATHERING_SECONDS = 0.5
"""As ``BEAT_SECONDS``, while some are missing: no snapshot begins before all are there."""

JOIN_POLL_SECONDS = 1.0
SHOWN = "ClickHouse to show or take the members"
"""What is waited for at each look."""

_MEMBER = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Member ``member`` of ``members``, counted from 0, and what is its own."""

    member: int = 0
    members: int = 1

    def __str__(self) -> str:
        return f"{self.member}/{self.members}"

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """Read ``i/n``. Raises ConfigError."""
        found = _MEMBER.fullmatch(text)
        if found is None or not int(found[1]) < int(found[2]):
            raise ConfigError(
                f"being member {text!r}: it must be i/n, with i from 0 to n - 1", hint="as in --member 0/3 for one of 3"
            )
        return cls(int(found[1]), int(found[2]))

    def part(self, number: int, parts: int) -> Assignment:
        """One of ``parts`` processes that share this member's part."""
        return Assignment(self.member * parts + number, self.members * parts)

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.members > 1

    @property
    def is_leader(self) -> bool:
        """Whether this member begins snapshots, sweeps what they do not hold, and answers requests and gaps."""
        return self.member == 0

    def owner(self, source: SourceId, shard: ShardId) -> int:
        """Whose a stream's shard is: forever the same for one id and one number of members."""
        return (_stable(shard) + zlib.crc32(source.encode())) % self.members

    def owns(self, shard: Shard) -> bool:
        """Whether a stream's shard is this member's."""
        return self.owner(shard.source, shard.id) == self.member

    def owners(self, source: SourceId, parts: Iterable[ShardId]) -> dict[ShardId, int]:
        """Whose each file or segment of a snapshot is. ``parts``: all of them; they never change."""
        first = zlib.crc32(source.encode())
        return {part: (first + place) % self.members for place, part in enumerate(sorted(parts))}


def _stable(shard: ShardId) -> int:
    """Kinesis numbers the shards of a stream in a row: by that number they spread evenly, by a hash only on average."""
    number = _NUMBER.search(shard)
    return int(number.group()) if number else zlib.crc32(shard.encode())


def replaced(assignment: Assignment, newer: int, epoch: int) -> FatalError:
    """Say that another process is this member now."""
    return FatalError(
        f"being member {assignment}: another dyncdc process with this pipeline name took over"
        f" (its epoch {newer}, ours {epoch})",
        hint="run one process per member, or give this one another `pipeline` name",
    )


class Membership:
    """This process among the members of its pipeline. ``tables``: DynamoDB's names of those that it follows.

    ``since``: when the run with ``--once`` began that this process is a part of, by the store's clock; others may have
    done their part of it before this process took the place of one that died. ``after``: the epoch of this process's
    session before, 0 when this is its first.
    """

    def __init__(
        self,
        assignment: Assignment,
        store: MemberStore,
        tables: Collection[str],
        instruments: Instruments,
        *,
        since: float = float("inf"),
        after: int = 0,
    ) -> None:
        self.assignment = assignment
        self._since = since
        self._after = after
        self._store = store
        self._tables = tuple(sorted(tables))
        self._health = instruments.health
        self._retry = ShownRetrier(instruments, "members", SHOWN)
        self._epoch = 0
        self._trouble: dict[str, str] = {}
        self._seen: Sequence[Member] = ()
        self._sightings = Sightings()
        self.looked_at = float("-inf")
        """Loop time of the last look at the others."""
        self._joined_at = 0.0
        """By the store's clock, the begin of the run if that is known; 0 before."""
        self._due = asyncio.Event()
        self._on_seen: list[Callable[[], None]] = []

    def on_seen(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every look at the others."""
        self._on_seen.append(callback)

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

    def report(self, snapshot: SourceId, trouble: str) -> None:
        """Let the others know why this member cannot finish its part of a snapshot; "" once it can."""
        if trouble:
            self._trouble[snapshot] = trouble
        else:
            self._trouble.pop(snapshot, None)
        self._due.set()

    def errors(self, snapshot: SourceId) -> Mapping[int, str]:
        """Which other members cannot finish their part of a snapshot, and why."""
        mine = self.assignment.member
        return {
            one.member: one.errors[snapshot] for one in self.live() if one.member != mine and snapshot in one.errors
        }

    async def wait_until_alone(self) -> None:
        """Return when no member of another assignment is alive; what they had to save is saved by then.

        Raises FatalError when one is. A killed member cannot say that it has left: its row is watched until it is old.
        Also raises if another process took over since our last session: a new epoch would take the place back.
        """
        first: dict[tuple[int, int, int], float] = {}
        seen = await self._retry(self._members)
        if self._after:
            self._refuse_replaced(seen, self._after)
        with self._health.task("start") as task:
            task.planned("members of another assignment may still be alive", for_seconds=LIVE_SECONDS)
            while strangers := self._strangers(seen):
                for one in strangers:
                    if first.setdefault((one.members, one.member, one.epoch), one.seen_at) != one.seen_at:
                        raise self._refused(strangers)
                await asyncio.sleep(JOIN_POLL_SECONDS)
                seen = await self._retry(self._members)

    async def join(self, epoch: int) -> None:
        """Write this process down as a member. Once per session, after its epoch is taken and before anything is read.

        Raises FatalError when members of another assignment have come in between, or this member is taken.
        """
        self._epoch = epoch
        await self._retry(lambda: self._store.save_member(self._row()))
        self._look(await self._retry(self._members), lapsed=False)
        joined_at = max((one.seen_at for one in self._seen if self._is_me(one)), default=0.0)
        self._joined_at = min(joined_at, self._since)

    async def run(self) -> None:
        """Be seen, and look at the others, until cancelled. Raises FatalError when this process must not go on."""
        with self._health.task("members") as task:
            while True:
                pause_seconds = BEAT_SECONDS if self.all_follow(()) else GATHERING_SECONDS
                task.waiting_for("the next look at the members", for_seconds=pause_seconds)
                try:
                    async with asyncio.timeout(pause_seconds):
                        await self._due.wait()
                except TimeoutError:
                    pass  # the interval is over: that is what we wait for
                self._due.clear()
                task.waiting_for(SHOWN)
                with self._retry.retrier.tolerate(BEAT_SECONDS):
                    await self._beat()
                    task.moved()

    async def leave(self) -> None:
        """Say that this process reads and writes nothing more. Raises RetryableError, FatalError."""
        await self._store.save_member(replace(self._row(), left=True))

    async def _beat(self) -> None:
        """Look first: one that was frozen must see who has taken its place before it is seen again."""
        seen = await self._members()
        mine = [one for one in seen if self._is_me(one)]
        self._look(seen, lapsed=bool(mine) and mine[0].age_seconds > LIVE_SECONDS)
        await self._store.save_member(self._row())

    async def _members(self) -> Sequence[Member]:
        seen = await self._store.members()
        self._sightings.look(seen)
        return seen

    def _look(self, seen: Sequence[Member], *, lapsed: bool) -> None:
        """Decide whether this process may go on. Of two assignments the older stays, unless it was taken for dead."""
        self._refuse_replaced(seen, self._epoch)
        strangers = self._strangers(seen)
        mine = self._epoch, self.assignment.members, self.assignment.member
        older = [one for one in strangers if (one.epoch, one.members, one.member) < mine]
        if older or (strangers and lapsed):
            raise self._refused(strangers)
        self._seen = seen
        self.looked_at = asyncio.get_running_loop().time()
        for callback in self._on_seen:
            callback()

    def _refuse_replaced(self, seen: Sequence[Member], epoch: int) -> None:
        for one in seen:
            if (one.member, one.members) == (self.assignment.member, self.assignment.members) and one.epoch > epoch:
                raise replaced(self.assignment, one.epoch, epoch)

    def _strangers(self, seen: Sequence[Member]) -> list[Member]:
        return [one for one in self._sightings.alive(seen) if one.members != self.assignment.members]

    def _refused(self, strangers: Sequence[Member]) -> FatalError:
        names = ", ".join(sorted(f"{one.member}/{one.members}" for one in strangers))
        return FatalError(
            f"being member {self.assignment}: members of another assignment are alive: {names}",
            hint="to change how many members there are, stop all, then start all with the new number",
        )

    def _is_me(self, one: Member) -> bool:
        mine = (self.assignment.member, self.assignment.members, self._epoch)
        return (one.member, one.members, one.epoch) == mine

    def _row(self) -> Member:
        return Member(
            self.assignment.member,
            self.assignment.members,
            self._epoch,
            tables=self._tables,
            errors=dict(self._trouble),
        )

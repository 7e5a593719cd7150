"""Membership: which part of a pipeline is this process's, and who else is there. Moves no data and saves no position.

The assignment needs all members to know the same number: each writes itself down, and one that sees another number
among them stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from dyncdc.errors import FatalError
from dyncdc.model.members import Member
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.members import MemberStore
from dyncdc.pipeline.runtime import Instruments, ShownRetrier

from .assignment import Assignment, replaced
from .liveness import LIVE_SECONDS
from .peers import Peers

HEARTBEAT_SECONDS = 3.0
GATHERING_SECONDS = 0.5
"""As ``HEARTBEAT_SECONDS``, while some are missing: no snapshot begins before all are there."""

JOIN_POLL_SECONDS = 1.0
SHOWN = "ClickHouse to show or take the members"
"""What is waited for at each look."""


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
        self.peers = Peers(assignment, since)
        self._after = after
        self._store = store
        self._tables = tuple(sorted(tables))
        self._health = instruments.health
        self._retry = ShownRetrier(instruments, "members", SHOWN)
        self._epoch = 0
        self._errors: dict[str, str] = {}
        self.looked_at = float("-inf")
        """Loop time of the last look at the others."""
        self._due = asyncio.Event()
        self._on_seen: list[Callable[[], None]] = []

    def on_seen(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every look at the others."""
        self._on_seen.append(callback)

    def report(self, snapshot: SourceId, error: str) -> None:
        """Let the others know why this member cannot finish its part of a snapshot; "" once it can."""
        if error:
            self._errors[snapshot] = error
        else:
            self._errors.pop(snapshot, None)
        self._due.set()

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
            while foreign := self.peers.foreign(seen):
                for one in foreign:
                    if first.setdefault((one.members, one.member, one.epoch), one.seen_at) != one.seen_at:
                        raise self._refused(foreign)
                await asyncio.sleep(JOIN_POLL_SECONDS)
                seen = await self._retry(self._members)

    async def join(self, epoch: int) -> None:
        """Write this process down as a member. Once per session, after its epoch is taken and before anything is read.

        Raises FatalError when members of another assignment have come in between, or this member is taken.
        """
        self._epoch = epoch
        await self._retry(lambda: self._store.save_member(self._row()))
        self._look(await self._retry(self._members), lapsed=False)
        self.peers.joined(epoch)

    async def run(self) -> None:
        """Be seen, and look at the others, until cancelled. Raises FatalError when this process must not go on."""
        with self._health.task("members") as task:
            while True:
                pause_seconds = HEARTBEAT_SECONDS if self.peers.all_follow(()) else GATHERING_SECONDS
                task.waiting_for("the next look at the members", for_seconds=pause_seconds)
                try:
                    async with asyncio.timeout(pause_seconds):
                        await self._due.wait()
                except TimeoutError:
                    pass  # the interval is over: that is what we wait for
                self._due.clear()
                task.waiting_for(SHOWN)
                with self._retry.retrier.tolerate(HEARTBEAT_SECONDS):
                    await self._heartbeat()
                    task.moved()

    async def leave(self) -> None:
        """Say that this process reads and writes nothing more. Raises RetryableError, FatalError."""
        await self._store.save_member(replace(self._row(), left=True))

    async def _heartbeat(self) -> None:
        """Look first: one that was frozen must see who has taken its place before it is seen again."""
        seen = await self._members()
        mine = [one for one in seen if self._is_me(one)]
        self._look(seen, lapsed=bool(mine) and mine[0].age_seconds > LIVE_SECONDS)
        await self._store.save_member(self._row())

    async def _members(self) -> Sequence[Member]:
        seen = await self._store.members()
        self.peers.look(seen)
        return seen

    def _look(self, seen: Sequence[Member], *, lapsed: bool) -> None:
        """Decide whether this process may go on. Of two assignments the older stays, unless it was taken for dead."""
        self._refuse_replaced(seen, self._epoch)
        foreign = self.peers.foreign(seen)
        mine = self._epoch, self.assignment.members, self.assignment.member
        older = [one for one in foreign if (one.epoch, one.members, one.member) < mine]
        if older or (foreign and lapsed):
            raise self._refused(foreign)
        self.peers.take(seen)
        self.looked_at = asyncio.get_running_loop().time()
        for callback in self._on_seen:
            callback()

    def _refuse_replaced(self, seen: Sequence[Member], epoch: int) -> None:
        for one in seen:
            if (one.member, one.members) == (self.assignment.member, self.assignment.members) and one.epoch > epoch:
                raise replaced(self.assignment, one.epoch, epoch)

    def _refused(self, foreign: Sequence[Member]) -> FatalError:
        names = ", ".join(sorted(f"{one.member}/{one.members}" for one in foreign))
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
            errors=dict(self._errors),
        )

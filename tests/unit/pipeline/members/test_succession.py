"""Succession: whom a process waits for, for how long at most, and whom it does not wait for at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from support.pipeline.virtual_time import run

from dyncdc.errors import FatalError
from dyncdc.model.members import Member, Process, Session
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.liveness import LIVE_SECONDS
from dyncdc.pipeline.members.sessions import AnotherBegunError, SessionClaim
from dyncdc.pipeline.members.succession import Predecessor, Succession
from dyncdc.telemetry.task_health import TaskHealth


@dataclass
class Kept:
    """Members and sessions; ``ahead_seconds``: of the clock that dated the members' rows."""

    rows: dict[tuple[int, int], Member] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    ahead_seconds: float = 0.0

    def now(self) -> float:
        return 1_000.0 + asyncio.get_running_loop().time()

    async def members(self) -> Sequence[Member]:
        return [replace(row, age_seconds=self.now() - row.seen_at) for row in self.rows.values()]

    async def save_member(self, member: Member) -> None:
        self.rows[member.members, member.member] = replace(member, seen_at=self.now() + self.ahead_seconds)

    async def newest_sessions(self) -> Sequence[Session]:
        return sorted(self.sessions, key=lambda one: one.rank)[-2:]

    async def later_session(self, session: Session) -> Session | None:
        newest = max(self.sessions, key=lambda one: one.rank)
        return newest if newest.rank > session.rank else None

    async def save_session(self, session: Session) -> None:
        self.sessions.append(session)


async def waited(kept: Kept, how: Succession, *, after: int = 0) -> float:
    """For how long a process waits for its predecessor."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    health = TaskHealth(clock=loop.time)
    with health.task("start") as task:
        async with asyncio.timeout(300):
            await Predecessor(Assignment(), kept, kept, how, health).wait(after, task)
    return loop.time() - begun


async def at_work(kept: Kept, epoch: int = 5, mark: str = "there") -> None:
    kept.sessions.append(Session(0, 1, epoch, "a", Process("db1", mark), 1_000.0))
    await kept.save_member(Member(0, 1, epoch))


def test_a_silent_predecessor_on_another_host_is_waited_for_until_its_row_is_old() -> None:
    async def scenario() -> None:
        kept = Kept()
        await at_work(kept)
        assert LIVE_SECONDS <= await waited(kept, Succession()) <= LIVE_SECONDS + 2.0

    run(scenario())


def test_a_process_that_was_replaced_between_two_of_its_sessions_ends_and_does_not_stand_by() -> None:
    async def scenario() -> None:
        kept = Kept()
        await at_work(kept, epoch=7)
        with pytest.raises(FatalError, match="took over"):
            await waited(kept, Succession(), after=5)
        assert await waited(kept, Succession(Process("db1", "there")), after=5) == 0.0, "it is this process itself"

    run(scenario())


def test_who_has_left_or_is_gone_or_is_this_process_or_is_to_be_replaced_is_not_waited_for() -> None:
    async def scenario() -> None:
        kept = Kept()
        await at_work(kept)
        assert await waited(kept, Succession(is_gone=lambda mark: mark == "there")) == 0.0
        assert await waited(kept, Succession(Process("db1", "there"))) == 0.0
        assert await waited(kept, Succession(take_over=True)) == 0.0
        assert await waited(kept, Succession(), after=5) == 0.0
        await kept.save_member(Member(0, 1, 5, left=True))
        assert await waited(kept, Succession()) == 0.0

    run(scenario())


def test_a_row_from_the_future_is_waited_for_no_longer_than_any_other() -> None:
    async def scenario() -> None:
        kept = Kept(ahead_seconds=3_600.0)
        await at_work(kept)
        assert LIVE_SECONDS <= await waited(kept, Succession()) <= LIVE_SECONDS + 2.0

    run(scenario())


def test_who_goes_on_beating_is_waited_for_whatever_its_clock_says() -> None:
    async def scenario() -> None:
        for ahead_seconds in (0.0, 3_600.0):
            kept = Kept(ahead_seconds=ahead_seconds)
            await at_work(kept)
            waiting = asyncio.create_task(waited(kept, Succession()))
            for _ in range(20):
                await asyncio.sleep(3.0)
                await kept.save_member(Member(0, 1, 5))
            assert not waiting.done()
            waiting.cancel()

    run(scenario())


def test_who_has_no_patience_is_told_who_works_where_and_since_when() -> None:
    async def scenario() -> None:
        kept = Kept()
        await at_work(kept)
        with pytest.raises(FatalError, match=r"is at work \(on db1 since 1970-01-01 00:16:40 UTC, seen 0 s ago\)") as e:
            await waited(kept, Succession(waits=False))
        assert "--take-over" in e.value.hint

    run(scenario())


def test_of_two_that_take_one_epoch_the_greater_id_goes_on_with_a_greater_epoch_and_the_other_stops() -> None:
    async def scenario() -> None:
        kept = Kept()
        claims = sorted(
            (SessionClaim(Assignment(), kept, kept, Process(host)) for host in "ab"), key=lambda c: c.session.id
        )
        low, high = claims
        for claim in claims:
            await claim.look()
        for claim in claims:  # both have looked before either wrote
            claim.session = replace(claim.session, epoch=7)
            await kept.save_session(claim.session)
        assert await high.take(7) == 8
        with pytest.raises(FatalError, match=rf"took over \(on {high.session.process.host}, its epoch 8, ours 7\)"):
            await low.check()
        await high.check()

    run(scenario())


def test_an_epoch_is_above_every_one_that_is_known_and_durable_when_it_is_returned() -> None:
    async def scenario() -> None:
        kept = Kept()
        await at_work(kept, epoch=90)
        claim = SessionClaim(Assignment(), kept, kept, Process())
        await claim.look()
        assert await claim.take(7) == 91
        assert kept.sessions[-1] == claim.session
        later = SessionClaim(Assignment(), kept, kept, Process())
        await later.look()
        assert await later.take(7) == 92 and later.session.id != claim.session.id

    run(scenario())


def test_a_process_that_was_frozen_at_its_start_does_not_take_the_place_of_one_that_began_meanwhile() -> None:
    """Catches: a daemon that had been replaced while it was between two sessions put an end to the one at work."""

    async def scenario() -> None:
        kept = Kept()
        frozen, other = (SessionClaim(Assignment(), kept, kept, Process(host)) for host in "ab")
        for claim in (frozen, other):
            await claim.look()
        assert await other.take(7) == 7
        with pytest.raises(AnotherBegunError):
            await frozen.take(7)
        await other.check()
        await frozen.look()
        assert await frozen.take(7) == 8, "once it has been seen whether the other one is at work"

    run(scenario())

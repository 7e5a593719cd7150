"""Membership: a assignment that no one has to agree on, and who may stay when two assignments meet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.pipeline.pipeline_parts import instruments_of
from support.pipeline.virtual_time import run

from dyncdc.errors import ConfigError, FatalError, RetryableError
from dyncdc.model.members import Member
from dyncdc.model.shards import Shard, ShardId, SourceId
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.liveness import LIVE_SECONDS
from dyncdc.pipeline.members.membership import Membership

STREAM = SourceId("arn:aws:kinesis:eu-west-1:1:stream/orders@1")


class MemoryMembers:
    """The newest row of each member, by a clock of its own."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int, int], Member] = {}

    def add(self, member: Member) -> None:
        now = 1_000.0 + asyncio.get_running_loop().time()
        self.rows[member.members, member.member, member.epoch] = replace(member, seen_at=now)

    async def members(self) -> Sequence[Member]:
        now = 1_000.0 + asyncio.get_running_loop().time()
        newest = {key[:2]: replace(row, age_seconds=now - row.seen_at) for key, row in sorted(self.rows.items())}
        return list(newest.values())

    async def save_member(self, member: Member) -> None:
        self.add(member)


def membership(store: MemoryMembers, member: str = "0/3", since: float = float("inf"), after: int = 0) -> Membership:
    return Membership(Assignment.parse(member), store, ["orders"], instruments_of(), since=since, after=after)


def test_every_shard_has_one_owner_and_shards_in_a_row_spread_evenly() -> None:
    for members in (1, 2, 3, 4, 7):
        shards = [Shard(STREAM, ShardId(f"shardId-{number:012}")) for number in range(28)]
        owned = [[shard for shard in shards if Assignment(member, members).owns(shard)] for member in range(members)]
        assert Counter(shard for part in owned for shard in part) == Counter(shards)
        assert {len(part) for part in owned} == {28 // members} or members == 3
        files = [ShardId(f"exports/data/{number * 7919 % 101:x}.json.gz") for number in range(28)]
        owners = Assignment(0, members).owners(SourceId("snapshot"), reversed(files))
        assert owners == Assignment(members - 1, members).owners(SourceId("snapshot"), files)
        counts = Counter(owners.values())
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_owner_of_an_id_is_the_same_in_every_process_and_version() -> None:
    ids = [ShardId("shardId-000000000007"), ShardId("shardId-000000000008"), ShardId("odd"), ShardId("")]
    assert [Assignment(0, 5).owner(STREAM, shard) for shard in ids] == [1, 2, 4, 4]


@pytest.mark.parametrize("text", ["3/3", "1", "a/2", "-1/2", "0/0", "1/2/3", " 0/2"])
def test_a_member_that_cannot_be_is_a_mistake_of_use(text: str) -> None:
    with pytest.raises(ConfigError, match="from 0 to n - 1"):
        Assignment.parse(text)
    assert str(Assignment.parse("2/3").part(1, 2)) == "5/6"


def test_a_member_of_another_division_is_refused_while_one_is_alive_and_names_it() -> None:
    async def work() -> None:
        store = MemoryMembers()
        store.add(Member(1, 4, 5))
        beating = asyncio.create_task(beat(store, Member(1, 4, 5)))
        with pytest.raises(FatalError, match="another assignment are alive: 1/4"):
            await membership(store).wait_until_alone()
        beating.cancel()

    async def beat(store: MemoryMembers, member: Member) -> None:
        while True:
            await asyncio.sleep(3.0)
            store.add(member)

    run(work())


def test_members_that_were_killed_are_waited_for_and_those_that_left_are_not() -> None:
    async def work() -> None:
        store, loop = MemoryMembers(), asyncio.get_running_loop()
        store.add(Member(1, 4, 5, left=True))
        await membership(store).wait_until_alone()
        assert loop.time() < 1.0
        store.add(Member(2, 4, 6))
        await membership(store).wait_until_alone()
        assert LIVE_SECONDS <= loop.time() < LIVE_SECONDS + 2.0

    run(work())


def test_of_two_divisions_that_begin_together_the_older_stays() -> None:
    async def work() -> None:
        store = MemoryMembers()
        older, younger = membership(store, "0/3"), membership(store, "0/4")
        await asyncio.gather(older.wait_until_alone(), younger.wait_until_alone())
        await older.join(7)
        with pytest.raises(FatalError, match="alive: 0/3"):
            await younger.join(8)
        await older._heartbeat()

    run(work())


def test_c7_one_that_was_taken_for_dead_and_wakes_stops_where_others_have_taken_its_place() -> None:
    async def work() -> None:
        store = MemoryMembers()
        frozen, replaced = membership(store, "0/3"), membership(store, "1/3")
        await frozen.join(1)
        await replaced.join(2)
        await asyncio.sleep(LIVE_SECONDS + 1.0)
        store.add(Member(0, 4, 90))
        store.add(Member(1, 3, 91))
        with pytest.raises(FatalError, match="alive: 0/4"):
            await frozen._heartbeat()
        with pytest.raises(FatalError, match="took over"):
            await replaced._heartbeat()

    run(work())


def test_c7_one_whose_session_has_ended_otherwise_does_not_take_the_place_back_from_who_replaced_it() -> None:
    """A reload, or a table that was changed, is followed by another session; its epoch would be the highest of all."""

    async def work() -> None:
        store = MemoryMembers()
        await membership(store, "1/3").join(2)
        await membership(store, "1/3", after=2).wait_until_alone()
        store.add(Member(0, 3, 9))
        await membership(store, "1/3", after=2).wait_until_alone()
        store.add(Member(1, 3, 3))
        with pytest.raises(FatalError, match=r"took over \(its epoch 3, ours 2\)"):
            await membership(store, "1/3", after=2).wait_until_alone()
        await membership(store, "1/3").wait_until_alone()  # a process that starts is meant to

    run(work())


def test_a_stream_is_covered_only_when_all_members_are_there_and_follow_its_tables() -> None:
    async def work() -> None:
        store = MemoryMembers()
        me = membership(store, "0/3")
        await me.join(1)
        store.add(Member(1, 3, 2, tables=("orders",)))
        store.add(Member(2, 3, 3, tables=("accounts",)))
        await me._heartbeat()
        assert not me.peers.all_follow(["orders"])
        store.add(Member(2, 3, 4, tables=("accounts", "orders")))
        await me._heartbeat()
        assert me.peers.all_follow(["orders"]) and [one.member for one in me.peers.live()] == [0, 1, 2]
        shards = [Shard(STREAM, ShardId(f"shardId-{number}")) for number in range(9)]
        assert me.peers.unowned(shards) == 0
        await asyncio.sleep(LIVE_SECONDS + 1.0)
        await me._heartbeat()
        assert not me.peers.all_follow(["orders"]) and me.peers.unowned(shards) == 6

    run(work())


def test_once_who_takes_the_place_of_a_dead_member_counts_on_those_that_have_done_their_part_of_the_run() -> None:
    """Else it would wait forever: who is done with ``--once`` does not come back."""

    async def work() -> None:
        store = MemoryMembers()
        store.add(Member(2, 3, 1, tables=("orders",), left=True))  # by another run, long ago
        await asyncio.sleep(100.0)
        began = 1_000.0 + asyncio.get_running_loop().time()
        await asyncio.sleep(5.0)
        store.add(Member(1, 3, 2, tables=("orders",), left=True))
        await asyncio.sleep(5.0)
        late = membership(store, "0/3", since=began)
        await late.join(3)
        assert late.peers.owner_left(STREAM, owned_by(1)) and not late.peers.owner_left(STREAM, owned_by(2))
        assert not late.peers.all_follow(["orders"])
        store.add(Member(2, 3, 4, tables=("orders",), left=True))
        await late._heartbeat()
        assert late.peers.all_follow(["orders"])

    run(work())


def owned_by(member: int) -> ShardId:
    assignment = Assignment(0, 3)
    return next(shard for n in range(3) if assignment.owner(STREAM, shard := ShardId(f"shardId-{n}")) == member)


def test_a_member_whose_row_is_refused_is_named_by_health() -> None:
    """What begins a session is a task like any other: an insert that ClickHouse refuses may be refused for ever."""

    class Refusing(MemoryMembers):
        async def save_member(self, member: Member) -> None:
            raise RetryableError("saving a member: ClickHouse answered 201 QUOTA_EXCEEDED")

    async def stuck() -> list[str]:
        instruments = instruments_of()
        instruments.health.clock = asyncio.get_running_loop().time
        task = asyncio.create_task(Membership(Assignment(), Refusing(), ["orders"], instruments).join(1))
        await asyncio.sleep(instruments.health.stuck_after_seconds * 2)
        found = [f"{one.name}: {one.reason}" for one in instruments.health.stuck()]
        task.cancel()
        return found

    (found,) = run(stuck())
    assert found.startswith("members: ")
    assert "201 QUOTA_EXCEEDED" in found

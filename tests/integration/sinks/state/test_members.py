"""Members in a real ClickHouse: the newest session of each counts, and no one's clock but the server's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dyncdc.model.members import Member
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.tables import MEMBERS, own_statements

ONE = Member(0, 3, 10, tables=("it's", "b"), errors={"snapshot": 'member "0" 😀'})


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


async def test_members_are_found_as_they_described_themselves(tables: ClickHouse) -> None:
    store = ClickHouseMembers(tables, "p")
    assert await store.members() == []
    await store.save_member(ONE)
    await store.save_member(replace(ONE, member=1, members=4, left=True))
    first, second = await store.members()
    assert replace(first, seen_at=0.0, age_seconds=0.0) == ONE
    assert (second.member, second.members, second.left) == (1, 4, True)
    assert 0.0 <= first.age_seconds < 10.0 and first.seen_at > 1_700_000_000.0
    assert await ClickHouseMembers(tables, "another").members() == []


async def test_c7_a_process_that_was_replaced_cannot_hide_the_one_in_its_place(tables: ClickHouse) -> None:
    store = ClickHouseMembers(tables, "p")
    await store.save_member(replace(ONE, epoch=11, tables=()))
    await store.save_member(ONE)  # back from a freeze
    for _ in range(2):
        (found,) = await store.members()
        assert (found.epoch, found.tables, found.left) == (11, (), False)
        await tables.execute(f"OPTIMIZE TABLE {MEMBERS} FINAL")


async def test_a_member_seen_again_is_seen_later(tables: ClickHouse) -> None:
    store = ClickHouseMembers(tables, "p")
    await store.save_member(ONE)
    (before,) = await store.members()
    for _ in range(2):
        await asyncio.sleep(0.01)
        await store.save_member(ONE)
        (again,) = await store.members()
        assert again.seen_at > before.seen_at, "a beat is no repeat of the one before"
        before = again
    await asyncio.sleep(0.01)
    await store.save_member(replace(ONE, left=True))
    (after,) = await store.members()
    assert after.seen_at > before.seen_at and after.left

"""Sessions in a real ClickHouse: the greatest epoch counts, of equal ones the greater id, and nothing is a repeat."""

from __future__ import annotations

import pytest

from dyncdc.model.members import Process, Session
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.rows import append_rows
from dyncdc.sinks.state.sessions import ClickHouseSessions
from dyncdc.sinks.state.tables import own_statements


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


def session(epoch: int, id_: str, member: int = 0, members: int = 1) -> Session:
    return Session(member, members, epoch, id_, Process("host 😀'", f"boot/pid:[1]/{epoch}/2"))


async def test_the_two_greatest_sessions_of_each_member_are_found(tables: ClickHouse) -> None:
    store = ClickHouseSessions(tables, "p")
    assert await store.newest_sessions() == []
    saved = [session(2**63, "a"), session(2**63, "b"), session(7, "c"), session(9, "d", 1, 2), session(8, "e", 1, 2)]
    for one in saved:
        await store.save_session(one)
    await ClickHouseSessions(tables, "another").save_session(session(2**64 - 1, "z"))
    found = await store.newest_sessions()
    assert [one.id for one in found] == ["b", "a", "d", "e"]
    assert found[0].process == saved[1].process and found[0].began_at > 1_700_000_000


async def test_a_later_session_has_a_greater_epoch_or_of_one_epoch_a_greater_id(tables: ClickHouse) -> None:
    store = ClickHouseSessions(tables, "p")
    for one in (session(5, "b"), session(5, "a"), session(9, "x", 1, 2), session(4, "z")):
        await store.save_session(one)
    assert await store.later_session(session(5, "b")) is None
    assert await store.later_session(session(6, "")) is None
    for earlier in (session(5, "a"), session(4, "z"), session(3, "zz")):
        later = await store.later_session(earlier)
        assert later is not None and later.id == "b"


async def test_a_row_of_ours_that_was_written_before_is_written_again(tables: ClickHouse) -> None:
    """ClickHouse drops an insert without a token that looks like an earlier one, and a token that it has seen."""
    await tables.execute(
        "CREATE TABLE rows (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100"
    )
    for _ in range(3):
        await append_rows(tables, "rows", [{"a": 1}], "writing a row")
    assert await tables.fetch("SELECT count() FROM rows") == [(3,)]

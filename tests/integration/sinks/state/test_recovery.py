"""Gaps, requests and followed tables in a real ClickHouse: what is closed stays closed, whatever comes late."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.shards import SourceId
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.tables import GAPS, REQUESTS, own_statements

GAP = Gap(
    "orders",
    "arn:it's@1",
    "shard-1",
    1_700_000_000.25,
    1_700_000_100.5,
    position="123",
    reason="the stream keeps less",
    noticed_at=1_700_000_101.0,
)


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


async def test_an_open_gap_survives_until_it_is_recovered_and_then_stays_recovered(tables: ClickHouse) -> None:
    store = ClickHouseRecovery(tables, "p")
    assert await store.open_gaps() == []
    other = replace(GAP, table="accounts", shard="")
    await store.save_gaps([GAP, other])
    assert await ClickHouseRecovery(tables, "p").open_gaps() == [other, GAP]
    await store.save_gaps([GAP], recovered_at=1_700_000_200.0)
    for _ in range(2):
        assert await store.open_gaps() == [other]
        await store.save_gaps([GAP])  # a late answer of the insert that opened it
        assert await store.open_gaps() == [other]
        await tables.execute(f"OPTIMIZE TABLE {GAPS} FINAL")
    assert await ClickHouseRecovery(tables, "another").open_gaps() == []


async def test_the_same_loss_noticed_again_is_the_same_gap_and_ends_later(tables: ClickHouse) -> None:
    store = ClickHouseRecovery(tables, "p")
    await store.save_gaps([GAP])
    later = replace(GAP, end=GAP.end + 500.0)
    await store.save_gaps([later])
    assert await store.open_gaps() == [later]
    assert later.key == GAP.key


async def test_a_gap_that_goes_on_behind_what_was_recovered_is_open(tables: ClickHouse) -> None:
    store = ClickHouseRecovery(tables, "p")
    longer = replace(GAP, end=GAP.end + 60.0)
    await store.save_gaps([GAP])
    await store.save_gaps([longer])  # by another member, before the first has looked
    await store.save_gaps([GAP], recovered_at=1_700_000_200.0)
    for _ in range(2):
        assert await store.open_gaps() == [longer]
        await tables.execute(f"OPTIMIZE TABLE {GAPS} FINAL")
    await store.save_gaps([longer], recovered_at=1_700_000_300.0)
    assert await store.open_gaps() == []


async def test_an_accepted_gap_is_told_apart(tables: ClickHouse) -> None:
    await ClickHouseSnapshots(tables, "p").record_gap("orders", "arn", 1_700_000_000.25, 1_700_000_060.5)
    (gap,) = await ClickHouseRecovery(tables, "p").open_gaps()
    assert (gap.accepted, gap.table, gap.begin, gap.end) == (True, "orders", 1_700_000_000.25, 1_700_000_060.5)


async def test_a_request_is_open_until_it_is_done(tables: ClickHouse) -> None:
    store = ClickHouseRecovery(tables, "p")
    first = await store.request("orders")
    second = await store.request("orders")
    requests = await store.open_requests()
    assert [(each.id, each.table) for each in requests] == [(first, "orders"), (second, "orders")]
    assert abs(requests[0].requested_at - time.time()) < 60
    await store.finish_requests(requests[:1], await store.server_time())
    await tables.execute(f"OPTIMIZE TABLE {REQUESTS} FINAL")
    assert [each.id for each in await store.open_requests()] == [second]
    done = await tables.fetch(f"SELECT id FROM {REQUESTS} WHERE done_at IS NOT NULL AND done_at >= requested_at")
    assert done == [(first,)]
    assert await ClickHouseRecovery(tables, "another").open_requests() == []


async def test_a_request_is_later_than_those_before_it_whose_clock_was_ahead(tables: ClickHouse) -> None:
    """Catches: a snapshot that began before the request answers it, for it looks older than what it was begun for."""
    store = ClickHouseRecovery(tables, "p")
    await tables.execute(
        f"INSERT INTO {REQUESTS} (id, pipeline, table, kind, requested_at)"
        " VALUES ('ahead', 'p', 'orders', 'snapshot', now64(6) + INTERVAL 1 HOUR)"
    )
    later = [await store.request("orders"), await store.request("orders")]
    requests = await store.open_requests()
    assert [each.id for each in requests] == ["ahead", *later]
    assert requests[0].requested_at < requests[1].requested_at < requests[2].requested_at


async def test_the_last_session_that_followed_a_table_counts(tables: ClickHouse) -> None:
    store = ClickHouseRecovery(tables, "p")
    assert await store.table_sources() == []
    new = TableSource("orders", SourceId("b@2"), 7, 1_700_000_000.5)
    await store.save_table_sources([new])
    await store.save_table_sources([TableSource("orders", SourceId("a@1"), 5, 1_600_000_000.0)])
    assert await store.table_sources() == [new]

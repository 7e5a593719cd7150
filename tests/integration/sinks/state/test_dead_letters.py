"""Dead letters as ClickHouse keeps them: open until closed, and closed forever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dyncdc.decode.dead_letters.rows import DeadLetterRows
from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.pipeline.writing.dead_letter_limits import LimitStop
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.dead_letters.limit_stops import ClickHouseLimitStops
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.progress.watermarks import ClickHouseWatermarks
from dyncdc.sinks.state.rows import append_rows
from dyncdc.sinks.state.tables import DEAD_LETTERS, own_statements


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> ClickHouse:
    """A database with dyncdc's own tables."""
    for statement in own_statements():
        await clickhouse.execute(statement)
    return clickhouse


async def write(
    clickhouse: ClickHouse,
    *positions: str,
    pipeline: str = "p",
    source: str = "stream@1",
    table: str = "orders",
    token: str = "",
) -> None:
    dead_letters = DeadLetterRows(pipeline, source, "shard-1")
    for position in positions:
        raw = b"\xff" + position.encode()
        dead_letters.add(table=table, reason="misfit", column="age", error="it does", position=position, raw=raw)
    block = dead_letters.block()
    assert block is not None
    await ClickHouseSink(clickhouse).insert(block, token or f"{pipeline}/{source}/{positions}")


async def test_a_letter_is_found_with_all_that_it_says(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    await write(tables, "7")
    await write(tables, "8", pipeline="another")
    (dead_letter,) = await store.find(with_raw=True)
    assert (dead_letter.table, dead_letter.reason, dead_letter.column, dead_letter.error) == (
        "orders",
        "misfit",
        "age",
        "it does",
    )
    assert (dead_letter.source, dead_letter.shard, dead_letter.position, dead_letter.raw) == (
        "stream@1",
        "shard-1",
        "7",
        b"\xff7",
    )
    assert dead_letter.state == "open" and dead_letter.received_at > 1_700_000_000
    assert (await store.find())[0].raw is None, "no one asked for the record"
    assert await store.find(prefix=dead_letter.id[:6]) == [replace(dead_letter, raw=None)]
    assert await store.find(prefix="x") == [] and await store.find(ids=[]) == []


async def test_a_closed_letter_stays_closed_when_its_record_is_read_again(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    await write(tables, "7", token="first session")
    (dead_letter,) = await store.find()
    await store.close([dead_letter.id])
    await write(tables, "7", token="second session")
    assert await store.find() == [] and await store.count_open() == 0
    await tables.execute(f"OPTIMIZE TABLE {DEAD_LETTERS} FINAL")
    assert await store.count_open() == 0, "no merge may bring it back"
    (closed,) = await store.find(only_open=False, with_raw=True)
    assert closed.state == "replayed" and closed.replayed_at is not None and closed.raw == b"\xff7"


async def test_a_dropped_letter_says_so_and_keeps_its_reason(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    await write(tables, "7", "8")
    first = (await store.find())[0]
    await store.close([first.id, "unknown"], dropped=True)
    await store.close([first.id], dropped=True)
    states = {
        dead_letter.id: (dead_letter.state, dead_letter.error) for dead_letter in await store.find(only_open=False)
    }
    assert states.pop(first.id) == ("dropped", "dropped: it does")
    assert list(states.values()) == [("open", "it does")]


async def test_open_letters_are_counted_once_by_source_and_by_table(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    for token in ("a", "b"):  # written twice, as after a crash, and not merged yet
        await write(tables, "7", "8", token=token)
    await write(tables, "7", source="snapshot-1", table="users")
    await write(tables, "7", pipeline="another")
    assert await store.count_open() == 3
    assert await store.count_open(source="snapshot-1") == 1
    assert await store.count_open(source="snapshot-2") == 0
    assert await store.count_open(table="orders") == 2
    await store.close([(await store.find(table="users"))[0].id])
    assert await store.count_open(source="snapshot-1") == 0
    assert len(await store.find(limit=1)) == 1


async def test_why_a_session_stopped_is_kept_until_it_is_closed(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    stop = LimitStop(
        "h1", "max_ratio", 0.05, "too many", SourceId("s@1"), ShardId("shard"), Position("9"), "orders", "age"
    )
    refused = replace(stop, id="h2", limit="max_consecutive", value=1000.0, column="", refused=True)
    stops = ClickHouseLimitStops(store)
    await stops.save_limit_stop(stop)
    await stops.save_limit_stop(refused)
    await write(tables, "7")
    assert sorted(await stops.open_limit_stops(), key=lambda found: found.id) == [stop, refused]
    assert await ClickHouseLimitStops(ClickHouseDeadLetters(tables, "another")).open_limit_stops() == []
    await stops.close_limit_stop(stop)
    assert await stops.open_limit_stops() == [refused]
    await store.close(["h2"], dropped=True)
    assert await stops.open_limit_stops() == [], "dropping it lets the daemon try again"


async def test_a_halt_that_someone_edited_is_refused_with_advice(tables: ClickHouse) -> None:
    await tables.execute(f"INSERT INTO {DEAD_LETTERS} (id, pipeline, reason) VALUES ('h1', 'p', 'limit_reached')")
    with pytest.raises(FatalError, match="dead letter h1") as caught:
        await ClickHouseLimitStops(ClickHouseDeadLetters(tables, "p")).open_limit_stops()
    assert "dead-letters drop h1" in caught.value.hint


async def test_c11_whoever_looks_for_letters_waits_for_a_table_that_was_dropped(tables: ClickHouse) -> None:
    """Catches: the daemon ends because a look at dead letters met a table that an insert would have waited for."""
    await tables.execute(f"DROP TABLE {DEAD_LETTERS} SYNC")
    for look in (ClickHouseWatermarks(tables, "p").open_dead_letters, ClickHouseDeadLetters(tables, "p").count_open):
        with pytest.raises(RetryableError, match="UNKNOWN_TABLE") as failure:
            await look()
        assert "ddl --apply" in failure.value.hint


async def test_closed_letters_are_deleted_once_they_are_old_and_open_ones_never(tables: ClickHouse) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    await write(tables, "1", "2", "3", "4")
    await write(tables, "1", pipeline="another")
    old, young, *still_open = await store.find()
    await store.close([young.id])
    closed = {"id": old.id, "pipeline": "p", "table": "orders", "replayed_at": "2026-01-01 00:00:00"}
    await append_rows(tables, DEAD_LETTERS, [closed], "closing a dead letter long ago")
    await write(tables, "1", "2", token="read again")
    for deleted in (1, 0):
        assert await store.forget_closed(30) == deleted
        assert {dead_letter.id for dead_letter in await store.find(only_open=False)} == {
            young.id,
            *(x.id for x in still_open),
        }
        assert {dead_letter.id for dead_letter in await store.find()} == {x.id for x in still_open}
    assert await ClickHouseDeadLetters(tables, "another").count_open() == 1


async def test_a_clean_up_that_ends_half_way_opens_no_letter(
    tables: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ClickHouseDeadLetters(tables, "p")
    await write(tables, "1", "2")
    (first, second) = await store.find()
    await store.close([first.id])
    execute, deletes = ClickHouse.execute, 0

    async def dies(self: ClickHouse, sql: str, **options: Any) -> None:
        nonlocal deletes
        deletes += 1
        if deletes == 2:
            raise RetryableError("the process ends here")
        await execute(self, sql, **options)

    monkeypatch.setattr(ClickHouse, "execute", dies)
    with pytest.raises(RetryableError):
        await store.forget_closed(-1)
    assert [dead_letter.id for dead_letter in await store.find()] == [second.id]
    assert await store.forget_closed(-1) == 1
    assert [dead_letter.id for dead_letter in await store.find(only_open=False)] == [second.id]

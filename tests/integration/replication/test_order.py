"""Order, duplicates, deletes: whatever comes, and however often, a key ends in its last state.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from support.stage.rows import Rows, spec_of
from support.stage.stage import Event, Stage, change, now, until

COLUMNS = {"id": "String", "value": "Nullable(String)"}
SECOND = 1_000_000
TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


def test_o1_the_newest_change_wins_in_one_batch_in_two_and_over_two_shards(stage: Stage) -> None:
    """Catches: versions from the order or the time of arrival; a batch that keeps the last row of a key."""
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    t = now()
    old, new = t + 100, t + 200
    stage.put(change(table, "INSERT", new, item("one batch", "new")), change(table, "INSERT", old, item("one batch")))
    stage.put(change(table, "INSERT", new, item("two batches", "new")))
    stage.put(change(table, "INSERT", new, item("two shards", "new")), slot=0.0)
    stage.put(change(table, "INSERT", old, item("two shards", "old")), slot=0.9)
    stage.once()
    stage.put(change(table, "MODIFY", old, item("two batches", "old")))
    stage.once()
    assert stage.rows() == [["one batch", "new"], ["two batches", "new"], ["two shards", "new"]]


@pytest.mark.parametrize("seed", [1, 2])
def test_o2_duplicates_at_any_later_place_change_nothing(stage: Stage, seed: int) -> None:
    """Catches: versions from the sequence number, which a duplicate has of its own; a delete that is not versioned."""
    rng = random.Random(seed)
    stage.stream(2)
    table = stage.table(columns=COLUMNS)
    records: list[tuple[float, bytes]] = []
    last: dict[str, tuple[Event, str]] = {}
    for number in range(150):
        key = f"k{rng.randrange(25)}"
        event: Event = rng.choice(("INSERT", "MODIFY", "REMOVE"))
        last[key] = event, f"v{number}"
        record = change(table, event, now() + number, item(key, f"v{number}"), event_id=f"e{number}")
        copies = rng.choice((1, 1, 2, 5))
        records += [(number + 0.001 + copy * rng.uniform(0, 60), record) for copy in range(copies)]
    in_order = [record for _, record in sorted(records)]
    first, second = in_order[: len(in_order) // 2], in_order[len(in_order) // 2 :]
    for half in (first, second):
        stage.put_all([record for record in half if hash_slot(record) < 0.5])
        stage.put_all([record for record in half if hash_slot(record) >= 0.5], slot=0.9)
        stage.once()
    wanted = [[key, value] for key, (kind, value) in last.items() if kind != "REMOVE"]
    assert stage.rows() == sorted(wanted)


def hash_slot(record: bytes) -> float:
    """A shard for a record: sometimes another one than that of its key's other records."""
    return random.Random(record).random()


EVENTS: tuple[tuple[Event, str], ...] = (("INSERT", "first"), ("REMOVE", "gone"), ("INSERT", "last"))
SPLITS = ((0, 0, 0), (0, 1, 1), (0, 0, 1), (0, 1, 2))
"""For each of three records, the batch it comes in."""


def test_o3_among_equal_times_the_last_delivered_wins_over_every_split_and_restart(stage: Stage) -> None:
    """Catches: ties resolved by the first, by the event's name or at random; a second insert in flight per table."""
    table = stage.table(columns=COLUMNS)
    at = now()
    wanted = []
    batches: list[list[bytes]] = [[], [], []]
    for order, split in itertools.product(itertools.permutations(EVENTS), SPLITS):
        key = "/".join([*(f"{event} {value}" for event, value in order), str(split)])
        for (event, value), place in zip(order, split, strict=True):
            batches[place].append(change(table, event, at, item(key, value)))
        event, value = order[-1]
        wanted += [] if event == "REMOVE" else [[key, value]]
    for batch in batches:  # a session for each: restarts lie between
        stage.put_all(batch)
        stage.once()
    assert stage.rows() == sorted(wanted)
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_table_sources")  # or the lost positions would be a loss
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_checkpoints")  # read all of it again, as after a lost checkpoint
    stage.once(batch={"max_rows": 7})
    assert stage.rows() == sorted(wanted)


def test_o3_with_a_wide_version_the_highest_sequence_wins_in_any_order(stage: Stage) -> None:
    """Catches: a tie-break by delivery where the version could tell; sequence numbers compared as text."""
    spec = spec_of("orders", {"id": "S"}, COLUMNS, version_type="UInt256")
    rows = Rows(stage.place, spec)
    rows.create()
    at = now()
    numbers = (9 * 10**54, 10**55, 10**55 + 1)  # of which the first has fewer digits
    wanted = []
    statements: list[list[tuple[int, bytes]]] = [[], [], []]
    for tied, delivered, split in itertools.product(
        itertools.permutations(EVENTS), itertools.permutations(range(3)), SPLITS
    ):
        key = f"{tied} {delivered} {split}"
        for place, batch in zip(delivered, split, strict=True):
            event, value = tied[place]
            statements[batch].append((numbers[place], change("orders", event, at, item(key, value))))
        event, value = tied[-1]
        wanted += [] if event == "REMOVE" else [[key, value]]
    rows.stream(*statements)
    assert stage.rows() == sorted(wanted)


def test_o3_a_table_made_under_milliseconds_has_a_total_order(stage: Stage) -> None:
    """Catches: an Int64 version where the stream's times tie."""
    table = stage.table(columns=COLUMNS, precision="MILLISECOND")
    at = now() // 1000
    tied = [
        change(table, "INSERT", at, item("a", "1"), unit="MILLISECOND"),
        change(table, "REMOVE", at, item("a", "1"), unit="MILLISECOND"),
        change(table, "INSERT", at, item("a", "2"), unit="MILLISECOND"),
    ]
    stage.put_all(tied)
    stage.once()
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_table_sources")  # or the lost positions would be a loss
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_checkpoints")
    stage.once()
    assert stage.rows() == [["a", "2"]]
    ((version,),) = stage.merged(columns="_version")
    assert int(str(version)) >> 192 == at * 1000


def test_o4_the_newest_wins_over_changes_of_the_unit_and_microseconds_are_stored(stage: Stage) -> None:
    """Catches: versions in the unit that came; a unit taken from the stream's present setting, not from the record."""
    table = stage.table(columns=COLUMNS)
    t = now() // 1000 * 1000
    steps: list[tuple[int, str | None]] = [
        (t + 1, "MICROSECOND"),
        (t // 1000 + 2, "MILLISECOND"),
        (t // 1000 + 4, None),
        (t + 6001, None),
        (t + 8001, "MICROSECOND"),
    ]
    records = []
    for newest in range(len(steps)):
        for number in (*range(newest), newest):
            at, unit = steps[number]
            records.append(change(table, "MODIFY", at, item(f"until {newest}", f"{number}"), unit=unit))
    random.Random(4).shuffle(records)
    stage.put_all(records)
    stage.once()
    stamped = [t + 1, t + 2000, t + 4000, t + 6001, t + 8001]
    wanted = [[f"until {number}", f"{number}", str(stamped[number])] for number in range(len(steps))]
    assert stage.merged(columns="id, value, _version") == wanted


def test_o5_a_delete_that_is_delivered_again_never_beats_a_later_insert(stage: Stage) -> None:
    """Catches: deletes executed as statements, or versioned by the time at which they were read."""
    table = stage.table(columns=COLUMNS)
    t = now() - 3600 * SECOND
    delete = change(table, "REMOVE", t + 1, item("a"))
    stage.put(delete, change(table, "INSERT", t + 2, item("a", "again")))
    asyncio.run(die_when(stage, lambda: stage.rows() == [["a", "again"]]))
    stage.put(delete)  # an hour later
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_table_sources")  # or the lost positions would be a loss
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_checkpoints")  # and all that was not acknowledged once more
    stage.once()
    assert stage.rows() == [["a", "again"]]


async def die_when(stage: Stage, condition: Any) -> None:
    """Live until ``condition``, then end like a process that is killed."""
    async with stage.living():
        await until(lambda: stage.count() and condition(), 10, "the rows are there")


def test_o6_a_replayed_insert_stays_deleted_even_after_merges(stage: Stage) -> None:
    """Catches: tombstones that a merge may drop (CLEANUP, lightweight deletes): the replayed row would stand."""
    table = stage.table(columns=COLUMNS)
    t = now()
    insert = change(table, "INSERT", t + 10, item("a", "old"))
    stage.put(insert, change(table, "REMOVE", t + 20, item("a")))
    stage.once()
    stage.clickhouse.run("OPTIMIZE TABLE orders FINAL")
    assert stage.clickhouse.rows("SELECT id, _deleted FROM orders") == [["a", 1]]
    stage.put(insert)
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_table_sources")  # or the lost positions would be a loss
    stage.clickhouse.run("TRUNCATE TABLE dyncdc_checkpoints")
    stage.once()
    assert stage.rows() == []
    stage.clickhouse.run("OPTIMIZE TABLE orders FINAL")
    assert stage.rows() == []


def test_o7_a_delete_seen_first_outlives_the_older_snapshot_row(stage: Stage) -> None:
    """Catches: deletes of unknown keys dropped; snapshot rows newer than the stream's changes."""
    table = stage.table(columns=COLUMNS)
    rows = Rows(stage.place, spec_of("orders", {"id": "S"}, COLUMNS))
    stage.put(change(table, "REMOVE", now(), item("a")))
    stage.once()
    assert stage.merged(columns="id, _deleted") == [["a", 1]]
    rows.snapshot(now() - 300 * SECOND, item("a", "from the export"), item("b", "lives"))
    assert stage.rows() == [["b", "lives"]]


def test_o8_an_item_created_again_within_a_second_over_a_reshard_is_there(stage: Stage) -> None:
    """Catches: children read from LATEST or beside their parents; a delete that wins over the later insert."""
    table = stage.table(columns=COLUMNS)
    t = now()
    keys = [f"k{number}" for number in range(20)]
    stage.put_all([change(table, "INSERT", t, item(key, "old")) for key in keys])
    stage.put_all([change(table, "REMOVE", t + 300_000, item(key, "old")) for key in keys])
    stage.place.aws.split_first(stage.place.name)
    for number, key in enumerate(keys):
        stage.put(change(table, "INSERT", t + 600_000, item(key, "new")), slot=number / len(keys))
    stage.once()
    assert stage.rows() == sorted([key, "new"] for key in keys)


def test_o9_a_thousand_modifies_without_a_change_are_counted_and_no_error(stage: Stage) -> None:
    """Catches: an UPDATE path that counts affected rows; identical rows taken for a failed insert and retried."""
    table = stage.table(columns=COLUMNS)
    t = now()
    stage.put_all([change(table, "MODIFY", t + number, item("a", "same")) for number in range(1000)])
    counted = asyncio.run(read_count(stage, table))
    assert counted == 1000
    assert stage.merged(columns="id, value, _version, _deleted") == [["a", "same", str(t + 999), 0]]
    assert stage.dead_letters() == []


async def read_count(stage: Stage, table: str, least: int = 1000) -> float:
    async with stage.living():
        count = await stage.await_metric("dyncdc_records_read_total", least, table=table)
        await until(lambda: len(stage.rows()) > 0, 10, "a row is there")
        await asyncio.sleep(0.5)
        assert await stage.metric("dyncdc_errors_total") == 0
        return count


def test_o10_an_item_deleted_by_ttl_is_gone(stage: Stage) -> None:
    """Catches: REMOVE records with an identity taken for something else. Keeping them comes with ``ttl_deletes``."""
    table = stage.table(columns=COLUMNS)
    t = now()
    for key, identity in (("by ttl", TTL), ("by a user", None), ("alive", TTL)):
        stage.put(change(table, "INSERT", t, item(key, "v")))
        stage.put(change(table, "REMOVE", t + 1, item(key, "v"), userIdentity=identity))
    stage.put(change(table, "INSERT", t + 2, item("alive", "again")))
    stage.once()
    assert stage.rows() == [["alive", "again"]]
    assert stage.merged(columns="id, _deleted") == [["alive", 0], ["by a user", 1], ["by ttl", 1]]


def test_o12_three_tables_and_an_unknown_one_share_a_stream(stage: Stage) -> None:
    """Catches: one plan for all records of a stream; an unknown table that stops it or fills the dead letters."""
    tables = [stage.table(label, columns=COLUMNS) for label in ("orders", "users", "events")]
    t = now()
    records = []
    for number in range(60):
        name = ("unknown", *tables)[number % 4]
        records.append(change(name, "INSERT", t + number, item(f"k{number}", name.rpartition(".")[2])))
    stage.put_all(records)
    assert asyncio.run(read_count(stage, "unknown", 15)) == 15
    for place, label in enumerate(("orders", "users", "events"), start=1):
        wanted = sorted([f"k{number}", label] for number in range(60) if number % 4 == place)
        assert stage.rows(label) == wanted
    assert stage.dead_letters() == []


def test_o13_the_new_table_of_a_name_wins_over_late_changes_of_the_old_one(stage: Stage) -> None:
    """Catches: arrival order deciding between two tables that had the same name one after the other."""
    table = stage.table(columns=COLUMNS)
    t = now()
    old = change(table, "MODIFY", t - 3600 * SECOND, item("a", "of the old table"))
    stage.put(change(table, "INSERT", t, item("a", "of the new table")), old)
    stage.once()
    stage.put(change(table, "REMOVE", t - 3599 * SECOND, item("a")))
    stage.once()
    assert stage.rows() == [["a", "of the new table"]]


def test_o14_a_duplicate_inside_a_tie_is_a_limit_that_verify_finds(stage: Stage) -> None:
    """Documents: nothing in the record tells the duplicate of A from a change after B. ``verify`` sees the difference.

    Catches: a verify that compares versions or counts instead of items.
    """
    table = stage.table(columns=COLUMNS, precision="MILLISECOND", items=[item("a", "B"), item("b", "C")])
    at = now() // 1000
    first = change(table, "INSERT", at, item("a", "A"), unit="MILLISECOND", event_id="a")
    second = change(table, "MODIFY", at, item("a", "B"), unit="MILLISECOND", event_id="b")
    stage.put(first, second, first, change(table, "INSERT", at, item("b", "C"), unit="MILLISECOND"))
    stage.once()
    assert stage.rows() == [["a", "A"], ["b", "C"]]
    assert stage.verify(table) == "DIFFERENT items=2 differing=1"

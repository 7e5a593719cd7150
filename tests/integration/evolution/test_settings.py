"""Mappings that others edit, and settings that are changed and taken back: rows stay right, or someone is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.stage.stage import LIFE_SECONDS, Stage, until

from dyncdc.app import run_daemon
from dyncdc.app.assembly.live_schema import LiveSchema
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import limited
from dyncdc.config import load_config
from dyncdc.operations.check.checker import Checker
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.sessions import SessionClaim
from dyncdc.schema.table_spec import ColumnSpec

SCAN = {"method": "scan", "settle_seconds": 0.05, "margin_seconds": 0.1}

NOTE_FIRST_AGAIN = (
    "INSERT INTO dyncdc_settings SELECT * REPLACE ({number} AS number, now64(6) AS recorded_at)"
    " FROM (SELECT * FROM dyncdc_settings ORDER BY number LIMIT 1)"
)


def item(number: int, city: str = "Bonn", **more: str) -> dict[str, Any]:
    return {"id": {"S": f"k{number}"}, "address": {"M": {"city": {"S": city}}}} | {
        name: {"S": text} for name, text in more.items()
    }


def loaded(stage: Stage, count: int = 2, **entry: Any) -> str:
    """A table that was loaded once."""
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[item(number) for number in range(count)], **({"snapshot": SCAN} | entry))
    stage.once()
    assert verified(stage, table)
    return table


def verified(stage: Stage, table: str) -> bool:
    verdict = stage.verify(table)
    assert verdict.startswith(("EQUAL", "DIFFERENT"))
    return verdict.startswith("EQUAL")


def change_entry(stage: Stage, changes: Mapping[str, Any]) -> None:
    """Configure the table otherwise; None takes a key away."""
    kept = {name: value for name, value in stage.entries[0].items() if name not in changes}
    stage.entries[0] = kept | {name: value for name, value in changes.items() if value is not None}


def put(stage: Stage, table: str, *items: Mapping[str, Any]) -> None:
    for each in items:
        stage.place.aws.put(table, each)


def delete(stage: Stage, table: str, number: int) -> None:
    stage.place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": f"k{number}"}})


def comment(stage: Stage, column: str) -> str:
    ((found,),) = stage.clickhouse.rows(
        f"SELECT comment FROM system.columns WHERE database = '{stage.place.name}' AND table = 'orders'"
        f" AND name = '{column}'"
    )
    return str(found)


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """What was logged since the last look."""
    return "".join(capfd.readouterr())


def open_gaps(stage: Stage) -> int:
    return stage.clickhouse.number(
        "SELECT count() FROM"
        " (SELECT 1 FROM dyncdc_gaps GROUP BY source, shard, `from` HAVING max(recovered_at) IS NULL)"
    )


def gap_reasons(stage: Stage) -> list[str]:
    return [str(reason) for (reason,) in stage.clickhouse.rows("SELECT DISTINCT reason FROM dyncdc_gaps")]


def test_a_column_whose_comment_is_gone_is_filled_as_before_and_both_comments_survive(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = "city of the customer"
    table = loaded(stage)
    ours = comment(stage, "address_city")
    stage.clickhouse.run(f"ALTER TABLE orders COMMENT COLUMN address_city '{theirs}'")
    put(stage, table, *(item(number, "Ulm") for number in range(2, 12)))
    capfd.readouterr()
    stage.once()
    assert said(capfd).count("comment restored") == 1
    assert stage.clickhouse.number("SELECT count() FROM orders_current WHERE address_city = 'Ulm'") == 10
    assert verified(stage, table)
    assert comment(stage, "address_city") == f"{theirs}\n{ours}"
    stage.once()
    assert "comment restored" not in said(capfd), "it is said once"


def test_verify_reads_the_mapping_that_the_rows_were_made_by_and_not_the_comments(stage: Stage) -> None:
    table = loaded(stage)
    stage.clickhouse.run("ALTER TABLE orders COMMENT COLUMN address_city 'a note'")
    assert verified(stage, table)
    stage.clickhouse.run("INSERT INTO orders SELECT * REPLACE (NULL AS address_city) FROM orders FINAL")
    assert not verified(stage, table), "the rows have no city any more"


async def test_comments_edited_under_the_daemon_change_nothing_when_columns_come(stage: Stage) -> None:
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[item(0)], snapshot=SCAN)
    async with stage.living():
        await until(lambda: stage.count() == 1)
        stage.clickhouse.run("ALTER TABLE orders COMMENT COLUMN address_city 'a note'")
        put(stage, table, item(1, "Ulm", plan="gold"))
        columns = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'orders_current'"
        await until(lambda: ["plan"] in stage.clickhouse.rows(columns), what="the column is there")
        put(stage, table, item(2, "Aue", plan="tin"))
        await until(lambda: stage.count() == 3)
        found = stage.rows(columns="id, address_city, plan")
        assert found == [["k0", "Bonn", None], ["k1", "Ulm", "gold"], ["k2", "Aue", "tin"]]
        assert [name for (name,) in stage.clickhouse.rows(columns) if "city" in str(name)] == ["address_city"]
        assert comment(stage, "address_city").startswith("a note\ndyncdc {")


def test_a_deployment_of_comments_alone_keeps_its_mapping_from_the_first_start_on(stage: Stage) -> None:
    table = loaded(stage)
    stage.clickhouse.run("DROP TABLE dyncdc_mappings SYNC")
    stage.clickhouse.run("DROP TABLE dyncdc_settings SYNC")
    stage.once()
    assert gap_reasons(stage) == []
    stage.clickhouse.run("ALTER TABLE orders COMMENT COLUMN address_city ''")
    put(stage, table, item(5, "Ulm"))
    stage.once()
    assert verified(stage, table)
    assert stage.rows(columns="id, address_city")[-1] == ["k5", "Ulm"]


def test_a_default_over_the_spill_that_someone_removed_is_restored(stage: Stage) -> None:
    table = loaded(stage)
    put(stage, table, item(5, plan="gold"))
    stage.once()
    shown = "SELECT id FROM orders_current WHERE plan = 'gold'"
    assert stage.clickhouse.rows(shown) == [["k5"]]
    stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN plan REMOVE DEFAULT")
    assert stage.clickhouse.rows(shown) == []
    stage.once()
    assert stage.clickhouse.rows(shown) == [["k5"]]


@pytest.mark.parametrize(
    ("other", "back"),
    [
        ({"clickhouse": "other"}, {"clickhouse": "orders"}),
        (
            {"deletes": "ignore", "exclude": ["address"], "mask": ["text"], "mask_key_env": "MASK_KEY"},
            {"deletes": None, "exclude": None, "mask": None, "mask_key_env": None},
        ),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_that_was_changed_and_taken_back_leaves_no_row_wrong(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], back: dict[str, Any]
) -> None:
    monkeypatch.setenv("MASK_KEY", "0123456789abcdef" * 2)
    table = loaded(stage, 4)
    for changes in (other, back):
        change_entry(stage, changes)
        put(stage, table, item(0, "Ulm", text="x" if changes is other else "y"), item(7 if changes is other else 8))
        delete(stage, table, 1 if changes is other else 2)
        stage.once()
    assert gap_reasons(stage) != []
    assert open_gaps(stage) == 0
    assert verified(stage, table)
    before = stage.clickhouse.number("SELECT uniqExact(id) FROM dyncdc_snapshots")
    stage.once()
    assert stage.clickhouse.number("SELECT uniqExact(id) FROM dyncdc_snapshots") == before, "once is enough"


def test_settings_that_another_process_noted_while_this_one_began_are_not_those_of_its_rows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: of two that start together one notes last, and the other wins the session."""
    table = loaded(stage)
    take = SessionClaim.take

    async def begin_after_the_other(claim: SessionClaim, epoch: int) -> int:
        stage.clickhouse.run(NOTE_FIRST_AGAIN.format(number=epoch - 1))
        return await take(claim, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(SessionClaim, "take", begin_after_the_other)
        change_entry(stage, {"exclude": ["address"]})
        put(stage, table, item(1), item(2))
        stage.once()
    change_entry(stage, {"exclude": None})
    stage.once()
    assert verified(stage, table)


def test_settings_that_a_clock_ahead_has_dated_leave_a_gap_that_can_be_closed_now(stage: Stage) -> None:
    """Catches: a gap of the future, open and red until ClickHouse's clock was right."""
    table = loaded(stage, deletes="ignore")
    stage.clickhouse.run(
        "INSERT INTO dyncdc_settings SELECT * REPLACE (number + 1 AS number, now64(6) + INTERVAL 1 HOUR AS recorded_at)"
        " FROM (SELECT * FROM dyncdc_settings ORDER BY number DESC LIMIT 1)"
    )
    delete(stage, table, 1)
    stage.once()
    change_entry(stage, {"deletes": None})
    stage.once()
    assert verified(stage, table)
    assert gap_reasons(stage) != [] and open_gaps(stage) == 0


def test_settings_that_a_process_notes_late_which_has_given_way_are_not_the_newest(stage: Stage) -> None:
    table = loaded(stage)
    change_entry(stage, {"exclude": ["address"]})
    put(stage, table, item(1), item(2))
    stage.once()
    stage.clickhouse.run(NOTE_FIRST_AGAIN.format(number="number + 1"))
    change_entry(stage, {"exclude": None})
    stage.once()
    assert verified(stage, table)


def test_a_list_of_columns_that_was_changed_and_taken_back_fills_the_columns_again(stage: Stage) -> None:
    full = [
        {"attribute": "address.city", "type": "Nullable(String)"},
        {"attribute": "text", "type": "Nullable(String)"},
    ]
    table = loaded(stage, columns=full, evolve="spill")
    change_entry(stage, {"columns": full[:1]})
    put(stage, table, item(1, text="x"))
    stage.once()
    assert verified(stage, table)
    change_entry(stage, {"columns": full})
    stage.once()
    assert verified(stage, table)
    assert stage.rows(columns="id, text")[1] == ["k1", "x"]


def test_a_table_that_cannot_be_loaded_again_goes_on_and_says_what_stays_wrong(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    table = loaded(stage, snapshot={"method": "none"}, count=0)
    put(stage, table, item(1))
    stage.once()
    change_entry(stage, {"exclude": ["address"]})
    capfd.readouterr()
    stage.once()
    told = said(capfd)
    assert "settings changed" in told
    assert "rows still hold address" in told
    assert 'snapshot.method is "none"' in told
    assert gap_reasons(stage) == []


async def test_a_spill_column_that_is_dropped_shows_in_log_health_and_metrics_until_it_is_back(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[item(0)], snapshot=SCAN, evolve="spill")
    async with stage.living():
        await until(lambda: stage.count() == 1)
        stage.clickhouse.run("ALTER TABLE orders DROP COLUMN _spill")
        put(stage, table, item(1, memo="x"))
        await until(lambda: stage.count() == 2)
        status, text = await stage.page("/healthz")
        assert status == 503
        assert "has lost its spill column _spill" in text
        assert "spill column missing" in said(capfd)
        stage.clickhouse.run("ALTER TABLE orders ADD COLUMN _spill String")
        put(stage, table, item(2, memo="y"))
        await until(lambda: stage.clickhouse.number("SELECT count() FROM orders FINAL WHERE _spill != ''") == 2)
        status, text = await stage.page("/healthz")
        assert status == 200, text


def test_a_column_that_was_narrowed_between_two_starts_is_loaded_again(stage: Stage) -> None:
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[{"id": {"S": "a"}, "size": {"N": "300"}}], snapshot=SCAN)
    stage.once()
    stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN size Nullable(Int8)")
    assert stage.clickhouse.rows("SELECT size FROM orders") == [[44]], "ALTER wraps"
    stage.once()
    assert stage.rows(columns="id, size") == [["a", None]]
    assert verified(stage, table)


def test_someone_elses_default_applies_where_an_item_has_no_value(stage: Stage) -> None:
    table = loaded(stage)
    stage.clickhouse.run(
        "ALTER TABLE orders ADD COLUMN loaded_at DateTime DEFAULT now(), ADD COLUMN state Enum8('new' = 1, 'old' = 2)"
        " DEFAULT 'old', ADD COLUMN level Int64 DEFAULT 5, ADD COLUMN tier Nullable(String) DEFAULT concat('t', id)"
    )
    put(stage, table, item(1), item(2) | {"level": {"N": "7"}}, item(3, state="new", tier="gold"))
    stage.once()
    found = stage.rows(columns="id, loaded_at > '2020-01-01 00:00:00' AS fresh, state, level, tier")
    assert found == [
        ["k0", 1, "old", "5", "tk0"],
        ["k1", 1, "old", "5", "tk1"],
        ["k2", 1, "old", "7", "tk2"],
        ["k3", 1, "new", "5", "gold"],
    ]
    assert verified(stage, table)
    delete(stage, table, 1)
    stage.once()
    assert verified(stage, table)


def test_a_table_of_someone_elses_takes_places_in_maps_by_their_names_and_gets_no_column_for_them(
    stage: Stage,
) -> None:
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[item(0)], snapshot=SCAN)
    stage.clickhouse.run(
        "CREATE TABLE orders (id String, `address.city` Nullable(String), price Decimal(10, 2) DEFAULT 1,"
        " _spill String, _version Int64, _deleted UInt8)"
        " ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id"
    )
    stage.once()
    put(stage, table, item(1, "Ulm"))
    stage.once()
    assert stage.rows(columns="*") == [["k0", "Bonn", "1"], ["k1", "Ulm", "1"]]
    assert verified(stage, table)


def test_check_says_what_is_changed_and_what_stays_wrong(stage: Stage) -> None:
    table = loaded(stage, history="orders_history")

    def checked() -> str:
        async def look() -> str:
            config = load_config(stage.configure())
            with limited(config, "check") as startup_retry:
                checker = Checker(config, startup_retry)
                await checker.run()
                return "\n".join(finding.line() for finding in checker.findings)

        return asyncio.run(look())

    found = checked()
    assert not any(f"table {table} {setting}:" in found for setting in ("exclude", "history", "columns")), found
    assert "spill column" not in found
    change_entry(stage, {"exclude": ["address"], "history": None})
    assert (
        f"table {table} exclude: rows still hold address as DynamoDB does; the next start loads it again" in checked()
    )
    stage.once()
    assert "exclude" not in checked()
    change_entry(stage, {"exclude": None, "history": "orders_history"})
    stage.once()
    found = checked()
    assert f"table {table} history: the history orders_history has no changes of the time without it" in found
    stage.clickhouse.run("ALTER TABLE orders DROP COLUMN _spill")
    assert "its spill column _spill is gone" in checked()


@pytest.mark.parametrize(
    ("before", "now", "number"), [("Nullable(Float32)", "Nullable(Float64)", "0.1"), ("Int64", "Nullable(Int64)", "7")]
)
def test_a_column_of_a_wider_type_that_shows_other_values_is_loaded_again(
    stage: Stage, before: str, now: str, number: str
) -> None:
    listed = {"attribute": "size", "type": before}
    table = loaded(stage, columns=[listed], evolve="spill")
    put(stage, table, item(0) | {"size": {"N": number}})
    stage.once()
    assert verified(stage, table)
    stage.clickhouse.run(f"ALTER TABLE orders MODIFY COLUMN size {now}")
    change_entry(stage, {"columns": [listed | {"type": now}]})
    stage.once()
    assert verified(stage, table)


async def test_a_column_that_is_narrowed_while_others_come_is_loaded_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.options = {"kinesis": {"stream": stage.stream()}}
    table = stage.table(items=[item(0) | {"size": {"N": "300"}}], snapshot=SCAN)
    add = LiveSchema.add

    async def narrow_first(columns: LiveSchema, name: str, new: Sequence[ColumnSpec]) -> None:
        stage.clickhouse.run("ALTER TABLE orders MODIFY COLUMN size Nullable(Int8)")
        await add(columns, name, new)

    async with stage.living():
        await until(lambda: stage.count() == 1)
        monkeypatch.setattr(LiveSchema, "add", narrow_first)
        put(stage, table, item(1, plan="gold"))
        await until(lambda: stage.rows(columns="size")[:1] == [[None]], what="the table is reloaded")
    assert len(gap_reasons(stage)) == 1


def test_a_column_that_someone_adds_to_a_table_that_lists_its_columns_costs_no_snapshot(stage: Stage) -> None:
    table = loaded(stage, columns=[{"attribute": "address.city", "type": "Nullable(String)"}])
    put(stage, table, item(2, plan="gold"))
    stage.clickhouse.run("ALTER TABLE orders ADD COLUMN text Nullable(String), ADD COLUMN note Nullable(String)")
    put(stage, table, item(3, text="x"))
    stage.once()
    put(stage, table, item(4, text="y"))
    stage.once()
    assert gap_reasons(stage) == []
    assert stage.clickhouse.number("SELECT uniqExact(id) FROM dyncdc_snapshots") == 1
    assert [row for row in stage.rows(columns="id, text, note") if row[1]] == [["k3", "x", None], ["k4", "y", None]]
    assert verified(stage, table)


def test_a_setting_that_several_members_find_changed_is_one_gap(stage: Stage) -> None:
    async def live() -> None:
        async with asyncio.timeout(LIFE_SECONDS):
            configs = [load_config(stage.configure(f"member{number}")) for number in range(2)]
            sessions = [
                run_daemon(one, RunOptions(once=True, assignment=Assignment(n, 2))) for n, one in enumerate(configs)
            ]
            assert await asyncio.gather(*sessions) == [0, 0]

    stage.options = {"kinesis": {"stream": stage.stream(2)}}
    table = stage.table(items=[item(number) for number in range(4)], snapshot=SCAN)
    asyncio.run(live())
    change_entry(stage, {"exclude": ["text"]})
    put(stage, table, item(1, text="x"))
    asyncio.run(live())
    assert stage.clickhouse.number("SELECT uniqExact(`from`) FROM dyncdc_gaps") == 1
    assert open_gaps(stage) == 0
    assert verified(stage, table)

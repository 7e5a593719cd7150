"""Statements of ours to a ClickHouse whose user has an odd profile: the answers are those that they are without one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from matrix.engines import ENGINES, present
from matrix.server import MatrixServer

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import FatalError, RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.gaps import Gap
from dyncdc.model.members import Member
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.schema.sql.ddl import create_table
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.asynch_connection import ProtocolConnection, Statement
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import SettingRefusedError
from dyncdc.sinks.client.query_settings import ALWAYS, LIMITS, READING
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.rows import append_rows
from dyncdc.sinks.state.tables import DEAD_LETTERS, own_statements
from dyncdc.sinks.tables.tombstones import CleanedTable, ClickHouseTombstones

ODD = {
    "extremes": 1,
    "limit": 1,
    "offset": 1,
    "page": 2,
    "format": "CSV",
    "select": "1",
    "sort": "1",
    "order": "1",
    "filter": "0",
    "input_format": "CSV",
    "implicit_table_at_top_level": "numbers",
    "input_format_column_name_matching_mode": "ignore_case",
    "input_format_json_try_infer_numbers_from_strings": 1,
    "input_format_max_block_wait_ms": 1,
    "ignore_cold_parts_seconds": 1000,
    "fsync_metadata": 0,
    "apply_patch_parts": 0,
    "use_skip_indexes": 1,
    "join_default_strictness": "ANY",
    "lightweight_delete_mode": "lightweight_update_force",
    "deduplicate_insert_select": "force_enable",
    "enforce_strict_identifier_format": 1,
    "insert_deduplication_token": "t",
    "wait_for_async_insert": 0,
    "async_insert_max_data_size": 1_000_000,
    "additional_result_filter": "0",
    "final": 1,
    "dialect": "prql",
    "discard_query_data": 1,
    "run_query_in_background": 1,
    "apply_deleted_mask": 0,
    "do_not_merge_across_partitions_select_final": 1,
    "optimize_move_to_prewhere_if_final": 1,
    "optimize_trivial_approximate_count_query": 1,
    "use_query_cache": 1,
    "enable_parallel_replicas": 1,
    "skip_unavailable_shards": 1,
    "asterisk_include_alias_columns": 1,
    "asterisk_include_materialized_columns": 1,
    "asterisk_include_virtual_columns": 1,
    "force_optimize_projection": 1,
    "force_optimize_projection_name": "p",
    "insert_deduplicate": 0,
    "deduplicate_insert": "disable",
    "input_format_force_null_for_omitted_fields": 1,
    "input_format_json_map_as_array_of_tuples": 1,
    "aggregate_functions_null_for_empty": 1,
    "empty_result_for_aggregation_by_empty_set": 1,
    "group_by_use_nulls": 1,
    "join_use_nulls": 1,
    "transform_null_in": 1,
    "cast_keep_nullable": 1,
    "data_type_default_nullable": 1,
    "prefer_column_name_to_alias": 1,
    "enable_positional_arguments": 0,
    "force_primary_key": 1,
    "force_index_by_date": 1,
    "enable_lightweight_delete": 0,
    "implicit_transaction": 1,
    "lightweight_deletes_sync": 0,
    "mutations_sync": 0,
    "session_timezone": "Asia/Tokyo",
    "show_create_query_identifier_quoting_rule": "always",
    "show_create_query_identifier_quoting_style": "DoubleQuotes",
    "show_table_uuid_in_table_create_query_if_not_nil": 1,
    "type_json_skip_duplicated_paths": 1,
    "type_json_skip_invalid_typed_paths": 1,
    "bool_true_representation": "yes",
    "bool_false_representation": "no",
    "output_format_json_quote_64bit_integers": 1,
    "output_format_json_quote_64bit_floats": 1,
    "output_format_json_quote_decimals": 1,
    "output_format_json_map_as_array_of_tuples": 1,
    "output_format_json_named_tuples_as_objects": 0,
    "async_insert": 1,
    "send_logs_level": "trace",
    "output_format_native_encode_types_in_binary_format": 1,
    "input_format_allow_errors_num": 1000,
    "input_format_allow_errors_ratio": 1,
    "input_format_null_as_default": 0,
    "input_format_defaults_for_omitted_fields": 0,
    "max_query_size": 1000,
    "max_partitions_to_read": 0,
    **{name: "break" for name in READING if name.endswith("overflow_mode") or name.endswith("mode_leaf")},
    "group_by_overflow_mode": "any",
    **{name: 1 for name in LIMITS if name not in ("max_query_size", "max_partitions_to_read")},
}
"""Each of ours, set otherwise."""

USERS = ("odd", "bound", "held", "reader", "replicas")

SOURCE = SourceId("stream@1")
SPEC = TableSpec(
    "src",
    "orders",
    (KeyAttribute("pk", "S"),),
    (ColumnSpec("pk", "String", ("pk",), ("S",), key=True), ColumnSpec("v", "Nullable(String)", ("v",), ("S",))),
)


class OddServer(LocalClickHouse):
    """A server with users whose profiles are not as usual."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, users=dict.fromkeys(USERS, "secret"))
        self.known: frozenset[str] = frozenset(ODD)
        """Settings that this server has: one that it lacks in a profile would keep it from starting."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        path = self.directory / "users.xml"
        odd = "".join(f"<{name}>{value}</{name}>" for name, value in ODD.items() if name in self.known)
        bound = (
            "<constraints><max_query_size><max>1000000</max></max_query_size>"
            "<max_result_rows><readonly/></max_result_rows></constraints><max_result_rows>1000</max_result_rows>"
        )
        held = "<extremes>1</extremes><constraints><extremes><readonly/></extremes></constraints>"
        reader = "<readonly>1</readonly>"
        replicas = (
            "<insert_quorum>2</insert_quorum><constraints><insert_quorum><readonly/></insert_quorum></constraints>"
        )
        texts = dict(zip(USERS, (odd, bound, held, reader, replicas), strict=True))
        profiles = "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())
        text = path.read_text().replace("</profiles>", f"{profiles}</profiles>")
        for name in USERS:
            text = re.sub(rf"(<{name}><password_sha256_hex>.*?<profile>)default", rf"\g<1>{name}", text, count=1)
        path.write_text(text)


async def settings_of(server: LocalClickHouse) -> frozenset[str]:
    """Names of the settings that a server has."""
    client = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
    rows = await client.fetch("SELECT name FROM system.settings")
    await client.close()
    return frozenset(name for (name,) in rows)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clickhouse_server: LocalClickHouse) -> Iterator[OddServer]:
    found = OddServer(tmp_path_factory.mktemp("odd"))
    found.known = asyncio.run(settings_of(clickhouse_server))
    asyncio.run(found.start())
    yield found
    asyncio.run(found.stop())


@asynccontextmanager
async def user(server: OddServer, name: str, database: str) -> AsyncIterator[ClickHouse]:
    """Connections of a user to a database that was empty."""
    admin = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
    await admin.execute(f"CREATE DATABASE {database}")
    client = ClickHouse(
        replace(admin.url, user=name, password="" if name == "default" else "secret", database=database),
        timeout_seconds=10,
    )
    try:
        yield client
    finally:
        await client.close()
        await admin.execute(f"DROP DATABASE {database}")
        await admin.close()


async def all_that_is_kept(clickhouse: ClickHouse) -> list[object]:
    """Write and read every kind of row of ours; return what was read."""
    for statement in (*own_statements(), create_table(SPEC)):
        await clickhouse.execute(statement)
    checkpoints = ClickHouseCheckpoints(clickhouse, "p")
    found: list[object] = [(await checkpoints.proof([(SOURCE, ShardId("none"))], None)).newest_epoch]
    for ordinal in (1, 2):
        await checkpoints.save(
            [
                Checkpoint(SOURCE, ShardId(f"shard-{n}"), Mark(Position(str(900 - 400 * n + ordinal)), n), 7, ordinal)
                for n in range(3)
            ]
        )
    found.append(sorted(str(replace(row, saved_at=0.0)) for row in await checkpoints.load()))
    last = Checkpoint(SOURCE, ShardId("shard-2"), Mark(Position("102"), 2), 7, 2)
    proof = await checkpoints.proof([(SOURCE, ShardId("shard-1")), (SOURCE, ShardId("shard-2"))], last)
    found.append((proof.newest_epoch, proof.held))
    snapshots = ClickHouseSnapshots(clickhouse, "p")
    for id_ in ("a", "b"):
        await snapshots.save(Snapshot(id_, f"src-{id_}", "loading", "uuid", epoch=7))
    found.append(await snapshots.load())
    members = ClickHouseMembers(clickhouse, "p")
    for number in range(2):
        await members.save_member(Member(number, 2, 7 + number, tables=("src",)))
    found.append([(one.member, one.epoch, one.tables) for one in await members.members()])
    await append_rows(
        clickhouse,
        DEAD_LETTERS,
        [{"id": str(n), "pipeline": "p", "table": "src", "raw": "YQ=="} for n in range(4)],
        "writing dead letters",
    )
    dead_letters = ClickHouseDeadLetters(clickhouse, "p")
    await dead_letters.close(["1"])
    found.append((await dead_letters.count_open(), [dead_letter.id for dead_letter in await dead_letters.find()]))
    recovery = ClickHouseRecovery(clickhouse, "p")
    await recovery.save_gaps([Gap("src", "s", "shard-0", 1.0, 2.0), Gap("src", "s", "shard-1", 1.0, 2.0)])
    found.append([gap.shard for gap in await recovery.open_gaps()])
    found.append(await rows_of_a_table(clickhouse))
    return found


async def rows_of_a_table(clickhouse: ClickHouse) -> list[object]:
    """Rows with a null where none can be, a tombstone, and what cleaning leaves of them."""
    columns = ("pk", "v", "_spill", "_version", "_deleted")
    names = ", ".join(columns)
    body = b'[["a","b","c"],["x",null,"z"],["",null,""],[1,2,3],[0,1,0]]'
    statement = Statement.of(f"INSERT INTO orders ({names}) FORMAT JSONCompactColumns ", (body,))
    await clickhouse.execute(statement, settings={"insert_deduplication_token": "1"})
    query = f"SELECT {names} FROM orders ORDER BY pk"
    found: list[object] = [await clickhouse.fetch(query)]
    tombstones = ClickHouseTombstones(clickhouse, "p", {"src": CleanedTable(SPEC, "uuid")})
    await tombstones.promise("src", 10)
    found.append((await tombstones.cleaned_before("src"), await tombstones.clean("src", 10)))
    found.append(await clickhouse.fetch(query))
    return found


async def test_no_setting_of_a_profile_changes_what_is_read_or_written(server: OddServer) -> None:
    assert ODD.keys() >= (ALWAYS.keys() | READING.keys() | LIMITS.keys()) - {
        "network_compression_method",  # what else it could be is for other servers
        "additional_table_filters",
    }
    async with user(server, "default", "usual") as clickhouse:
        right = await all_that_is_kept(clickhouse)
    async with user(server, "odd", "odd") as clickhouse:
        assert await all_that_is_kept(clickhouse) == right


async def test_totals_and_extremes_are_no_rows_of_an_answer(clickhouse: ClickHouse) -> None:
    query = "SELECT number % 3 AS k, count() FROM numbers(9) GROUP BY k WITH TOTALS ORDER BY k"
    rows = [(0, 3), (1, 3), (2, 3)]
    for settings in ({}, {"extremes": 1}):
        assert await clickhouse.fetch(query, settings=settings) == rows
    assert await clickhouse.fetch("SELECT 5", settings={"extremes": 1}) == [(5,)]


async def test_a_limit_that_the_user_may_not_lift_is_left_as_it_is(server: OddServer) -> None:
    async with user(server, "bound", "bound") as clickhouse:
        several = (clickhouse.fetch("SELECT count() FROM numbers(10)") for _ in range(8))
        assert await asyncio.gather(*several) == [[(10,)]] * 8
        with pytest.raises(SettingRefusedError, match="of max_query_size"):
            await clickhouse.fetch("SELECT 1", settings={"max_query_size": 2_000_000})
        with pytest.raises(RetryableError, match="396 TOO_MANY_ROWS_OR_BYTES"):
            await clickhouse.fetch("SELECT number FROM numbers(2000)")


async def test_no_index_can_be_forced_and_none_hides_the_row_that_wins(clickhouse: ClickHouse) -> None:
    index = "INDEX i deleted TYPE minmax GRANULARITY 1"
    await clickhouse.execute(
        f"CREATE TABLE t (pk String, deleted UInt8, v UInt64, {index}) ENGINE = ReplacingMergeTree(v) ORDER BY pk"
    )
    one = ClickHouse(clickhouse.url, connections=1)
    await one.execute("SET use_skip_indexes_if_final_exact_mode = 0, use_skip_indexes_if_final = 1")
    await one.execute("SET force_data_skipping_indices = 'another'")
    for row in ("('a', 0, 1)", "('a', 1, 2)"):
        await one.execute(f"INSERT INTO t VALUES {row}")
    assert await one.fetch("SELECT pk FROM t FINAL WHERE deleted = 0") == []
    await one.close()


async def test_an_insert_is_there_when_it_is_acknowledged_whatever_the_table_says(tmp_path: Path) -> None:
    """Before 26 ``async_insert`` of a table, or of the server's ``merge_tree``, outranks that of the statement."""
    engine = ENGINES["25.8"]
    if not present(engine):
        pytest.skip(f"no ClickHouse {engine.name} ({engine.wheel})")
    late = dict.fromkeys(("busy_timeout_ms", "busy_timeout_min_ms", "busy_timeout_max_ms"), 20_000)
    profile = ", ".join(f"async_insert_{name} = {value}" for name, value in late.items())
    async with MatrixServer(engine, tmp_path) as server:
        one = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database), connections=1)
        await one.execute("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a SETTINGS async_insert = 1")
        await one.execute(f"SET wait_for_async_insert = 0, {profile}")
        await one.execute(Statement.of("INSERT INTO t (a) FORMAT JSONCompactColumns ", (b'[["a"]]',)))
        assert await one.fetch("SELECT a FROM t") == [("a",)]
        await one.close()


async def test_a_setting_that_may_not_be_ours_is_named(server: OddServer) -> None:
    async with user(server, "held", "held") as clickhouse:
        with pytest.raises(SettingRefusedError, match="452 SETTING_CONSTRAINT_VIOLATION of extremes") as caught:
            await clickhouse.fetch("SELECT 1")
    assert "extremes" in caught.value.hint


async def test_a_user_who_may_change_no_setting_is_told_which_one_and_why(server: OddServer) -> None:
    async with user(server, "reader", "reader") as clickhouse:
        for _ in range(3):  # whatever was said before on the connection
            with pytest.raises(SettingRefusedError, match=r"164 READONLY of [a-z_]+") as caught:
                await clickhouse.fetch("SELECT 1")
    assert "readonly = 1" in caught.value.hint


async def test_a_quorum_that_may_not_be_ours_stands_in_the_way_of_inserts_alone(server: OddServer) -> None:
    async with user(server, "replicas", "replicas") as clickhouse:
        await clickhouse.execute("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a")
        assert await clickhouse.fetch("SELECT count() FROM t") == [(0,)]
        with pytest.raises(SettingRefusedError, match="of insert_quorum"):
            await clickhouse.execute("INSERT INTO t (a) VALUES ('x')")


async def test_a_setting_of_a_statement_that_the_server_lacks_is_named(clickhouse: ClickHouse) -> None:
    with pytest.raises(FatalError, match="115 UNKNOWN_SETTING a_setting_of_another_version"):
        await clickhouse.fetch("SELECT 1 SETTINGS a_setting_of_another_version = 1")


async def test_a_setting_that_a_server_does_not_know_is_passed_by(clickhouse: ClickHouse) -> None:
    assert await clickhouse.fetch("SELECT 1", settings={"a_setting_of_another_version": 1}) == [(1,)]


async def test_an_insert_of_rows_leaves_the_users_views_as_they_are(clickhouse: ClickHouse) -> None:
    """``join_use_nulls`` and the like are theirs: a materialized view sees the settings of the insert."""
    await clickhouse.execute(create_table(SPEC))
    await clickhouse.execute("CREATE TABLE seen (nulls UInt8) ENGINE = MergeTree ORDER BY tuple()")
    await clickhouse.execute(
        "CREATE MATERIALIZED VIEW v TO seen AS SELECT toUInt8(getSetting('join_use_nulls')) AS nulls FROM orders"
    )
    one = ClickHouse(clickhouse.url, connections=1)
    await one.execute("SET join_use_nulls = 1")
    await one.execute(
        Statement.of("INSERT INTO orders (pk) FORMAT JSONCompactColumns ", (b'[["a"]]',)),
        settings={"insert_deduplication_token": "1"},
    )
    await one.close()
    assert await clickhouse.fetch("SELECT nulls FROM seen") == [(1,)]


async def test_totals_taken_as_rows_are_noticed(clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the rule: the driver as it is."""
    monkeypatch.delattr(ProtocolConnection, "receive_packet")
    query = "SELECT number FROM numbers(3)"
    assert await clickhouse.fetch(query, settings={"extremes": 1}) != [(0,), (1,), (2,)]


async def test_a_limit_of_temporary_columns_stops_no_rows_of_a_table_whose_columns_read_the_spill(
    server: OddServer,
) -> None:
    async with user(server, "odd", "grown") as clickhouse:
        number = "toDecimal128OrNull(x, 0)"
        default = (
            f"arrayMap(x -> assumeNotNull(if(match(x, '[0-9]'), {number}, NULL)),"
            " JSONExtract(_spill, 'c', 'NS', 'Array(String)'))"
        )
        grown = f"c Array(Decimal(38, 0)) DEFAULT {default}"
        await clickhouse.execute(
            f"CREATE TABLE t (pk String, _spill String, {grown}) ENGINE = MergeTree ORDER BY pk", doing="making t"
        )
        await clickhouse.execute(
            Statement.of("INSERT INTO t (pk, _spill) FORMAT JSONCompactColumns ", (b'[["a"],["{}"]]',))
        )
        assert await clickhouse.fetch("SELECT count() FROM t") == [(1,)]

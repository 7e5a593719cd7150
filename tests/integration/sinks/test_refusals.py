"""What a real ClickHouse refuses for reasons that are no table of codes: rows, views, partitions, missing targets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson
import pytest
from asynch.errors import ServerException
from support.pipeline.pipeline_parts import WIDE, DeadLettersInMemory, instruments_of, ledger_of, mark
from support.pipeline.running_writer import running

from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import RefusedError, RetryableError, TooLargeError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.writing import isolation, statements
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter
from dyncdc.pipeline.writing.rejected_rows import RejectedRow
from dyncdc.pipeline.writing.rejections import DeadLetterHandling
from dyncdc.pipeline.writing.writer import Writer
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError, translate
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.tables.introspection import read_table
from dyncdc.sinks.tables.schema_check import SchemaCheck
from dyncdc.telemetry.task_health import TaskHealth

TABLE = (
    "CREATE TABLE {} (pk String, v Int64, {}_version Int64, _deleted UInt8)"
    " ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY pk SETTINGS non_replicated_deduplication_window = 1000"
)


class NamedDeadLetters(DeadLettersInMemory):
    """Keeps what is said of each row; the dead letter itself goes to a table of one column."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[object, str]] = []

    def __call__(self, row: RejectedRow, record: bytes | None) -> Block:
        self.said.append((orjson.loads(row.block.cells[1]), str(row.error)))
        return Block("dead", ("pk",), [row.block.cells[0]], 1)


class Bench:
    """A writer over the sink as the daemon makes it."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clickhouse = clickhouse
        self.watch = SchemaCheck(clickhouse, lambda _: None)
        self.dead_letters = NamedDeadLetters()
        self.health = TaskHealth(stuck_after_seconds=0.5)
        self.sink = ClickHouseSink(clickhouse, self.watch)
        self.writer = Writer(
            self.sink,
            ByteBudget(10**8),
            replace(WIDE, max_age_seconds=0.05),
            instruments_of(health=self.health),
            token_prefix="p/0/1",
            dead_letters=DeadLetterHandling(self.dead_letters, DeadLetterLimiter()),
        )
        self.ledger = ledger_of()
        self.chunks = 0

    async def make(self, *tables: str, column: str = "") -> None:
        await self.clickhouse.execute("CREATE TABLE dead (pk String) ENGINE = MergeTree ORDER BY pk")
        for table in tables:
            await self.clickhouse.execute(TABLE.format(table, column))
            found = await read_table(self.clickhouse, table)
            assert found is not None
            types = {column.name: column.type for column in found.columns if not column.computed}
            self.watch.expect(table, found.uuid, types)

    def put(self, *numbers: int, table: str = "t") -> None:
        self.chunks += 1
        self.writer.put(block(table, *numbers), self.ledger.track(mark(self.chunks), 1, lambda: None))

    async def until_durable(self, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while self.ledger.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert self.ledger.frontier == mark(self.chunks)

    async def rows(self, columns: str = "pk", table: str = "t") -> Sequence[object]:
        found = await self.clickhouse.fetch(f"SELECT {columns} FROM {table} FINAL ORDER BY ALL")
        return [row[0] if len(row) == 1 else row for row in found]


def block(table: str, *numbers: int) -> Block:
    cells = [
        b",".join(b'"%d"' % number for number in numbers),
        b",".join(b"%d" % number for number in numbers),
        b",".join(b'"1"' for _ in numbers),
        b",".join(b"0" for _ in numbers),
    ]
    keys = [b"%d" % number for number in numbers]
    return Block(table, ("pk", "v", "_version", "_deleted"), cells, len(numbers), keys, [1] * len(numbers))


@pytest.fixture
def bench(clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Divides, and compares, sooner than usual."""
    monkeypatch.setattr(statements, "DIVIDE_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(statements, "DIVIDE_AGAIN_SECONDS", 0.5)
    monkeypatch.setattr(isolation, "ROUND_SECONDS", 0.02)
    return Bench(clickhouse)


@pytest.mark.parametrize(
    ("expression", "bad", "code"),
    [
        ("modulo(100, v)", 0, "153 "),
        ("factorial(v)", 30, "36 "),
        ("throwIf(v = 7)", 7, "395 "),
        ("toDateTime(if(v = 5, '', '2024-01-01 00:00:00'))", 5, ""),
    ],
)
async def test_a_row_that_an_expression_of_the_table_chokes_on_is_a_letter_and_the_others_arrive(
    bench: Bench, expression: str, bad: int, code: str
) -> None:
    await bench.make("t", column=f"m String MATERIALIZED toString({expression}), ")
    async with running(bench):
        bench.put(1, 2, bad, 3)
        await bench.until_durable()
    assert await bench.rows() == ["1", "2", "3"]
    ((value, said),) = bench.dead_letters.said
    assert value == bad and f"ClickHouse answered {code}" in said


async def test_a_row_that_a_constraint_cannot_be_computed_for_is_a_letter(bench: Bench) -> None:
    await bench.make("t", column="CONSTRAINT whole CHECK intDiv(100, v) < 200, ")
    async with running(bench):
        bench.put(1, 2, 0, 3)
        await bench.until_durable()
    assert await bench.rows() == ["1", "2", "3"] and [value for value, _ in bench.dead_letters.said] == [0]


@pytest.mark.parametrize("expression", ["intDiv(100, v)", "toInt32(if(v = 0, 'x', '1'))"], ids=["odd code", "row code"])
async def test_a_row_that_a_view_chokes_on_is_in_the_table_and_the_letter_names_the_view(
    bench: Bench, expression: str
) -> None:
    await bench.make("t")
    await bench.clickhouse.execute("CREATE TABLE agg (pk String, m Int64) ENGINE = ReplacingMergeTree ORDER BY pk")
    await bench.clickhouse.execute(f"CREATE MATERIALIZED VIEW mv TO agg AS SELECT pk, {expression} AS m FROM t")
    async with running(bench):
        bench.put(1, 2, 0, 3)
        await bench.until_durable()
    assert await bench.rows() == ["0", "1", "2", "3"]
    assert await bench.rows(table="agg") == ["1", "2", "3"]
    ((value, said),) = bench.dead_letters.said
    assert value == 0 and "while pushing to view" in said and ".mv (in a materialized view: the row is in" in said


@pytest.mark.parametrize("expression", ["intDiv(100, v - v)", "toInt32('x' || pk)"], ids=["odd code", "row code"])
async def test_a_view_that_chokes_on_every_row_holds_its_table_and_no_other_and_makes_no_letter(
    bench: Bench, expression: str
) -> None:
    await bench.make("t", "u")
    await bench.clickhouse.execute("CREATE TABLE agg (pk String, m Int64) ENGINE = ReplacingMergeTree ORDER BY pk")
    await bench.clickhouse.execute(f"CREATE MATERIALIZED VIEW mv TO agg AS SELECT pk, {expression} AS m FROM t")
    async with running(bench):
        bench.put(*range(1, 400))
        bench.put(1, 2, table="u")
        await asyncio.sleep(3.0)
        assert await bench.rows(table="u") == ["1", "2"]
        assert bench.ledger.in_flight == 2 and bench.dead_letters.said == []
        (stuck,) = bench.health.stuck()
        assert stuck.name == "insert:t" and "while pushing to view" in stuck.reason
        await bench.clickhouse.execute("ALTER TABLE mv MODIFY QUERY SELECT pk, v AS m FROM t")
        await bench.until_durable()
    assert len(await bench.rows()) == 399 and bench.dead_letters.said == []
    assert len(await bench.rows(table="agg")) == 399, "what waited has reached the view"


async def test_a_view_whose_target_is_gone_holds_its_table_with_the_missing_name_and_no_other(bench: Bench) -> None:
    await bench.make("t", "u")
    await bench.clickhouse.execute("CREATE TABLE agg (pk String) ENGINE = ReplacingMergeTree ORDER BY pk")
    await bench.clickhouse.execute("CREATE MATERIALIZED VIEW mv TO agg AS SELECT pk FROM t")
    await bench.clickhouse.execute("DROP TABLE agg SYNC")
    with pytest.raises(RetryableError, match=r"60 UNKNOWN_TABLE \w+\.agg$") as caught:
        await bench.sink.insert(block("t", 1), "a")
    assert "t itself is as it was" in caught.value.hint
    async with running(bench):
        bench.put(1, 2)
        bench.put(1, 2, table="u")
        await asyncio.sleep(1.5)
        assert await bench.rows(table="u") == ["1", "2"]
        (stuck,) = bench.health.stuck()
        assert stuck.name == "insert:t" and ".agg" in stuck.reason
        await bench.clickhouse.execute("CREATE TABLE agg (pk String) ENGINE = ReplacingMergeTree ORDER BY pk")
        await bench.until_durable()
    assert await bench.rows() == await bench.rows(table="agg") == ["1", "2"] and bench.dead_letters.said == []


async def test_a_view_of_a_history_whose_target_is_gone_holds_the_history_and_ends_nothing(bench: Bench) -> None:
    await bench.make("t")
    for table in ("history", "agg"):
        await bench.clickhouse.execute(TABLE.format(table, ""))
    await bench.clickhouse.execute("CREATE MATERIALIZED VIEW mv TO agg AS SELECT pk FROM history")
    await bench.clickhouse.execute("DROP TABLE agg SYNC")
    with pytest.raises(RetryableError, match=r"60 UNKNOWN_TABLE \w+\.agg$") as caught:
        await bench.sink.insert(block("history", 1), "a")
    assert "history itself is as it was" in caught.value.hint
    await bench.clickhouse.execute("DROP TABLE history SYNC")
    with pytest.raises(TableGoneError):
        await bench.sink.insert(block("history", 1), "b")


async def test_a_detached_table_holds_its_own_rows_until_it_is_attached_and_no_others(bench: Bench) -> None:
    """Catches: a detached table taken for one that has lost its columns, for which all tables start over."""
    await bench.make("t", "u")
    await bench.sink.insert(block("t", 1), "a")
    await bench.clickhouse.execute("DETACH TABLE t")
    with pytest.raises(RetryableError, match="ATTACH TABLE `t`"):
        await bench.sink.insert(block("t", 2), "b")
    async with running(bench):
        bench.put(2, 3)
        bench.put(1, 2, table="u")
        await asyncio.sleep(1.0)
        assert await bench.rows(table="u") == ["1", "2"] and bench.dead_letters.said == []
        (stuck,) = bench.health.stuck()
        assert stuck.name == "insert:t" and "ATTACH TABLE `t`" in stuck.reason
        await bench.clickhouse.execute("ATTACH TABLE t")
        await bench.until_durable()
    assert await bench.rows() == ["1", "2", "3"]


MONTHLY = "ENGINE = ReplacingMergeTree PARTITION BY v ORDER BY pk"


@pytest.mark.parametrize("place", ["table", "view"])
async def test_a_statement_of_more_partitions_than_the_server_allows_arrives(bench: Bench, place: str) -> None:
    if place == "table":
        await bench.clickhouse.execute(f"CREATE TABLE t (pk String, v Int64, _version Int64, _deleted UInt8) {MONTHLY}")
    else:
        await bench.make("t")
        await bench.clickhouse.execute(f"CREATE MATERIALIZED VIEW mv {MONTHLY} AS SELECT pk, v FROM t")
    await bench.sink.insert(block("t", *range(150)), "a")
    assert len(await bench.rows()) == 150


async def test_where_the_limit_of_partitions_is_not_ours_to_lift_the_statement_is_divided(
    clickhouse_server: LocalClickHouse, bench: Bench
) -> None:
    await bench.clickhouse.execute(f"CREATE TABLE t (pk String, v Int64, _version Int64, _deleted UInt8) {MONTHLY}")
    await bench.clickhouse.execute("CREATE TABLE dead (pk String) ENGINE = MergeTree ORDER BY pk")
    bench.sink._partitions = {}  # as after a refusal
    with pytest.raises(TooLargeError, match="252"):
        await bench.sink.insert(block("t", *range(150)), "a")
    async with running(bench):
        bench.put(*range(150))
        await bench.until_durable()
    assert len(await bench.rows()) == 150 and bench.dead_letters.said == []


class Answers:
    """Stands for a server: refuses by a code what ``refuse`` says, by the settings of a statement."""

    def __init__(self, code: int, refuse: str) -> None:
        self.code = code
        self.refuse = refuse
        self.sent: list[bool] = []

    async def execute(self, sql: str, *, settings: Mapping[str, object], **_: object) -> None:
        self.sent.append(self.refuse in settings)
        if self.sent[-1]:
            raise translate(ServerException("", self.code), "inserting")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("code", [164, 452, 472])
async def test_a_limit_that_the_user_may_not_lift_is_left_as_it_is(code: int) -> None:
    server = Answers(code, "max_partitions_per_insert_block")
    sink = ClickHouseSink(server)  # type: ignore[arg-type]
    for token in "ab":
        await sink.insert(block("t", 1), token)
    assert server.sent == [True, False, False]


@pytest.mark.parametrize("code", [48, 62, 344])
async def test_what_a_person_must_mend_of_one_table_is_waited_for(code: int) -> None:
    with pytest.raises(RefusedError, match=str(code)):
        await ClickHouseSink(Answers(code, "insert_deduplication_token")).insert(block("t", 1), "a")  # type: ignore[arg-type]

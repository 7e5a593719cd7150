"""The real Writer over a real ClickHouse: bad rows alone are left out, and every refusal holds the position."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import orjson
import pytest
from support.pipeline.pipeline_parts import SOURCE, WIDE, instruments_of, ledger_of, mark
from support.pipeline.running_writer import running

from dyncdc.app.assembly.rejected_rows import RejectedRowRecords
from dyncdc.decode.dead_letters.kept_rows import row_as_raw
from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE, DeadLetterRows, dead_letter_id
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, Shard
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimiter
from dyncdc.pipeline.writing.rejections import DeadLetterHandling
from dyncdc.pipeline.writing.writer import Writer
from dyncdc.schema.types.reject_reasons import REFUSED_BY_CLICKHOUSE
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.tables import own_statements
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

CHUNK_ROWS = 250
LETTERS = f'SELECT id, "table", reason, "column", source, shard, position, raw FROM {DEAD_LETTER_TABLE} FINAL'


class Records:
    """The stream, which still has every record."""

    async def reread(self, of: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        for position in positions:
            yield position, b"record " + position.encode()


class Bench:
    """A writer into a database with dyncdc's own tables."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clickhouse = clickhouse
        self.metrics = Metrics()
        self.health = TaskHealth(stuck_after_seconds=0.5)
        self.counted: list[tuple[str, str]] = []
        dead_letters = RejectedRowRecords("p", {"t": "dynamo.t"}, lambda table, why: self.counted.append((table, why)))
        self.writer = Writer(
            ClickHouseSink(clickhouse),
            ByteBudget(10**8),
            WIDE,
            instruments_of(self.metrics, self.health),
            token_prefix="p/0/1",
            dead_letters=DeadLetterHandling(dead_letters, DeadLetterLimiter()),
        )
        self.writer.sources[SOURCE] = Records()
        self.ledger = ledger_of()
        self.chunks = 0

    def put(self, *blocks: Block) -> None:
        """Hand over one chunk."""
        self.chunks += 1
        receipt = self.ledger.track(mark(self.chunks), len(blocks), lambda: None)
        for block in blocks:
            self.writer.put(block, receipt)

    async def until_durable(self, seconds: float = 15.0) -> None:
        """Wait until all that was handed over is."""
        async with asyncio.timeout(seconds):
            while self.ledger.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert self.ledger.frontier == mark(self.chunks)


def block(table: str, first: int, values: Sequence[object]) -> Block:
    """Rows (id, value) of records at the positions first, first + 1, ..."""
    numbers = range(first, first + len(values))
    return Block(
        table,
        ("id", "value"),
        [b",".join(b"%d" % number for number in numbers), b",".join(map(orjson.dumps, values))],
        len(values),
        [b"%d" % number for number in numbers],
        [1] * len(values),
        orjson.dumps([str(number) for number in numbers])[1:-1],
    )


@pytest.fixture
async def bench(clickhouse: ClickHouse) -> AsyncIterator[Bench]:
    """A running writer; the tables t and other take ids and numbers."""
    for statement in own_statements():
        await clickhouse.execute(statement)
    for table in ("t", "other"):
        await clickhouse.execute(
            f"CREATE TABLE {table} (id Int64, value Int64) ENGINE = MergeTree ORDER BY id"
            " SETTINGS non_replicated_deduplication_window = 1000"
        )
    bench = Bench(clickhouse)
    async with running(bench):
        yield bench


@pytest.mark.parametrize("bad", [{4_711}, {0, 1, 5_000, 9_999}], ids=["one", "four"])
async def test_c10_nine_thousand_nine_hundred_and_ninety_nine_rows_of_ten_thousand_arrive(
    bench: Bench, bad: set[int]
) -> None:
    for first in range(0, 10_000, CHUNK_ROWS):
        values = ["junk" if number in bad else number for number in range(first, first + CHUNK_ROWS)]
        bench.put(block("t", first, values))
    await bench.until_durable()
    ((rows, different),) = await bench.clickhouse.fetch("SELECT count(), uniqExact(id) FROM t")
    assert rows == different == 10_000 - len(bad)
    assert await bench.clickhouse.fetch("SELECT count() FROM t WHERE id != value") == [(0,)]
    dead_letters = await bench.clickhouse.fetch(f"{LETTERS} ORDER BY toUInt64(position)")
    assert dead_letters == [
        (
            dead_letter_id(SOURCE, "s", str(number), "dynamo.t"),
            "dynamo.t",
            REFUSED_BY_CLICKHOUSE,
            "value",
            SOURCE,
            "s",
            str(number),
            base64.b64encode(b"record %d" % number).decode(),
        )
        for number in sorted(bad)
    ]
    assert bench.counted == [("dynamo.t", REFUSED_BY_CLICKHOUSE)] * len(bad)


async def test_c10_a_refused_rows_letter_has_the_id_of_any_letter_of_that_record(bench: Bench) -> None:
    bench.put(block("t", 7, ["junk"]))
    await bench.until_durable()
    dead_letters = DeadLetterRows("p", SOURCE, "s")
    dead_letters.add(table="dynamo.t", reason="misfit", column="value", error="", position="7", raw=b"")
    again = dead_letters.block()
    assert again is not None
    await ClickHouseSink(bench.clickhouse).insert(again, "later")
    assert await bench.clickhouse.fetch(f"SELECT count() FROM {DEAD_LETTER_TABLE} FINAL") == [(1,)]


async def test_without_its_record_a_letter_holds_the_row(bench: Bench) -> None:
    bench.writer.sources.clear()
    refused = block("t", 7, ["junk"])
    bench.put(refused)
    await bench.until_durable()
    (dead_letter,) = await bench.clickhouse.fetch(LETTERS)
    raw = base64.b64decode(dead_letter[-1])
    assert raw == row_as_raw(refused)
    assert orjson.loads(raw) == {"dyncdc_row": {"table": "t", "columns": {"id": 7, "value": "junk"}}}


async def test_c4_a_table_that_refuses_everything_lets_the_other_go_on_and_the_position_stays_honest(
    bench: Bench,
) -> None:
    await bench.clickhouse.execute("ALTER TABLE other ADD CONSTRAINT none CHECK value < 0")
    bench.put(block("t", 0, [1, 2]), block("other", 2, [1, 2, 3]))
    await bench.until_durable()
    assert await bench.clickhouse.fetch("SELECT count() FROM t") == [(2,)]
    dead_letters = await bench.clickhouse.fetch(LETTERS + " ORDER BY position")
    assert [(dead_letter[1], dead_letter[3], dead_letter[6]) for dead_letter in dead_letters] == [
        ("other", "value", str(n)) for n in (2, 3, 4)
    ]


async def test_c4_a_table_that_takes_nothing_for_now_holds_the_position_and_not_the_other_table(bench: Bench) -> None:
    await bench.clickhouse.execute("ALTER TABLE other RENAME COLUMN value TO gone")
    bench.put(block("t", 0, [1]), block("other", 1, [1]))
    await asyncio.sleep(2.0)
    assert await bench.clickhouse.fetch("SELECT count() FROM t") == [(1,)]
    bench.put(block("t", 2, [3]))
    await asyncio.sleep(1.5)
    assert await bench.clickhouse.fetch("SELECT count() FROM t") == [(2,)]
    assert bench.ledger.frontier.position == "TRIM_HORIZON", "not durable in both tables"
    await bench.clickhouse.execute("ALTER TABLE other RENAME COLUMN gone TO value")
    await bench.until_durable()


@pytest.mark.parametrize(
    "settings",
    [
        {"parts_to_delay_insert": "1", "parts_to_throw_insert": "1", "max_delay_to_insert": "1"},
        {"min_free_disk_bytes_to_perform_insert": "9000000000000000"},
    ],
    ids=["too many parts", "disk full"],
)
async def test_c9_what_may_pass_holds_the_position_and_diverts_nothing(bench: Bench, settings: dict[str, str]) -> None:
    await bench.clickhouse.execute("SYSTEM STOP MERGES t")
    await bench.clickhouse.execute("INSERT INTO t VALUES (-1, -1)")
    limits = ", ".join(" = ".join(each) for each in settings.items())
    await bench.clickhouse.execute(f"ALTER TABLE t MODIFY SETTING {limits}")
    for number in range(3):
        bench.put(block("t", number, [number]))
        await asyncio.sleep(0.6)
    assert bench.ledger.frontier.position == "TRIM_HORIZON" and bench.ledger.in_flight == 3
    retries = bench.metrics.registry.get_sample_value("dyncdc_retries_total", {"stage": "insert"})
    assert retries is not None and 1 <= retries < 40, "it backs off"
    assert [stuck.name for stuck in bench.health.stuck()] == ["insert:t"]
    await bench.clickhouse.execute(f"ALTER TABLE t RESET SETTING {', '.join(settings)}")
    await bench.until_durable()
    assert await bench.clickhouse.fetch("SELECT count(), uniqExact(id) FROM t WHERE id >= 0") == [(3, 3)]
    assert await bench.clickhouse.fetch(LETTERS) == []


async def test_c11_a_dropped_dead_letter_table_holds_the_position_and_is_named_until_it_is_back(bench: Bench) -> None:
    await bench.clickhouse.execute(f"DROP TABLE {DEAD_LETTER_TABLE} SYNC")
    bench.put(block("t", 0, [1, "junk", 3]))
    await asyncio.sleep(2.5)
    assert await bench.clickhouse.fetch("SELECT count() FROM t") == [(2,)]
    assert bench.ledger.in_flight == 1 and bench.ledger.frontier.position == "TRIM_HORIZON"
    assert [stuck.name for stuck in bench.health.stuck()] == ["insert:t"]
    for statement in own_statements():
        await bench.clickhouse.execute(statement)
    await bench.until_durable()
    assert len(await bench.clickhouse.fetch(LETTERS)) == 1

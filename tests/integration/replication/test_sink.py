"""Sink, checkpoints and processes: what was acknowledged is there, and what was not is read again.

Each test says which wrong code it would catch.
"""

from __future__ import annotations

import asyncio
import base64
import json
import platform
import random
import signal
import time
from collections import Counter
from typing import Any

import pytest
from asynch.errors import ServerException
from simulation.simulate import SNAPSHOT_POINTS, STREAM_POINTS
from simulation.simulate import run as simulate
from support.pipeline.pipeline_parts import (
    MemoryCheckpoints,
    MemorySink,
    block,
    checkpointer_of,
    mark,
    shard,
    writer_of,
)
from support.pipeline.virtual_time import run
from support.processes.harness import Daemon, free_port, wait_until
from support.servers.chaos import ChaosProxy
from support.servers.place import Place
from support.stage.stage import Stage, change, now, until

from dyncdc.config import ClickHouseUrl
from dyncdc.errors import AccessDeniedError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import HORIZON, Position, ShardId, SourceId
from dyncdc.pipeline.budget import ByteBudget
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import translate
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.tables import own_statements
from dyncdc.sources.kinesis.stream_source import KinesisSource

COLUMNS = {"id": "String", "value": "Nullable(String)"}
HOUR = 3600.0


def item(key: str, value: str = "") -> dict[str, dict[str, str]]:
    return {"id": {"S": key}, "value": {"S": value}}


def connect(place: Place, port: int = 0, **options: Any) -> ClickHouse:
    url = ClickHouseUrl("native", port=port or place.server.tcp_port, database=place.name)
    return ClickHouse(url, **{"timeout_seconds": 5.0} | options)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", [*STREAM_POINTS, *SNAPSHOT_POINTS])
def test_c1_the_power_is_cut_at_every_step_and_nothing_is_lost(point: str) -> None:
    """Catches: a position saved before its rows are durable, at whichever step; the simulation judges the end state."""
    counted: Counter[str] = Counter()
    for seed in range(7000, 7200):
        counted += simulate(seed, cut_point=point)
        if counted[f"cut: {point}"] >= 6:
            return
    raise AssertionError(f"cut there {counted[f'cut: {point}']} times only")


async def test_c2_an_insert_whose_answer_is_lost_is_sent_again_and_counts_once(stage: Stage) -> None:
    """Catches: a new token for each attempt; a time-out taken for a refusal, or for success.

    The table keeps every row, as a history does: a block that is there twice shows.
    """
    direct = connect(stage.place)
    await direct.execute(
        "CREATE TABLE t (key String, value String) ENGINE = MergeTree ORDER BY key"
        " SETTINGS non_replicated_deduplication_window = 100"
    )
    async with ChaosProxy("127.0.0.1", stage.place.server.tcp_port).running() as proxy:
        through = connect(stage.place, proxy.listening_port, timeout_seconds=0.5)
        budget = ByteBudget(10**6)
        attempts: list[str] = []

        class Counted(ClickHouseSink):
            async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
                attempts.append(token)
                await super().insert(block, token, past_views=past_views)

        writer = writer_of(Counted(through), budget)  # type: ignore[arg-type]
        ledger = checkpointer_of(MemoryCheckpoints()).progress.open(shard(), Mark(HORIZON))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(writer.run())
            for number in range(4):
                lost = number % 2 == 1
                proxy.latency_seconds = 30.0 if lost else 0.0
                rows = [(f"{number}/{row}", 1, "v") for row in range(100)]
                writer.put(block("t", *rows), ledger.track(mark(number), 1, lambda: None))
                writer.flush_soon(["t"])
                if lost:
                    expected = len(attempts) + 2
                    await until(lambda wanted=expected: len(attempts) >= wanted, 10, "it tries again")
                    assert ledger.frontier == mark(number - 1), "acknowledged without an answer"
                    proxy.heal()
                    proxy.reset_connections()
                await until(lambda wanted=number: ledger.frontier == mark(wanted), 10, "the block is durable")
            writer.drain()
            await running
        assert len(attempts) > 4
        assert len(set(attempts)) == 4
        await through.close()
    assert await direct.fetch("SELECT count(), uniqExact(key) FROM t") == [(400, 400)]
    await direct.close()


def test_c3_the_checkpoint_never_passes_a_failed_insert_among_parallel_ones() -> None:
    """Catches: the highest acknowledged position saved; a failed insert's receipt acknowledged with its neighbours'."""

    async def work() -> None:
        broken = True

        async def answer(found: Block) -> None:
            await asyncio.sleep(0.05)
            if found.table == "t2" and broken:
                raise RetryableError("inserting into t2: too many parts")

        sink, store = MemorySink(answer), MemoryCheckpoints()
        writer = writer_of(sink, ByteBudget(10**7))
        checkpointer = checkpointer_of(store, interval_seconds=0.1)
        await checkpointer.load()
        ledger = checkpointer.progress.open(shard(), Mark(HORIZON))
        async with asyncio.TaskGroup() as tasks:
            writing, saving = tasks.create_task(writer.run()), tasks.create_task(checkpointer.run())
            for position, table in enumerate(("t1", "t2", "t3", "t4"), start=1):
                writer.put(block(table), ledger.track(mark(position), 1, lambda: None))
            await asyncio.sleep(30)
            assert {found.table for found in sink.inserted} == {"t1", "t3", "t4"}
            assert {row.mark.position for row in store.rows} <= {HORIZON, "1"}
            assert ledger.frontier.position == "1"
            broken = False
            await asyncio.sleep(30)
            assert store.rows[-1].mark.position == "4"
            saving.cancel()
            writer.drain()
            await writing

    run(work())


async def test_c5_a_reader_never_sees_a_shard_without_its_position(stage: Stage) -> None:
    """Catches: positions stored by delete and insert: a reader in between, or a kill there, starts from nothing."""
    clickhouse = connect(stage.place)
    for statement in own_statements():
        await clickhouse.execute(statement)
    source, name = SourceId("arn:stream@1"), ShardId("shard-0")
    store, reading = ClickHouseCheckpoints(clickhouse, "p"), ClickHouseCheckpoints(clickhouse, "p")

    def row(position: int, *, finished: bool = False) -> Checkpoint:
        return Checkpoint(source, name, Mark(Position(str(position)), 1_700_000_000.0, finished), 1, position)

    await store.save([row(1)])
    seen = [1]
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            (found,) = await reading.load()
            seen.append(int(found.mark.position))

    async def merge() -> None:
        while not done.is_set():
            await clickhouse.execute("OPTIMIZE TABLE dyncdc_checkpoints FINAL")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        tasks.create_task(read())
        tasks.create_task(merge())
        rng = random.Random(5)
        for position in range(2, 60):
            saving = asyncio.create_task(store.save([row(position)]))
            if rng.random() < 0.3:  # the process dies while it saves
                await asyncio.sleep(rng.uniform(0, 0.004))
                saving.cancel()
            await asyncio.wait({saving})
        await store.save([row(60, finished=True)])
        done.set()
    (found,) = await store.load()
    assert (found.mark.position, found.mark.finished) == ("60", True)
    assert len(seen) > 30
    await clickhouse.close()


def test_c6_an_older_position_from_a_lagging_replica_is_read_from_again_and_changes_nothing(stage: Stage) -> None:
    """Catches: a session that believes more than its checkpoints say; rows that count twice when they come twice."""
    table = stage.table(columns=COLUMNS)
    at = now()
    stage.put(change(table, "INSERT", at, item("a", "1")), change(table, "INSERT", at, item("b", "1")))
    stage.once()
    stage.clickhouse.run("CREATE TABLE lagging AS dyncdc_checkpoints")
    stage.clickhouse.run("INSERT INTO lagging SELECT * FROM dyncdc_checkpoints")
    stage.put(change(table, "REMOVE", at + 1, item("a")), change(table, "MODIFY", at + 1, item("b", "2")))
    stage.once()
    after = positions(stage)
    stage.clickhouse.run("EXCHANGE TABLES lagging AND dyncdc_checkpoints")  # what that replica still shows
    assert positions(stage) != after
    stage.put(change(table, "INSERT", at + 2, item("c", "3")))
    stage.once()
    assert stage.rows() == [["b", "2"], ["c", "3"]]
    assert int(positions(stage)[0]) > int(after[0])


@pytest.fixture
def fed(place: Place) -> Feeder:
    """A table that changes all the time, when it is told to."""
    table = place.make_table("orders", {"id": "S"}, place.make_stream())
    return Feeder(place, table)


class Feeder:
    """Writes items one after the other; every key once."""

    def __init__(self, place: Place, table: str) -> None:
        self.place = place
        self.table = table
        self.written = 0

    def daemon(self, label: str, *arguments: str) -> Daemon:
        """A daemon of the one pipeline, on a port of its own."""
        columns = [{"attribute": attribute, "type": kind} for attribute, kind in COLUMNS.items()]
        entry = self.place.entry(self.table, columns=columns, snapshot={"method": "none"})
        http = {"listen": f"127.0.0.1:{free_port()}"}
        return self.place.daemon(self.place.configure([entry], label, http=http), *arguments)

    def put(self, number: int) -> None:
        """Write some more items."""
        for _ in range(number):
            self.place.aws.put(self.table, item(f"k{self.written:04}"))
            self.written += 1

    def all_there(self) -> bool:
        """Whether ClickHouse has every item."""
        return self.place.clickhouse.number("SELECT count() FROM orders_current") == self.written

    def feed_until(self, condition: Any, seconds: float, what: str) -> None:
        """Write an item now and then until ``condition``."""

        def fed() -> bool:
            self.put(1)
            return bool(condition())

        wait_until(fed, seconds, what)


@pytest.mark.e2e
def test_c7_a_frozen_process_that_wakes_up_after_its_replacement_stops_and_harms_nothing(fed: Feeder) -> None:
    """Catches: two owners that overwrite each other's positions; the older one going on forever, or winning."""
    frozen, replacement = fed.daemon("frozen").start(), fed.daemon("replacement", "--take-over")
    frozen.wait_ready()
    fed.put(50)
    wait_until(fed.all_there, 20, "the first reads")
    frozen.signal(signal.SIGSTOP)
    fed.put(50)
    replacement.start()
    replacement.wait_ready()
    wait_until(fed.all_there, 20, "the second reads on")
    frozen.signal(signal.SIGCONT)
    fed.feed_until(lambda: not frozen.running, 20, "the first notices")
    assert frozen.wait() == 1
    assert "took over" in frozen.tail()
    fed.put(20)
    wait_until(fed.all_there, 20, "nothing is lost")
    assert replacement.terminate() == 0, replacement.tail()


@pytest.mark.e2e
def test_c8_of_two_daemons_with_one_configuration_the_later_waits_unless_it_takes_over(fed: Feeder) -> None:
    """Catches: two readers of one pipeline; a second start that evicts production; one that waits for the dead."""
    first, second, third = fed.daemon("first").start(), fed.daemon("second"), fed.daemon("third", "--take-over")
    first.wait_ready()
    fed.put(30)
    second.start()
    wait_until(lambda: "waiting for another process to end" in second.tail(), 20, "the second waits")
    assert f"on {platform.node()} since" in second.tail()
    once = fed.place.command("run", "--once", "-c", str(fed.daemon("once").config))
    assert once.code == 1
    assert f"is at work (on {platform.node()} since" in once.complaints[0] and "--take-over" in once.complaints[0]
    assert first.running and second.get("/readyz")[0] == 503
    first.kill()
    second.wait_ready()
    fed.put(30)
    third.start()
    third.wait_ready()
    fed.feed_until(lambda: not second.running, 20, "the second notices")
    assert second.wait() == 1
    assert "another dyncdc process with this pipeline name took over" in second.tail()
    wait_until(fed.all_there, 20, "no row is lost")
    assert third.terminate() == 0, third.tail()


REFUSING = {
    "TOO_MANY_PARTS": ("MODIFY SETTING parts_to_throw_insert = 1", "RESET SETTING parts_to_throw_insert"),
    "NOT_ENOUGH_SPACE": (
        "MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000",
        "RESET SETTING min_free_disk_bytes_to_perform_insert",
    ),
}
"""What ClickHouse says, what makes it say so, and no more."""


@pytest.mark.parametrize("code", REFUSING)
async def test_c9_the_servers_own_troubles_are_retried_and_pass(stage: Stage, code: str) -> None:
    """Catches: a code taken for bad rows, which would be dead-lettered, or for fatal, which ends what would pass."""
    clickhouse = connect(stage.place)
    await clickhouse.execute("CREATE TABLE t (key String, value String) ENGINE = MergeTree ORDER BY key")
    sink = ClickHouseSink(clickhouse)
    await sink.insert(block("t"), "first")
    begin, end = REFUSING[code]
    await clickhouse.execute(f"ALTER TABLE t {begin}")
    with pytest.raises(RetryableError, match=code):
        await sink.insert(block("t"), "second")
    await clickhouse.execute(f"ALTER TABLE t {end}")
    await sink.insert(block("t"), "second")
    assert await clickhouse.fetch("SELECT count() FROM t") == [(2,)]
    await clickhouse.close()


@pytest.mark.parametrize(
    ("code", "name", "hint"),
    [
        (252, "TOO_MANY_PARTS", "merges"),
        (241, "MEMORY_LIMIT_EXCEEDED", "memory"),
        (242, "TABLE_IS_READ_ONLY", "read-only"),
        (243, "NOT_ENOUGH_SPACE", "disk"),
        (999, "KEEPER_EXCEPTION", ""),
        (209, "SOCKET_TIMEOUT", ""),
    ],
)
def test_c9_each_code_is_retried_with_what_to_look_at(code: int, name: str, hint: str) -> None:
    """Catches: codes told apart by texts, which change; an operator left without the remedy."""
    error = translate(ServerException("Memory limit, too many parts", code), "inserting")  # type: ignore[no-untyped-call]
    assert isinstance(error, RetryableError) and not isinstance(error, AccessDeniedError)
    assert f"{code} {name}" in str(error)
    assert hint in error.hint


MEMORY_BYTES = 16 * 2**20


def test_c9_a_server_that_refuses_for_a_while_moves_no_position_and_bounds_the_memory(stage: Stage) -> None:
    """Catches: rows dead-lettered or dropped for the server's trouble; a retry without a pause; reading on forever."""
    table = stage.table(columns=COLUMNS)
    stage.put(change(table, "INSERT", now(), item("before")))
    stage.once()
    asyncio.run(refuse_inserts(stage, table))
    assert stage.count() == 5001
    assert stage.dead_letters() == []


async def refuse_inserts(stage: Stage, table: str) -> None:
    begin, end = REFUSING["TOO_MANY_PARTS"]
    stage.clickhouse.run(f"ALTER TABLE orders {begin}")
    before = positions(stage)
    async with stage.living(limits={"memory_bytes": MEMORY_BYTES}):
        stage.put_all([change(table, "INSERT", now(), item(f"k{n:04}", "x" * 2500)) for n in range(5000)])
        await stage.await_metric("dyncdc_retries_total", 5, stage="insert")
        await asyncio.sleep(1.0)
        assert await stage.metric("dyncdc_retries_total", stage="insert") < 40, "it backs off"
        assert 0 < await stage.metric("dyncdc_budget_used_bytes") <= 1.25 * MEMORY_BYTES
        assert await stage.metric("dyncdc_records_read_total") < 5000, "reading stops by itself"
        assert positions(stage) == before
        stage.clickhouse.run(f"ALTER TABLE orders {end}")
        await until(lambda: stage.count() == 5001, 30, "it goes on")


def test_c13_a_jump_of_the_hosts_clock_moves_no_position_and_no_owner(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: epochs, ages of batches or time-outs by the host's clock: a jump back would freeze them for an hour."""
    table = stage.table(columns=COLUMNS)
    offset = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset)

    async def jump() -> None:
        nonlocal offset
        async with stage.living():
            for turn, jumped in enumerate((0.0, HOUR, -HOUR, 0.0)):
                offset = jumped
                stage.put(change(table, "INSERT", now(), item(f"turn {turn}")))
                await until(
                    lambda wanted=turn: stage.count() == wanted + 1,
                    20,
                    "it reads whatever the clock says",
                )
            await until(lambda: positions(stage)[0].isdecimal(), 5, "it saves")

    asyncio.run(jump())
    epochs = []
    for offset in (HOUR, -HOUR, 0.0):  # each start takes over from the one before
        stage.put(change(table, "INSERT", now(), item(f"start {offset}")))
        stage.once()
        epochs.append(stage.clickhouse.number("SELECT max(epoch) FROM dyncdc_checkpoints"))
    assert len(stage.rows()) == 7
    assert epochs == sorted(set(epochs))
    assert abs(epochs[0] / 1_000_000 - real()) < 60, "an epoch is the server's time"


def positions(stage: Stage) -> list[str]:
    rows = stage.clickhouse.rows("SELECT argMax(position, (finished, rank)) FROM dyncdc_checkpoints GROUP BY shard")
    return [str(position) for (position,) in rows]


def test_c14_a_reader_that_hangs_is_named_and_turns_health_red(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: health from a flag, or from the event loop alone: everything else of the process still runs."""
    table = stage.table(columns=COLUMNS)
    fetch = KinesisSource.fetch
    hangs = False

    async def hanging(self: KinesisSource, *arguments: Any) -> Any:
        if hangs:
            await asyncio.Event().wait()
        return await fetch(self, *arguments)

    monkeypatch.setattr(KinesisSource, "fetch", hanging)

    async def work() -> None:
        nonlocal hangs
        async with stage.living(run={"stuck_after_seconds": 1.0}):
            stage.put(change(table, "INSERT", now(), item("a")))
            await until(lambda: stage.count() == 1, 10, "it reads")
            assert (await stage.page("/healthz"))[0] == 200
            hangs = True
            await stage.await_metric("dyncdc_stuck_tasks", 1)
            status, text = await stage.page("/healthz")
            assert status == 503
            assert f"shard:{stage.place.name}:shardId-000000000000" in text
            assert "the source" in text
            assert (await stage.page("/livez"))[0] == 200, "a restart would not help: the loop turns"

    asyncio.run(work())


async def test_c14_a_handshake_that_never_ends_is_given_up_in_time() -> None:
    """Catches: time-outs on queries only: a server that accepts and says nothing would hold the daemon forever."""
    held: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for secure in (False, True):
            url = ClickHouseUrl("native", port=port, database="d", secure=secure)
            clickhouse = ClickHouse(url, timeout_seconds=0.5)
            begun = time.monotonic()
            with pytest.raises(RetryableError):
                await clickhouse.fetch("SELECT 1")
            assert time.monotonic() - begun < 3.0
            await clickhouse.close()
        for writer in held:
            writer.close()
    assert len(held) == 2


def test_c16_a_new_batch_size_and_a_new_table_keep_the_old_positions(stage: Stage) -> None:
    """Catches: positions filed under the configuration: a restart with another one would start over.

    Changing them without a restart is not available yet.
    """
    table = stage.table(columns=COLUMNS)
    stage.put(*(change(table, "INSERT", now(), item(f"k{number}")) for number in range(10)))
    stage.once()
    second = stage.table("users", columns=COLUMNS)
    stage.put(change(second, "INSERT", now(), item("u")), change(table, "INSERT", now(), item("late")))

    async def read() -> None:
        async with stage.living(batch={"max_rows": 3}):
            await until(lambda: stage.count("users") == 1, 10, "it reads")
            assert await stage.metric("dyncdc_records_read_total") == 2, json.dumps(positions(stage))

    asyncio.run(read())
    assert len(stage.rows()) == 11


def test_c10_a_row_of_a_scan_that_clickhouse_refuses_leaves_its_item_in_the_letter(stage: Stage) -> None:
    """Catches: a dead letter that holds the row only, though the item is still there to be read again."""
    stage.clickhouse.run(
        "CREATE TABLE orders (id String, value Nullable(String), _spill String, _version Int64, _deleted UInt8,"
        " CONSTRAINT short CHECK length(value) < 5) ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id"
    )
    items = [item(f"k{number}", "too long" if number == 30 else "ok") for number in range(60)]
    scan = {"method": "scan", "settle_seconds": 0.5, "margin_seconds": 1.0, "segments": 2}
    stage.table(items=items, snapshot=scan)
    stage.once()
    assert stage.count() == 59
    (dead_letter,) = stage.dead_letters()
    assert json.loads(base64.b64decode(str(dead_letter["raw"]))) == {"Item": items[30]}

"""Connections to a real ClickHouse: time limits, cancellation, restarts, refused logins, and what errors may say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.errors import AccessDeniedError, DyncdcError, FatalError, RejectedRowsError, RetryableError, TooLargeError
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import (
    ACTIONS,
    NAMES,
    LoginRefused,
    SchemaChangedError,
    TableGoneError,
    UnknownCodeError,
)


@asynccontextmanager
async def own_server(
    directory: Path, timeout_seconds: float = 1.0
) -> AsyncIterator[tuple[LocalClickHouse, ClickHouse]]:
    """A server that the test may kill or freeze, and a client."""
    async with LocalClickHouse(directory) as server:
        url = ClickHouseUrl("native", port=server.tcp_port, database=server.database)
        client = ClickHouse(url, timeout_seconds=timeout_seconds)
        try:
            yield server, client
        finally:
            await client.close()


async def error_of(client: ClickHouse, sql: str) -> DyncdcError:
    with pytest.raises(DyncdcError) as caught:
        await client.execute(sql)
    return caught.value


async def test_rows_come_back_as_they_are(clickhouse: ClickHouse) -> None:
    text = "emoji 😀 quote ' backslash \\ percent % nul \0 tab \t"
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    assert await clickhouse.fetch(f"SELECT '{quoted}', -1::Int64, NULL, [1, 2]::Array(UInt8)") == [
        (text, -1, None, [1, 2])
    ]
    assert await clickhouse.fetch("SELECT 1 WHERE 0") == []


@pytest.mark.parametrize("compression", ["lz4", "none"])
async def test_large_answers_survive_compression(clickhouse: ClickHouse, compression: str) -> None:
    client = ClickHouse(clickhouse.url, compression=compression)
    rows = await client.fetch("SELECT number, toString(number) FROM numbers(200000)")
    assert rows[-1] == (199_999, "199999")
    assert len(rows) == 200_000
    await client.close()


async def test_many_tasks_share_few_connections(clickhouse: ClickHouse) -> None:
    metric = "SELECT value FROM system.metrics WHERE metric = 'TCPConnection'"
    before = (await clickhouse.fetch(metric))[0][0]  # one of ours, and those of others
    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(clickhouse.fetch(f"SELECT {number}")) for number in range(50)]
    assert [task.result() for task in found] == [[(number,)] for number in range(50)]
    assert (await clickhouse.fetch(metric))[0][0] <= before + 4 - 1


async def test_cancelling_a_query_leaves_nothing_broken(clickhouse: ClickHouse) -> None:
    for pause_seconds in (0.0, 0.001, 0.01, 0.1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(pause_seconds):
                await clickhouse.fetch("SELECT sleep(2)")
        assert await clickhouse.fetch("SELECT 1") == [(1,)]


async def test_a_query_may_be_cancelled_at_any_await(clickhouse: ClickHouse) -> None:
    client = ClickHouse(clickhouse.url, connections=1)
    for turns in range(30):
        task = asyncio.create_task(client.fetch("SELECT number FROM numbers(100000)"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5.0):
            assert await client.fetch("SELECT 1") == [(1,)]
        if turns % 3 == 0:
            await client.close()  # the next one is cancelled while it connects
            client._closed = False
    await client.close()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
def test_c7_a_cancellation_is_never_swallowed(
    clickhouse_server: LocalClickHouse, make_loop: Callable[[], asyncio.AbstractEventLoop], connected: bool
) -> None:
    """Who was frozen connects again, learns that it was replaced, and cancels all tasks: each must end, not go on."""

    async def swallowed() -> list[int]:
        """Numbers of turns of the loop after which a query could be cancelled and still went on to its end."""
        url = ClickHouseUrl("native", port=clickhouse_server.tcp_port, database=clickhouse_server.database)
        found = []
        for turns in range(5000):
            client = ClickHouse(url)
            if connected:
                await client.fetch("SELECT 1")
            task = asyncio.create_task(client.fetch("SELECT number, repeat('x', 1000) FROM numbers(2000)"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                await client.close()
                return found
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                found.append(turns)
            await client.close()
        raise AssertionError("the query never came to its end")

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(swallowed()) == []


async def test_a_server_that_lets_us_connect_and_says_nothing_is_given_up_after_the_time_to_connect() -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    client = ClickHouse(ClickHouseUrl("native", port=server.sockets[0].getsockname()[1], database="d"))
    connection = client._connection()
    connection._connect_seconds = 0.2
    client._idle.append(connection)
    started = time.monotonic()
    error = await error_of(client, "SELECT 1")
    assert time.monotonic() - started < 2.0
    assert isinstance(error, RetryableError)
    assert "may have been executed" not in str(error)
    assert not connection.connected
    for writer in accepted:
        writer.close()
    server.close()
    await client.close()


async def test_a_query_is_given_up_after_its_time(clickhouse: ClickHouse) -> None:
    client = ClickHouse(clickhouse.url, timeout_seconds=0.2)
    started = time.monotonic()
    with pytest.raises(RetryableError, match=r"no answer in 0\.2 s"):
        await client.fetch("SELECT sleep(2)")
    assert time.monotonic() - started < 1.0
    assert await client.fetch("SELECT 1") == [(1,)]
    await client.close()


async def test_c14_a_frozen_server_is_retryable_within_the_time_limit_and_recovers(tmp_path: Path) -> None:
    async with own_server(tmp_path, timeout_seconds=0.5) as (server, client):
        assert await client.fetch("SELECT 1") == [(1,)]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for sql in ("SELECT 1", "SELECT 1 /*" + "x" * 30_000_000 + "*/"):  # the second fills every socket buffer
                started = time.monotonic()
                assert isinstance(await error_of(client, sql), RetryableError)
                assert time.monotonic() - started < 1.5
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await asyncio.sleep(0.1)
        assert await client.fetch("SELECT 1") == [(1,)]


async def test_c9_a_killed_server_is_retryable_until_it_is_back(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (server, client):
        assert await client.fetch("SELECT 1") == [(1,)]
        running = asyncio.create_task(client.fetch("SELECT sleep(3)"))
        await asyncio.sleep(0.1)
        server.kill()
        with pytest.raises(RetryableError):
            await running
        for _ in range(5):  # also on every connection that was idle
            assert isinstance(await error_of(client, "SELECT 1"), RetryableError)
        await server.start()
        assert await client.fetch("SELECT 1") == [(1,)]


async def test_a_restart_of_the_server_between_two_queries_goes_unnoticed(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (server, client):
        assert await client.fetch("SELECT 1") == [(1,)]
        server.kill()
        await server.start()
        assert await client.fetch("SELECT 1") == [(1,)]


async def test_of_several_hosts_all_connections_go_to_one_that_can_be_reached(tmp_path: Path) -> None:
    async with LocalClickHouse(tmp_path / "a") as first, LocalClickHouse(tmp_path / "b") as second:
        ports = [first.tcp_port, second.tcp_port]
        url = ClickHouseUrl("native", port=ports[0], database=first.database, others=(("127.0.0.1", ports[1]),))
        client = ClickHouse(url, timeout_seconds=10)

        async def answering() -> set[int]:
            rows = await asyncio.gather(*(client.fetch("SELECT tcpPort()") for _ in range(6)))
            return {port for ((port,),) in rows}

        assert await answering() == {ports[0]}
        first.kill()
        with contextlib.suppress(RetryableError):  # what was under way
            await client.fetch("SELECT 1")
        assert await answering() == {ports[1]}
        await first.start()
        assert await answering() == {ports[1]}  # until that one is gone as well
        second.kill()
        with contextlib.suppress(RetryableError):
            await client.fetch("SELECT 1")
        assert await answering() == {ports[0]}
        first.kill()
        assert (await error_of(client, "SELECT 1")).hint
        await client.close()


@contextlib.asynccontextmanager
async def silent_host() -> AsyncIterator[int]:
    """A host that takes connections and never says a word."""
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in accepted:
            writer.close()
        server.close()


async def test_a_silent_host_leaves_a_statement_time_for_the_next_one(clickhouse: ClickHouse) -> None:
    """Catches: a time limit of one connect as long as that of the statement, which then never gets to the next host."""
    async with silent_host() as port:
        url = replace(clickhouse.url, port=port, others=((clickhouse.url.host, clickhouse.url.port),))
        client = ClickHouse(url, timeout_seconds=3)
        assert await client.fetch("SELECT 1") == [(1,)]
        await client.close()


async def test_errors_name_the_host_that_answered_or_all_that_could_not_be_reached(clickhouse: ClickHouse) -> None:
    here = f"{clickhouse.url.host}:{clickhouse.url.port}"
    there = (clickhouse.url.host, clickhouse.url.port)
    client = ClickHouse(replace(clickhouse.url, port=1, others=(there,)))
    assert f" at {here}: " in str(await error_of(client, "SELECT 1 FROM missing"))
    await client.close()
    client = ClickHouse(replace(clickhouse.url, port=1, others=(("127.0.0.1", 2),)))
    assert " at 127.0.0.1:1, 127.0.0.1:2: " in str(await error_of(client, "SELECT 1"))
    await client.close()


async def test_closing_lets_the_server_stop_at_once(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (server, client):
        await client.fetch("SELECT 1")
        await client.close()
        started = time.monotonic()
        await server.stop()
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(("user", "password"), [("ada", "wrong"), ("ada", ""), ("nobody", "x")])
async def test_a_refused_login_is_retried_and_shows_no_password(
    clickhouse: ClickHouse, user: str, password: str
) -> None:
    client = ClickHouse(replace(clickhouse.url, user=user, password=password))
    error = await error_of(client, "SELECT 1")
    assert isinstance(error, LoginRefused)
    assert isinstance(error, RetryableError)
    assert error.hint
    assert not password or password not in f"{error!r}{error.hint}{client!r}{error.__cause__!r}"
    await client.close()


async def test_the_password_is_asked_for_at_each_connect(clickhouse: ClickHouse) -> None:
    passwords = ["wrong", "wrong again", "correct horse"]
    client = ClickHouse(replace(clickhouse.url, user="ada"), password=lambda: passwords.pop(0))
    for _ in range(2):
        assert isinstance(await error_of(client, "SELECT 1"), LoginRefused)
    assert await client.fetch("SELECT currentUser()") == [("ada",)]
    assert await client.fetch("SELECT 1") == [(1,)], "over the same connection"
    await client.close()


async def test_a_missing_database_is_waited_for(clickhouse: ClickHouse) -> None:
    client = ClickHouse(replace(clickhouse.url, database="nowhere"))
    error = await error_of(client, "SELECT 1")
    assert isinstance(error, RetryableError)
    assert "create the database" in error.hint


@pytest.mark.parametrize("with_hello", [True, False])
async def test_the_answer_of_a_server_that_hangs_up_at_once_is_read(with_hello: bool) -> None:
    """As 24.8 does on a database that is missing: what is sent after the login it leaves unread."""

    def text(value: bytes) -> bytes:
        return bytes([len(value)]) + value

    hello = b"\0" + text(b"ClickHouse") + b"\x18\x08" + b"\xc5\xa9\x03" + text(b"UTC") + text(b"old") + b"\x04"
    said = text(b"DB::Exception") + text(b"DB::Exception: no such database") + text(b"")
    answer = b"\x02" + struct.pack("<i", 81) + said + b"\0"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        linger = struct.pack("ii", 1, 0)  # closing is a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(hello + answer if with_hello else answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = ClickHouse(ClickHouseUrl("native", port=server.sockets[0].getsockname()[1]), timeout_seconds=5)
        for _ in range(5):
            with pytest.raises(LoginRefused, match="81 UNKNOWN_DATABASE"):
                await client.fetch("SELECT 1")
        await client.close()


async def test_wrong_ports_are_retryable_and_say_what_to_look_at(
    clickhouse: ClickHouse, clickhouse_server: LocalClickHouse
) -> None:
    http = ClickHouse(replace(clickhouse.url, port=clickhouse_server.http_port), timeout_seconds=3.0)
    error = await error_of(http, "SELECT 1")
    assert isinstance(error, RetryableError)
    assert "native port" in error.hint
    tls = ClickHouse(replace(clickhouse.url, secure=True), timeout_seconds=3.0)
    error = await error_of(tls, "SELECT 1")
    assert isinstance(error, RetryableError)
    assert "9440" in error.hint


async def test_errors_name_no_value_of_a_statement(clickhouse: ClickHouse) -> None:
    await clickhouse.execute("CREATE TABLE t (a Int8, b DateTime) ENGINE = MergeTree ORDER BY a")
    for value in ('"s3cret"', '1, "s3cret"', "s3cret", '{"s3cret": 1}'):
        error = await error_of(clickhouse, f"INSERT INTO t (a) FORMAT JSONCompactColumns [[{value}]]")
        assert isinstance(error, RejectedRowsError), value
        assert "s3cret" not in f"{error!r} {error.hint}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t (nope) FORMAT JSONCompactColumns [[1]]", SchemaChangedError),
        ("SELECT nope FROM t", SchemaChangedError),
        ("SELECT * FROM nowhere", TableGoneError),
        ("SELECT (", FatalError),
        ("SELECT groupArray(number) FROM numbers(100000000) SETTINGS max_memory_usage = 1000000", TooLargeError),
        ("SELECT throwIf(1)", UnknownCodeError),
    ],
)
async def test_c9_codes_become_what_to_do(clickhouse: ClickHouse, sql: str, expected: type[DyncdcError]) -> None:
    await clickhouse.execute("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
    assert type(await error_of(clickhouse, sql)) is expected


async def test_a_missing_grant_is_named(clickhouse: ClickHouse) -> None:
    await clickhouse.execute("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
    client = ClickHouse(replace(clickhouse.url, user="ada", password="correct horse"))
    error = await error_of(client, "CREATE USER eve")
    assert type(error) is AccessDeniedError
    assert "missing grant: CREATE USER" in str(error)
    await client.close()


async def test_the_table_of_codes_has_the_servers_own_names(clickhouse: ClickHouse) -> None:
    rows = await clickhouse.fetch(
        f"SELECT toInt32(code), errorCodeToName(toInt32(code)) FROM (SELECT arrayJoin({sorted(NAMES)}) AS code)"
    )
    assert dict(rows) == dict(sorted(NAMES.items()))
    assert ACTIONS.keys() == NAMES.keys()

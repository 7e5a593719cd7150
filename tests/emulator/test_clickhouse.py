"""The ClickHouse child as a user meets it: start, stop, attach, crash, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asynch.connection import Connection
from asynch.errors import ServerException

from dyncdc.emulator import clickhouse as local_clickhouse
from dyncdc.emulator.clickhouse import LocalClickHouse, open_local
from dyncdc.emulator.clickhouse_directory import DirectoryInUse
from dyncdc.errors import ConfigError

OWNER = """
import asyncio, sys
from pathlib import Path
from dyncdc.emulator.clickhouse import LocalClickHouse
async def main():
    server = LocalClickHouse(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def query(
    server: LocalClickHouse, sql: str, user: str = "default", password: str = ""
) -> list[tuple[object, ...]]:
    user, password = (server.user, server.password) if user == "default" else (user, password)
    async with Connection(
        host="127.0.0.1", port=server.tcp_port, user=user, password=password, database=server.database
    ) as connection:
        async with connection.cursor() as cursor:
            await cursor.execute(sql)
            return list(await cursor.fetchall())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie that init has not reaped yet is dead
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@contextmanager
def owner(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process that owns a server; yields it and the server's pid."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(directory)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


async def gone_after_seconds(pid: int) -> float:
    started = time.monotonic()
    while alive(pid) and time.monotonic() - started < 10:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_a_server_keeps_its_data_and_its_port_over_a_restart(tmp_path: Path) -> None:
    server = LocalClickHouse(tmp_path, database="odd `name\\")
    async with server:
        port = server.tcp_port
        await query(server, "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        await query(server, "INSERT INTO t SELECT 7")
    async with server:
        assert await query(server, "SELECT * FROM t") == [(7,)]
        assert server.tcp_port == port


async def test_stop_takes_less_than_a_second_without_clients(tmp_path: Path) -> None:
    server = LocalClickHouse(tmp_path)
    await server.start()
    pid = server.pid
    started = time.monotonic()
    await server.stop()
    assert time.monotonic() - started < 1.0
    assert not alive(pid)
    assert not (tmp_path / "endpoint.json").exists()
    await server.stop()


async def test_acknowledged_batches_survive_kill_9(tmp_path: Path) -> None:
    server = LocalClickHouse(tmp_path)
    await server.start()
    await query(server, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    acknowledged = 0

    async def insert() -> None:
        nonlocal acknowledged
        while True:
            await query(server, f"INSERT INTO t SELECT number + {acknowledged} FROM numbers(1000)")
            acknowledged += 1000

    task = asyncio.create_task(insert())
    while acknowledged < 20_000:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    server.kill()
    with pytest.raises(Exception):  # noqa: B017 - whatever the client makes of a vanished server
        await task
    async with server:
        rows = await query(server, f"SELECT count(), uniqExact(a) FROM t WHERE a < {acknowledged}")
        assert rows == [(acknowledged, acknowledged)]


async def test_the_server_is_gone_within_a_second_of_its_parents_sigkill(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, pid):
        async with Connection(host="127.0.0.1", port=tcp_port_of(tmp_path)) as connection:  # a client stays
            process.kill()
            process.wait()
            assert await gone_after_seconds(pid) < 1.0
            del connection


def tcp_port_of(directory: Path) -> int:
    return int(json.loads((directory / "endpoint.json").read_text())["tcp_port"])


async def test_a_second_command_attaches_to_the_running_server_and_leaves_it_running(tmp_path: Path) -> None:
    with owner(tmp_path) as (_, pid):
        server = await open_local(tmp_path)
        assert (server.owned, server.pid) == (False, pid)
        assert await query(server, "SELECT 1") == [(1,)]
        await server.stop()
        assert alive(pid)


async def test_open_local_starts_a_server_where_none_runs_even_after_a_crash(tmp_path: Path) -> None:
    server = await open_local(tmp_path)
    server.kill()
    assert (tmp_path / "endpoint.json").exists()  # stale
    server = await open_local(tmp_path)
    assert server.owned
    assert await query(server, "SELECT 1") == [(1,)]
    await server.stop()


async def test_the_server_of_a_directory_has_a_password_that_only_its_user_can_read(tmp_path: Path) -> None:
    place = tmp_path / "data"
    server = await open_local(place)
    secret = place / "password"
    assert (stat.S_IMODE(secret.stat().st_mode), stat.S_IMODE(place.stat().st_mode)) == (0o600, 0o700)
    assert server.password == secret.read_text() and len(server.password) > 30
    for user in ("default", "dyncdc", "default"):
        with pytest.raises(ServerException):
            async with Connection(host="127.0.0.1", port=server.tcp_port, user=user):
                pass
    with pytest.raises(urllib.error.HTTPError):
        await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{server.http_port}/?query=SELECT+1")
    other = await open_local(place)
    assert (other.owned, other.password) == (False, server.password)
    await server.stop()
    again = await open_local(place)
    assert again.password == server.password
    await again.stop()


async def test_two_commands_at_once_share_one_server(tmp_path: Path) -> None:
    first, second = await asyncio.gather(open_local(tmp_path), open_local(tmp_path))
    assert sorted((first.owned, second.owned)) == [False, True]
    assert first.pid == second.pid
    for server in sorted((first, second), key=lambda each: each.owned):
        await server.stop()


async def test_who_must_own_its_server_waits_for_another_to_end_and_is_refused_if_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await open_local(tmp_path)
    waiting = asyncio.create_task(open_local(tmp_path, own=True))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await first.stop()
    second = await waiting
    assert second.owned
    monkeypatch.setattr(local_clickhouse, "OWNER_WAIT_SECONDS", 0.2)
    with pytest.raises(DirectoryInUse):
        await open_local(tmp_path, own=True)
    await second.stop()


async def test_a_second_server_on_a_directory_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    async with LocalClickHouse(tmp_path, users={"ada": "secret"}) as first:
        with pytest.raises(DirectoryInUse) as caught:
            await LocalClickHouse(tmp_path).start()
        assert caught.value.hint
        assert await query(first, "SELECT 1", "ada", "secret") == [(1,)]


async def test_a_taken_port_is_a_config_error(tmp_path: Path) -> None:
    async with LocalClickHouse(tmp_path / "a") as first:
        with pytest.raises(ConfigError, match=f"port {first.tcp_port}"):
            await LocalClickHouse(tmp_path / "b", tcp_port=first.tcp_port).start()


async def test_a_missing_wheel_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "chdb.py").write_text("")  # hides the real package, and has no engine
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with pytest.raises(ConfigError, match="not installed") as caught:
        await LocalClickHouse(tmp_path / "data").start()
    assert caught.value.hint == "pip install 'dyncdc[local]'"


async def test_users_need_their_password_and_the_file_that_names_them_is_private(tmp_path: Path) -> None:
    async with LocalClickHouse(tmp_path, users={"ada": "s<&>cret"}) as server:
        assert await query(server, "SELECT currentUser()", "ada", "s<&>cret") == [("ada",)]
        with pytest.raises(ServerException) as caught:
            await query(server, "SELECT 1", "ada", "wrong")
        assert caught.value.code == 516
    assert (tmp_path / "users.xml").stat().st_mode & 0o077 == 0


async def test_memory_is_capped(tmp_path: Path) -> None:
    async with LocalClickHouse(tmp_path, memory_bytes=512 * 2**20) as server:
        with pytest.raises(ServerException) as caught:
            await query(server, "SELECT length(groupArray(toString(number))) FROM numbers(50000000)")
        assert caught.value.code == 241
        rss_bytes = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        assert rss_bytes < 900 * 2**20


async def test_a_frozen_server_is_stopped_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_clickhouse, "STOP_GRACE_SECONDS", 0.3)
    server = LocalClickHouse(tmp_path)
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert not alive(pid)


async def test_a_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    server = LocalClickHouse(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await server.start()
    assert not server.running
    async with LocalClickHouse(tmp_path):
        pass

"""Guard: clients that say nothing, trickle, or ask without end get no more than their share."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import structlog
from aiohttp import web
from support.pipeline.virtual_time import run

from dyncdc.telemetry import http_guard
from dyncdc.telemetry.http import serve_http
from dyncdc.telemetry.http_guard import (
    ANSWERS_PER_SECOND,
    BURST_ANSWERS,
    CachedAnswer,
    Connections,
    Turns,
    hosts_of,
    is_for,
)
from dyncdc.telemetry.logging import configure_logging

MOST = 8


async def alive(_: web.Request) -> web.Response:
    return web.Response(text="live\n")


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Where a server of few connections answers."""
    monkeypatch.setattr(http_guard, "MOST_CONNECTIONS", MOST)
    application = web.Application()
    application.add_routes([web.get("/livez", alive)])
    async with serve_http(("127.0.0.1", 0), application) as found:
        yield found


async def get(port: int) -> int:
    """Ask over a connection of its own, as a probe does."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/livez") as answer:
        return answer.status


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the server has closed a connection; waits for that."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_clients_that_connect_and_say_nothing_keep_no_one_out(port: int) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10 * MOST)]
    assert await get(port) == 200
    oldest = [reader for reader, _ in silent[: -2 * MOST]]
    assert all([await ends(reader) for reader in oldest])
    for _, writer in silent:
        writer.close()


async def test_a_head_that_never_ends_and_a_rest_without_end_close_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_guard, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(http_guard, "IDLE_SECONDS", 0.2)
    trickling, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
    assert await ends(trickling)
    writer.close()
    resting, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await resting.read()).endswith(b"live\n")
    writer.close()


HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"

BROKEN = {
    "tls": bytes.fromhex("16030100c8010000c40303") + b"SECRET" * 30,
    "no-http": b"SECRET\r\n\r\n",
    "long-line": b"GET /" + b"SECRET" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "large-header": HEAD + b"X: " + b"SECRET" * 3000 + b"\r\n\r\n",
    "many-headers": HEAD + b"".join(b"X-%d: SECRET\r\n" % number for number in range(5000)) + b"\r\n",
    "odd-header": HEAD + b"A: SECRET\x01\r\n\r\n",
    "two-hosts": HEAD + b"Host: SECRET\r\n\r\n",
    "odd-url": b"GET http://[SECRET/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "odd-length": HEAD + b"Content-Length: SECRET\r\n\r\n",
    "odd-chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\nx",
    "no-gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\nSECRETSECRET",
    "half-a-head": HEAD + b"X: SECRET",
    "half-a-body": HEAD + b"Content-Length: 100\r\n\r\nSECRET",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "behind-a-good-one": HEAD + b"\r\nSECRET\x00\r\n\r\n",
}


async def send(port: int, data: bytes) -> bytes:
    """Send bytes over a connection of their own, and end it; return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    except (ConnectionResetError, BrokenPipeError):
        return b""
    finally:
        writer.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as it is on a terminal; repeats are left out."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(format="console", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_request_is_a_line_at_most_that_quotes_nothing(port: int, log: io.StringIO, name: str) -> None:
    answers = [await send(port, BROKEN[name]) for _ in range(3)]
    assert await get(port) == 200
    assert log.getvalue().count("\n") <= 1, "repeats are left out"
    assert "SECRET" not in log.getvalue()
    assert not any(b"SECRET" in answer for answer in answers)


async def test_requests_that_are_none_are_one_line_whatever_is_wrong_with_them(port: int, log: io.StringIO) -> None:
    for data in BROKEN.values():
        await send(port, data)
    assert log.getvalue().count("\n") == 1
    assert "request not understood" in log.getvalue()


async def test_a_page_that_fails_is_logged_with_its_traceback_and_no_values(log: io.StringIO) -> None:
    async def fail(_: web.Request) -> web.Response:
        key = "SECRET" * 2
        raise ValueError(f"{len(key)} letters")

    application = web.Application()
    application.add_routes([web.get("/livez", fail)])
    async with serve_http(("127.0.0.1", 0), application) as found:
        assert await get(found) == 500
    assert "ValueError: 12 letters" in log.getvalue()
    assert "SECRETSECRET" not in log.getvalue()


def test_a_process_that_may_open_few_files_keeps_most_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard.resource, "getrlimit", lambda _: (64, 64))
    assert Connections()._most == 16


def test_clients_that_ask_without_end_get_so_many_answers_a_second_and_a_probe_waits_for_none() -> None:
    async def work() -> None:
        turns = Turns()
        loop = asyncio.get_running_loop()
        await turns.take()
        assert loop.time() < 0.01

        async def ask() -> None:
            for _ in range(200):
                await turns.take()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(ask())
        assert loop.time() == pytest.approx((1001 - BURST_ANSWERS) / ANSWERS_PER_SECOND, abs=0.1)

    run(work())


async def test_a_page_is_made_once_for_all_who_ask_at_once_and_again_after_an_error() -> None:
    made = 0

    async def make() -> bytes:
        nonlocal made
        made += 1
        await asyncio.sleep(0.02)
        if made == 1:
            raise RuntimeError("once")
        return b"%d" % made

    kept = CachedAnswer(make)
    with pytest.raises(RuntimeError):
        await kept.get()
    assert await asyncio.gather(*(kept.get() for _ in range(50))) == [b"2"] * 50


@pytest.mark.parametrize(
    ("listen", "configured", "host", "allowed"),
    [
        ("127.0.0.1", (), "evil.example", False),
        ("::1", (), "evil.example:9108", False),
        ("localhost", (), "dyncdc.localhost", True),
        ("127.0.0.1", ("Dyncdc.Internal",), "dyncdc.internal:9108", True),
        ("127.0.0.1", (), "", True),
        ("127.0.0.1", (), "[fe80::1]:9108", True),
        ("127.0.0.1", (), "127.0.0.1.evil.example", False),
        ("0.0.0.0", ("dyncdc.internal",), "evil.example", False),
        ("0.0.0.0", ("dyncdc.internal",), "10.0.0.7:9108", True),
    ],
)
def test_names_are_good_that_no_foreign_page_can_have(
    listen: str, configured: tuple[str, ...], host: str, allowed: bool
) -> None:
    hosts = hosts_of(listen, configured)
    assert hosts is not None
    assert is_for(host, hosts) is allowed


def test_beyond_loopback_every_name_is_good_unless_some_are_configured() -> None:
    assert hosts_of("0.0.0.0", ()) is None
    assert hosts_of("dyncdc.internal", ()) is None

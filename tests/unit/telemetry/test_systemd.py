"""systemd's protocol over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyncdc.telemetry import systemd


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = str(tmp_path / "notify")
        receiver.bind(path)
        receiver.settimeout(5.0)
        yield receiver, {"NOTIFY_SOCKET": path}


def test_states_reach_systemd(listener: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environ = listener
    assert systemd.notify(systemd.READY, environ)
    assert receiver.recv(100) == b"READY=1"


def test_abstract_sockets_work() -> None:
    name = f"dyncdc-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(5.0)
        assert systemd.notify(systemd.STOPPING, {"NOTIFY_SOCKET": "@" + name})
        assert receiver.recv(100) == b"STOPPING=1"


def test_without_systemd_nothing_happens() -> None:
    assert not systemd.notify(systemd.READY, {})
    assert not systemd.notify(systemd.READY, {"NOTIFY_SOCKET": "/nonexistent"})


def test_the_watchdog_is_for_this_process_only() -> None:
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_seconds({}) is None


async def test_the_watchdog_is_fed_several_times_per_period(
    listener: tuple[socket.socket, dict[str, str]],
) -> None:
    receiver, environ = listener
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await systemd.feed_watchdog({**environ, "WATCHDOG_USEC": "120000"})
    assert [receiver.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4


async def test_no_one_to_feed_ends_at_once() -> None:
    await systemd.feed_watchdog({})

"""Frozen: each thing that can hang does, for real. Health turns red in its time naming the task, and green again.

Meanwhile ``/livez`` and systemd's watchdog stay green: nothing restarts what a restart would not help.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.processes.harness import Daemon, alive, running, wait_until
from support.servers.chaos import ChaosProxy
from support.servers.place import Place

from e2e.processes.test_members import workers_of

STUCK_SECONDS = 3.0
NEVER_SECONDS = 600.0
"""Time-outs that do not end what hangs: that is what this is about."""


@dataclass
class Scene:
    """A daemon between proxies, idle and ready; ``heard`` is what it told systemd."""

    daemon: Daemon
    to_aws: ChaosProxy
    to_clickhouse: ChaosProxy
    table: str
    place: Place
    notifications: socket.socket

    def write(self, *names: str) -> None:
        """Change items."""
        self.place.aws.put_all(self.table, [{"id": {"S": name}} for name in names])

    def rows(self) -> int:
        """How many items have arrived."""
        return self.place.clickhouse.number("SELECT count() FROM events_current")

    def heard(self) -> list[str]:
        """What the daemon told systemd since the last look."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.notifications.recv(4096).decode())
        return found

    def stuck(self) -> str:
        """What health says; "" while all is well."""
        status, text = self.daemon.get("/healthz")
        return text if status == 503 else ""

    def logged(self, event: str, task: str) -> list[dict[str, Any]]:
        """Lines of the log."""
        lines = [line for line in self.daemon.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if (line["event"], line.get("task")) == (event, task)]

    def expect_stuck(self, task: str, reason: str, *, told_before: int = 0) -> None:
        """Health names the task in time, the log says once where it hangs, and nothing wants a restart."""
        began = time.monotonic()
        wait_until(lambda: task in self.stuck(), STUCK_SECONDS * 4, f"{task} is stuck: {self.stuck()}")
        assert reason in self.stuck(), self.stuck()
        assert time.monotonic() - began >= STUCK_SECONDS / 2, "it was stuck before it could be"
        told = self.logged
        wait_until(lambda: len(told("task stuck", task)) > told_before, 5, f"it is logged: {self.daemon.tail()}")
        self.heard()
        time.sleep(1.5)
        assert self.daemon.get("/livez")[0] == 200
        assert "WATCHDOG=1" in self.heard()
        assert self.daemon.metric("dyncdc_stuck_tasks", task=task) == 1
        (line,) = told("task stuck", task)[told_before:]
        assert line["hangs_in"], line

    def expect_well(self, rows: int) -> None:
        """Everything goes on by itself, in the same process, and health is green."""
        wait_until(lambda: self.rows() == rows, 20, f"{rows} rows arrive: {self.daemon.tail()}")
        wait_until(lambda: self.daemon.get("/healthz")[0] == 200, 15, f"health is green again: {self.stuck()}")
        assert self.daemon.running


@contextlib.contextmanager
def proxied(host: str, port: int) -> Iterator[ChaosProxy]:
    """A proxy in a thread of its own."""
    proxy, loop, ready = ChaosProxy(host, port), asyncio.new_event_loop(), threading.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        async with proxy.running():
            ready.set()
            await ended.wait()

    def turn() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        proxy.heal()
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


Setting = Callable[..., contextlib.AbstractContextManager[Scene]]


@pytest.fixture
def scene(place: Place) -> Setting:
    """Make a scene; sections of the configuration as arguments."""

    @contextlib.contextmanager
    def make(**sections: Any) -> Iterator[Scene]:
        table = place.make_table("events", {"id": "S"}, place.make_stream(shards=1))
        aws = urlsplit(place.aws.endpoint_url)
        with contextlib.ExitStack() as stack:
            to_aws = stack.enter_context(proxied(str(aws.hostname), aws.port or 80))
            to_clickhouse = stack.enter_context(proxied("127.0.0.1", place.server.tcp_port))
            url = f"clickhouse://default@127.0.0.1:{to_clickhouse.listening_port}/{place.name}"
            clickhouse = {"url": url, "insert_timeout_seconds": NEVER_SECONDS, **sections.pop("clickhouse", {})}
            config = place.configure(
                [place.entry(table, columns=[{"attribute": "id", "type": "String"}], snapshot={"method": "none"})],
                aws={"endpoint_url": to_aws.url},
                clickhouse=clickhouse,
                run={"stuck_after_seconds": STUCK_SECONDS},
                **sections,
            )
            daemon = place.daemon(config)
            systemd = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            systemd.bind(str(place.directory / "notify"))
            systemd.setblocking(False)
            daemon.environment |= {"NOTIFY_SOCKET": str(place.directory / "notify"), "WATCHDOG_USEC": "1000000"}
            stack.enter_context(running(daemon))
            made = Scene(daemon, to_aws, to_clickhouse, table, place, systemd)
            made.write("first")
            wait_until(lambda: made.rows() == 1, 20, f"the first row arrives: {daemon.tail()}")
            yield made
            assert daemon.terminate() == 0, daemon.tail()

    return make


@pytest.mark.timeout(240)
def test_c14_a_frozen_clickhouse_a_hung_aws_and_a_hung_checkpoint_are_each_named_and_pass(scene: Setting) -> None:
    with scene() as at:
        at.to_clickhouse.blackhole = True
        at.write("second")
        at.expect_stuck("insert:events", "waiting for ClickHouse")
        at.to_clickhouse.heal()
        at.expect_well(2)

        at.to_aws.blackhole = True
        at.expect_stuck(f"shard:{at.place.name}:shardId-000000000000", "waiting for the source")
        at.to_aws.heal()
        at.write("third")
        at.expect_well(3)

        told_before = len(at.logged("task stuck", "checkpointer"))
        at.to_clickhouse.hold_containing = b"INTO dyncdc_checkpoints"
        at.write("fourth")
        wait_until(lambda: at.rows() == 4, 20, "rows still arrive")
        at.expect_stuck("checkpointer", "waiting for ClickHouse to take the checkpoints", told_before=told_before)
        assert "insert:" not in at.stuck()
        at.to_clickhouse.heal()
        at.expect_well(4)


@pytest.mark.timeout(240)
def test_c14_what_hangs_beyond_its_time_out_is_given_up_with_its_connection(scene: Setting) -> None:
    """The frozen connections stay as they are: only new ones can help."""
    with scene(clickhouse={"insert_timeout_seconds": 2.0}) as at:
        at.to_clickhouse.freeze_open()
        at.write("second")
        at.expect_well(2)
        assert at.to_clickhouse.dead or at.to_clickhouse.connections > 1


@pytest.mark.timeout(240)
def test_a_worker_whose_loop_stands_still_is_killed_and_started_again(place: Place) -> None:
    table = place.make_table("events", {"id": "S"}, place.make_stream(shards=4))
    config = place.configure(
        [place.entry(table, columns=[{"attribute": "id", "type": "String"}], snapshot={"method": "none"})],
        limits={"workers": 2},
        run={"stuck_after_seconds": STUCK_SECONDS},
    )
    with running(place.daemon(config)) as daemon:
        first, second = workers_of(daemon.pid)
        os.kill(second, signal.SIGSTOP)
        place.aws.put_all(table, [{"id": {"S": str(number)}} for number in range(40)])
        wait_until(lambda: "worker 1: does not answer" in daemon.get("/healthz")[1], 10, "health names the worker")
        assert daemon.get("/livez")[0] == 200, "the others would be restarted with it"
        wait_until(lambda: not alive(second), 30, f"it is killed: {daemon.tail()}")
        count = lambda: place.clickhouse.number("SELECT count() FROM events_current")  # noqa: E731
        wait_until(lambda: count() == 40, 30, f"another has taken its place and read its shards: {daemon.tail()}")
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 15, "all is well")
        assert first in workers_of(daemon.pid), "no one else was touched"
        assert daemon.metric("dyncdc_worker_restarts_total") == 1
        assert "worker unresponsive" in daemon.log.read_text()
        assert daemon.terminate() == 0, daemon.tail()

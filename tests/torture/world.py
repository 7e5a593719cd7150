"""World: the real things of one history - local AWS, ClickHouse, proxies before both, tables, the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from support.processes.harness import ClickHouseHttp, Daemon, environment, free_port
from support.servers.aws import Aws
from support.servers.chaos import ChaosProxy
from support.servers.place import Place

from dyncdc.emulator.aws import LocalAws

from .plan import SCAN, Plan
from .processes.clickhouse import PASSWORD, USER, TorturedClickHouse
from .processes.clock import Clock, build_preload
from .workload import KEY_SCHEMAS, TABLE_COLUMNS, TTL_ATTRIBUTE, Writes

T = TypeVar("T")

DRAIN_SECONDS = 5.0
DENIALS = ("AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException")
DENIED_ATTEMPTS = 100
MASK_KEY = {"TORTURE_MASK_KEY": "correct-horse-battery"}
MARGIN_SECONDS = 2.0
"""Exports of the local AWS show one instant; servers tell the time in whole seconds."""


class Loop:
    """An event loop in a thread, for what is asynchronous: proxies and servers."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[object, object, T], seconds: float = 60.0) -> T:
        """Run to the end and return the answer."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def soon(self, work: Any) -> None:
        """Run a plain function in the loop."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()


@dataclass
class World:
    """One history's own everything. ``counted`` is what was really done, by kind."""

    plan: Plan
    loop: Loop
    local_aws: LocalAws
    server: TorturedClickHouse
    to_aws: ChaosProxy
    to_clickhouse: ChaosProxy
    aws: Aws
    place: Place
    names: dict[str, str]
    writes: Writes
    daemon: Daemon
    config: Path
    direct_config: Path
    """The same, without proxies between."""
    stream_arn: str
    password_file: Path
    """Where the daemon finds its password to ClickHouse."""
    entries: list[dict[str, Any]]
    """``[[tables]]`` of the configuration."""
    server_clock: Clock
    daemon_clock: Clock
    by_hand: threading.Lock = field(default_factory=threading.Lock)
    """Held over statements of ours that belong together, so that a copy of ClickHouse has all of them or none."""
    streaming: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever changes tables and their streaming destinations."""
    may_end: bool = False
    """Whether a start of the daemon may have met a table, or a streaming destination, that was not there."""
    requested: dict[str, str] = field(default_factory=dict)
    """The last request for another snapshot, by table."""
    counted: Counter[str] = field(default_factory=Counter)
    giving_up: threading.Event = field(default_factory=threading.Event)
    """Set when something has gone wrong: no one needs to go on."""

    def sleep(self, seconds: float) -> None:
        """Sleep; at once over when the history is."""
        if self.giving_up.wait(seconds):
            raise Abandoned

    def freeze(self, pid: int, seconds: float) -> None:
        """Stop a process for a while."""
        os.kill(pid, signal.SIGSTOP)
        try:
            self.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def heal(self) -> None:
        """Turn everything off that was turned on."""
        for proxy in (self.to_aws, self.to_clickhouse):
            self.loop.soon(proxy.heal)
        self.aws.clear_faults()
        self.aws.set(
            iterator_ttl_seconds=300.0,
            export_delay_seconds=0.2,
            duplicate_probability=0.0,
            retention_seconds=0.0,
            behind_grain_seconds=0.001,
            arrival_grain_seconds=0.001,
        )
        for clock in (self.server_clock, self.daemon_clock):
            clock.step(0.0)


class Abandoned(Exception):
    """The history ends because another part of it has failed."""


@contextlib.contextmanager
def make_world(plan: Plan, directory: Path) -> Iterator[World]:
    """Start the servers and proxies, make stream, tables and configuration, write the first items."""
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        aws_server = LocalAws(settings={"seed": plan.seed, "ttl_sweep_seconds": 0.5, "export_files": 6})
        preload = build_preload(directory)
        clocks = [Clock(preload, name) for name in ("server", "daemon")]
        server = TorturedClickHouse(directory / "clickhouse", clocks[0])
        stack.callback(lambda: loop.call(_stop(aws_server, server)))
        loop.call(_start(aws_server, server))
        aws_url = urlsplit(aws_server.endpoint_url)
        to_aws = _proxy(loop, stack, str(aws_url.hostname), aws_url.port or 80)
        to_clickhouse = _proxy(loop, stack, "127.0.0.1", server.tcp_port)
        os.environ["AWS_ENDPOINT_URL"] = aws_server.endpoint_url
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
        aws = Aws(aws_server.endpoint_url, local=True)
        stack.callback(aws.close)
        for client in (aws.kinesis, aws.dynamodb, aws.s3):
            client.meta.events.register("needs-retry", _ask_again_when_denied)
        place = Place(f"torture{plan.seed}", directory, aws, server)
        ClickHouseHttp(server.http_port).run(f"CREATE DATABASE {place.name}")
        stream_arn = place.make_stream(plan.shards)
        names = {one.label: place.make_table(one.label, KEY_SCHEMAS[one.label]) for one in plan.tables}
        aws.dynamodb.update_time_to_live(
            TableName=names["sessions"],
            TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
        )
        writes = Writes(aws, plan, names)
        writes.preload()
        for one in plan.tables:
            aws.send_changes(names[one.label], stream_arn, one.precision)
        entries = _entries(plan, place, names)
        direct_config = configure(place, entries, aws_server.endpoint_url, server.tcp_port, "direct")
        config = configure(place, entries, to_aws.url, to_clickhouse.listening_port, "config")
        daemon = place.daemon(config)
        daemon.environment = _with_task_dump(daemon.environment) | MASK_KEY | clocks[1].environment
        stack.callback(_kill_all, place)
        yield World(
            plan,
            loop,
            aws_server,
            server,
            to_aws,
            to_clickhouse,
            aws,
            place,
            names,
            writes,
            daemon,
            config,
            direct_config,
            stream_arn,
            directory / "config.password",
            entries,
            *clocks,
        )


async def _start(aws: LocalAws, server: TorturedClickHouse) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(aws.start())
        tasks.create_task(server.start())


async def _stop(aws: LocalAws, server: TorturedClickHouse) -> None:
    server.kill()
    await aws.stop()


def _kill_all(place: Place) -> None:
    for daemon in place.daemons:
        daemon.kill()


def _proxy(loop: Loop, stack: contextlib.ExitStack, host: str, port: int) -> ChaosProxy:
    proxy = ChaosProxy(host, port)
    running = proxy.running()
    loop.call(running.__aenter__())
    stack.callback(lambda: loop.call(running.__aexit__(None, None, None)))
    return proxy


def _ask_again_when_denied(response: Any, attempts: int, **_: object) -> float | None:
    """Seconds until the next attempt of the history's own calls, which are denied while the daemon's are."""
    code = response[1].get("Error", {}).get("Code") if response is not None else None
    return 0.1 if code in DENIALS and attempts < DENIED_ATTEMPTS else None


def _entries(plan: Plan, place: Place, names: dict[str, str]) -> list[dict[str, Any]]:
    entries = []
    for one in plan.tables:
        entry = place.entry(names[one.label])
        if one.label in TABLE_COLUMNS:
            entry["columns"] = TABLE_COLUMNS[one.label]
        if one.method == SCAN:
            entry["snapshot"] = {"method": "scan", "segments": 3, "settle_seconds": 0.5}
        entry["snapshot"]["margin_seconds"] = MARGIN_SECONDS
        entries.append(entry)
    return entries


def configure(
    place: Place, entries: list[dict[str, Any]], aws_url: str, clickhouse_port: int, label: str, **sections: Any
) -> Path:
    """Write a configuration of this world, with a file for its password."""
    password = place.directory / f"{label}.password"
    password.write_text(PASSWORD)
    return place.configure(
        entries,
        label,
        aws={"endpoint_url": aws_url},
        clickhouse={
            "url": f"clickhouse://{USER}@127.0.0.1:{clickhouse_port}/{place.name}",
            "password_file": str(password),
            "insert_timeout_seconds": 2.0,
        },
        run={"shutdown_seconds": DRAIN_SECONDS},
        **sections,
    )


def replacement(world: World) -> Daemon:
    """A second daemon with the same configuration, but for the port of its pages."""
    port = free_port()
    variables = _with_task_dump(environment()) | MASK_KEY | world.daemon_clock.environment
    made = Daemon(world.config, port, variables | {"DYNCDC_HTTP__LISTEN": f"127.0.0.1:{port}"})
    world.place.daemons.append(made)
    return made


def _with_task_dump(variables: dict[str, str]) -> dict[str, str]:
    path = [str(Path(__file__).parent / "processes" / "task_dump"), variables.get("PYTHONPATH", "")]
    return variables | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def stamp() -> str:
    """The time of day, for the diary."""
    return datetime.datetime.now(datetime.UTC).strftime("%H:%M:%S.%f")[:-3]

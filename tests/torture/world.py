"""World: the real things of one history - local AWS, ClickHouse, proxies before both, tables, the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
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
from .processes.clock import PRELOAD, Clock, build_preload
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
    servers: Sequence[TorturedClickHouse]
    """It, and its replicas. Each is to end equal."""
    to_aws: ChaosProxy
    to_clickhouse: ChaosProxy
    fronts: Sequence[ChaosProxy]
    """One before each server, ``to_clickhouse`` before the first."""
    aws: Aws
    place: Place
    names: dict[str, str]
    writes: Writes
    daemon: Daemon
    config: Path
    direct_config: Path
    """The same, without proxies between."""
    direct: dict[str, Any]
    """``[clickhouse]`` of it."""
    stream_arn: str
    password_file: Path
    """Where the daemon finds its password to ClickHouse."""
    entries: list[dict[str, Any]]
    """``[[tables]]`` of the configuration."""
    server_clock: Clock
    daemon_clock: Clock
    cluster: Any = None
    """What replicas have beside: see replicas/world.py."""
    on_cluster: str = ""
    """In statements about tables, where there are replicas."""
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
        for proxy in (self.to_aws, *self.fronts):
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


@dataclass(frozen=True)
class Served:
    """ClickHouse as it was started for a history: one server, or replicas."""

    servers: Sequence[TorturedClickHouse]
    clock: Clock
    """Of the first server."""
    fronts: Sequence[ChaosProxy]
    """One before each server."""
    cluster: Any = None
    """What replicas have beside: see replicas/world.py."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``[clickhouse]``."""
    make_place: Callable[..., Place] = Place

    def keys(self, ports: Sequence[int], database: str) -> dict[str, Any]:
        """``[clickhouse]``, by way of these ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return {"url": f"clickhouse://{USER}@{hosts}/{database}", **self.more}


@contextlib.contextmanager
def make_world(plan: Plan, directory: Path) -> Iterator[World]:
    """Start everything on one ClickHouse."""
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        clock = Clock(build_preload(directory), "server")
        server = TorturedClickHouse(directory / "clickhouse", clock)
        stack.callback(server.kill)
        loop.call(server.start())
        front = make_proxy(loop, stack, server.tcp_port)
        yield furnish(plan, directory, stack, loop, Served([server], clock, [front]))


def furnish(plan: Plan, directory: Path, stack: contextlib.ExitStack, loop: Loop, served: Served) -> World:
    """Start the local AWS, make stream, tables and configuration, write the first items."""
    aws_server = LocalAws(settings={"seed": plan.seed, "ttl_sweep_seconds": 0.5, "export_files": 6})
    loop.call(aws_server.start())
    stack.callback(lambda: loop.call(aws_server.stop()))
    to_aws = make_proxy(loop, stack, urlsplit(aws_server.endpoint_url).port or 80)
    os.environ["AWS_ENDPOINT_URL"] = aws_server.endpoint_url
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    aws = Aws(aws_server.endpoint_url, local=True)
    stack.callback(aws.close)
    for client in (aws.kinesis, aws.dynamodb, aws.s3):
        client.meta.events.register("needs-retry", _ask_again_when_denied)
    place = served.make_place(f"torture{plan.seed}", directory, aws, served.servers[0])
    for server in served.servers:
        ClickHouseHttp(server.http_port).run(f"CREATE DATABASE IF NOT EXISTS {place.name}")
    stream_arn, names = _make_tables(plan, place)
    writes = Writes(aws, plan, names)
    writes.preload()
    for one in plan.tables:
        aws.send_changes(names[one.label], stream_arn, one.precision)
    entries = _entries(plan, place, names)
    direct = served.keys([server.tcp_port for server in served.servers], place.name)
    through = served.keys([front.listening_port for front in served.fronts], place.name)
    config = configure(place, entries, to_aws.url, through, "config")
    daemon_clock = Clock(directory / PRELOAD, "daemon")
    daemon = place.daemon(config)
    daemon.environment = _with_task_dump(daemon.environment) | MASK_KEY | daemon_clock.environment
    stack.callback(_kill_all, place)
    return World(
        plan=plan,
        loop=loop,
        local_aws=aws_server,
        server=served.servers[0],
        servers=served.servers,
        to_aws=to_aws,
        to_clickhouse=served.fronts[0],
        fronts=served.fronts,
        cluster=served.cluster,
        on_cluster=f" ON CLUSTER {served.more['cluster']}" if "cluster" in served.more else "",
        aws=aws,
        place=place,
        names=names,
        writes=writes,
        daemon=daemon,
        config=config,
        direct=direct,
        direct_config=configure(place, entries, aws_server.endpoint_url, direct, "direct"),
        stream_arn=stream_arn,
        password_file=directory / "config.password",
        entries=entries,
        server_clock=served.clock,
        daemon_clock=daemon_clock,
    )


def _make_tables(plan: Plan, place: Place) -> tuple[str, dict[str, str]]:
    stream_arn = place.make_stream(plan.shards)
    names = {one.label: place.make_table(one.label, KEY_SCHEMAS[one.label]) for one in plan.tables}
    place.aws.dynamodb.update_time_to_live(
        TableName=names["sessions"],
        TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
    )
    return stream_arn, names


def _kill_all(place: Place) -> None:
    for daemon in place.daemons:
        daemon.kill()


def make_proxy(loop: Loop, stack: contextlib.ExitStack, port: int) -> ChaosProxy:
    """A proxy before a port of this machine, until the stack is left."""
    proxy = ChaosProxy("127.0.0.1", port)
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
    place: Place, entries: list[dict[str, Any]], aws_url: str, clickhouse: dict[str, Any], label: str, **sections: Any
) -> Path:
    """Write a configuration of this world, with a file for its password. ``clickhouse``: keys that outrank ours."""
    password = place.directory / f"{label}.password"
    password.write_text(PASSWORD)
    return place.configure(
        entries,
        label,
        aws={"endpoint_url": aws_url},
        clickhouse={"password_file": str(password), "insert_timeout_seconds": 2.0} | clickhouse,
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

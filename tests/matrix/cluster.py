"""A cluster of one shard on loopback: replicas over ZooKeeper, and the load balancer before them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from support.processes.harness import ClickHouseHttp, free_port, wait_until
from support.servers.chaos import ChaosProxy
from torture.world import Loop

from .engines import ENGINES, REPLICATED, Engine, NotHere, present
from .server import MatrixServer
from .zookeeper import ZooKeeper, find_jars, find_java

CLUSTER = "main"
SESSION_TIMEOUT_MS = 6_000
POOLS = "<background_schedule_pool_size>16</background_schedule_pool_size>"
"""More tasks than a single server has: each replicated table has some."""


def require_cluster(engine: Engine = ENGINES[REPLICATED]) -> None:
    """Raise NotHere, naming what is missing, where no cluster can be started."""
    find_java()
    find_jars()
    if not present(engine):
        raise NotHere(f"no ClickHouse {engine.name} ({engine.wheel})")


class LoadBalancer(ChaosProxy):
    """Sends new connections to one replica, or to each in turn, passing over those that refuse them."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__("127.0.0.1", ports[0])
        self._ports = list(ports)
        self._target: int | None = 0
        self._turn = 0

    def to(self, number: int) -> None:
        """Send new connections to this replica."""
        self._target = number

    def round_robin(self) -> None:
        """Send each new connection to the next replica."""
        self._target = None

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.port = await self._choose()
        await super()._accept(reader, client)

    async def _choose(self) -> int:
        if self._target is not None:
            return self._ports[self._target]
        for _ in self._ports:
            self._turn += 1
            port = self._ports[self._turn % len(self._ports)]
            try:
                _, writer = await asyncio.open_connection(self.host, port)
            except OSError:
                continue
            writer.transport.abort()
            return port
        return self._ports[0]


class Replica(MatrixServer):
    """One of a cluster's servers."""

    @property
    def http(self) -> ClickHouseHttp:
        """Queries to this replica alone."""
        return ClickHouseHttp(self.http_port)

    def up(self) -> None:
        """Start it, or start it again."""
        asyncio.run(self.start())

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Lose the disk. Only while it is down."""
        shutil.rmtree(self.directory / "data")


class Cluster:
    """Replicas, their ZooKeeper, and a load balancer that begins with the first replica."""

    def __init__(self, directory: Path, replicas: int, engine: Engine = ENGINES[REPLICATED]) -> None:
        self.keeper = ZooKeeper(directory / "zookeeper")
        ports = [(free_port(), free_port(), free_port()) for _ in range(replicas)]
        self.replicas = [
            self._make_replica(
                engine,
                directory / f"r{number}",
                tcp_port=tcp,
                http_port=http,
                extra=_extra(number, between, [tcp for tcp, _, _ in ports], self.keeper.port),
            )
            for number, (tcp, http, between) in enumerate(ports, 1)
        ]
        self.balancer = LoadBalancer([tcp for tcp, _, _ in ports])
        self._loop = Loop()

    def _make_replica(self, engine: Engine, directory: Path, **options: Any) -> Replica:
        return Replica(engine, directory, **options)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Run until left."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._loop.close)
            stack.callback(self.keeper.kill)
            self.keeper.start()
            for replica in self.replicas:
                stack.callback(replica.kill)
            asyncio.run(self._start_replicas())
            serving = self.balancer.running()
            self._loop.call(serving.__aenter__())
            stack.callback(lambda: self._loop.call(serving.__aexit__(None, None, None)))
            yield self

    async def _start_replicas(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for replica in self.replicas:
                tasks.create_task(replica.start())

    @property
    def url(self) -> str:
        """``clickhouse.url`` up to the database, by way of the load balancer."""
        return f"clickhouse://default@127.0.0.1:{self.balancer.listening_port}"

    @property
    def hosts_url(self) -> str:
        """``clickhouse.url`` up to the database, with each replica as a host."""
        return "clickhouse://default@" + ",".join(f"127.0.0.1:{replica.tcp_port}" for replica in self.replicas)

    def everywhere(self, sql: str) -> None:
        """Run a statement on each replica."""
        for replica in self.replicas:
            replica.http.run(sql)

    def move(self, number: int) -> None:
        """Send connections to another replica, and reset those that are open."""
        self._loop.soon(lambda: self.balancer.to(number))
        self.cut()

    def take_turns(self) -> None:
        """Send each connection to the next replica, and reset those that are open."""
        self._loop.soon(self.balancer.round_robin)
        self.cut()

    def cut(self) -> None:
        """Reset the connections that are open."""
        self._loop.soon(self.balancer.reset_connections)

    def await_writable(self, seconds: float = 30.0) -> None:
        """Wait until every replica's tables have their session with ZooKeeper again."""
        sql = "SELECT count() FROM system.replicas WHERE is_readonly OR is_session_expired"
        for replica in self.replicas:
            wait_until(
                lambda http=replica.http: http.number(sql) == 0, seconds, f"{replica.directory.name} is writable"
            )


def _extra(number: int, between: int, ports: Sequence[int], keeper_port: int) -> str:
    """What makes a server a replica."""
    nodes = "".join(f"<replica><host>127.0.0.1</host><port>{port}</port></replica>" for port in ports)
    return (
        f"{POOLS}<interserver_http_host>127.0.0.1</interserver_http_host>"
        f"<interserver_http_port>{between}</interserver_http_port>"
        f"<zookeeper><node><host>127.0.0.1</host><port>{keeper_port}</port></node>"
        f"<session_timeout_ms>{SESSION_TIMEOUT_MS}</session_timeout_ms>"
        "<operation_timeout_ms>5000</operation_timeout_ms></zookeeper>"
        f"<macros><shard>1</shard><replica>r{number}</replica></macros>"
        f"<remote_servers replace='1'><{CLUSTER}><shard><internal_replication>true</internal_replication>{nodes}"
        f"</shard></{CLUSTER}></remote_servers>"
        "<distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>"
        "<default_replica_path>/clickhouse/tables/{uuid}/{shard}</default_replica_path>"
        "<default_replica_name>{replica}</default_replica_name>"
    )

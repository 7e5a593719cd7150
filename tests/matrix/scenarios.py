"""Scenarios: what happens to servers and connections while changes come. Each must end equal on every server.

A scenario may be refused instead, where that is right: then the message is part of the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from support.processes.harness import wait_until

from .cluster import Cluster, Replica
from .rebuild import DROP_REPLICA_SECONDS, copy_tables, forget
from .trial import DATABASE, Refused, Trial


def single(trial: Trial) -> None:
    """A snapshot, changes, the daemon killed and the server restarted in between."""
    (server,) = trial.servers
    trial.start()
    _change(trial, 2.0)
    trial.expect_equal()
    with trial.load():
        time.sleep(1.0)
        trial.daemon.kill()
        asyncio.run(server.stop())
        trial.write_places("second")
        asyncio.run(server.start())
        trial.start()
        time.sleep(1.0)


def smoke(trial: Trial, cluster: Cluster) -> None:
    """A snapshot, changes, a restart of the daemon."""
    trial.start()
    _change(trial, 2.0)
    trial.restart()
    trial.write_places("second")
    _change(trial, 2.0)


def failover(trial: Trial, cluster: Cluster) -> None:
    """The connection moves between replicas under load, and once more while the daemon is down."""
    trial.start()
    with trial.load():
        for number in (1, 0, 1):
            time.sleep(2.0)
            cluster.move(number)
        trial.daemon.kill()
        cluster.move(0)
        trial.start()
        time.sleep(2.0)


def round_robin(trial: Trial, cluster: Cluster) -> None:
    """Each connection is to the next replica, and none lives longer than a second."""
    cluster.take_turns()
    trial.start()
    with trial.load():
        for turn in range(6):
            time.sleep(1.0)
            cluster.cut()
            if turn == 3:
                trial.restart()


def lagging_replica(trial: Trial, cluster: Cluster) -> None:
    """A replica fetches nothing for a while; the daemon is moved to it running, then started on it."""
    trial.start()
    _change(trial, 1.0)
    last = cluster.replicas[-1]
    with trial.load():
        last.http.run("SYSTEM STOP FETCHES")
        time.sleep(3.0)
        cluster.move(len(cluster.replicas) - 1)
        time.sleep(4.0)
        trial.daemon.kill()
        trial.daemon.start()
        time.sleep(4.0)
        last.http.run("SYSTEM START FETCHES")
        wait_until(trial.daemon.ready, 40, f"the daemon is ready: {trial.daemon.tail()}")


def dead_replica(trial: Trial, cluster: Cluster) -> None:
    """One of three replicas dies, with the connection; the daemon goes on, and starts, without it."""
    trial.start()
    with trial.load():
        time.sleep(1.0)
        cluster.replicas[0].kill()
        cluster.move(1)
        time.sleep(3.0)
        trial.restart()
        time.sleep(2.0)
    _expect_of(trial, cluster.replicas[1:])
    with trial.load():
        cluster.replicas[0].up()
        time.sleep(2.0)


def dead_replica_of_two(trial: Trial, cluster: Cluster) -> None:
    """One of two replicas is down for a while: no majority. Whether inserts wait or go on, both end equal."""
    trial.start()
    with trial.load():
        time.sleep(1.0)
        cluster.replicas[1].kill()
        time.sleep(8.0)
        cluster.replicas[1].up()
        time.sleep(2.0)


def dead_keeper(trial: Trial, cluster: Cluster) -> None:
    """ZooKeeper is killed, and back once all sessions are over."""
    trial.start()
    with trial.load():
        time.sleep(1.0)
        cluster.keeper.kill()
        time.sleep(8.0)
        cluster.keeper.start()
        cluster.await_writable()


def frozen_keeper(trial: Trial, cluster: Cluster) -> None:
    """ZooKeeper stands still for longer than its sessions last."""
    trial.start()
    with trial.load():
        time.sleep(1.0)
        cluster.keeper.freeze()
        time.sleep(9.0)
        cluster.keeper.thaw()
        cluster.await_writable()


def rebuilt_replica(trial: Trial, cluster: Cluster) -> None:
    """A replica lost its disk and joins with nothing: refused until its tables are those of the others."""
    trial.start()
    _change(trial, 1.0)
    trial.expect_equal()
    trial.daemon.kill()
    first, second = cluster.replicas
    second.kill()
    second.wipe()
    wait_until(lambda: forget(first, "r2", DATABASE), DROP_REPLICA_SECONDS, "r2 is dropped", pause_seconds=0.5)
    second.up()
    second.http.run(f"CREATE DATABASE {DATABASE}")
    refusal = trial.start_or_refuse()
    if refusal:
        trial.notes.append(f"refused: {refusal}")
        copy_tables(first, second, DATABASE)
        trial.start()
    _change(trial, 1.0)


def replicated_database(trial: Trial, cluster: Cluster) -> None:
    """The database replicates its tables by itself, and ``clickhouse.cluster`` is not set."""
    trial.cluster = ""
    refusal = trial.start_or_refuse()
    if refusal:
        raise Refused(refusal)
    _change(trial, 2.0)
    cluster.move(1)
    trial.restart()
    _change(trial, 1.0)


def lagging_host(trial: Trial, cluster: Cluster) -> None:
    """Of two hosts the first dies, and the second lacks what it alone acknowledged: the daemon waits for it.

    Without a quorum, which would not let a replica lack what was acknowledged.
    """
    _leave_others_behind(trial, cluster)
    with trial.load(), _says(trial, "waiting for this replica of dyncdc_"):
        _lose_first(cluster)
    with trial.load(), _says(trial, "waiting for this replica of dyncdc_"):
        trial.daemon.kill()
        trial.daemon.start()
    assert not trial.daemon.ready(), "it goes on from what the second host has"
    cluster.replicas[0].up()
    wait_until(trial.daemon.ready, 60, f"the daemon is ready: {trial.daemon.tail()}")


def lost_host(trial: Trial, cluster: Cluster) -> None:
    """As with a lagging host, but the first is lost with what it alone had: that is read again, and said."""
    _leave_others_behind(trial, cluster)
    second = cluster.replicas[1]
    with trial.load(), _says(trial, "ClickHouse went back"):
        with _says(trial, "waiting for this replica of dyncdc_"):
            _lose_first(cluster)
        wait_until(lambda: forget(second, "r1", DATABASE), DROP_REPLICA_SECONDS, "r1 is dropped", pause_seconds=0.5)
    wait_until(trial.daemon.ready, 60, f"the daemon is ready: {trial.daemon.tail()}")
    trial.servers = cluster.replicas[1:]


def _leave_others_behind(trial: Trial, cluster: Cluster) -> None:
    """Let the first host acknowledge checkpoints, and rows before them, that the others have not fetched."""
    first, *others = cluster.replicas
    trial.start()
    _change(trial, 1.0)
    for other in others:
        other.http.run("SYSTEM STOP FETCHES")
    _change(trial, 3.0)
    newest = f"SELECT max(rank) FROM {DATABASE}.dyncdc_checkpoints"
    assert all(first.http.number(newest) > other.http.number(newest) for other in others), "they lack checkpoints"


def _lose_first(cluster: Cluster) -> None:
    """Kill the first host. The others fetch again, from each other."""
    first, *others = cluster.replicas
    first.kill()
    for other in others:
        other.http.run("SYSTEM START FETCHES")


@contextlib.contextmanager
def _says(trial: Trial, words: str, seconds: float = 60.0) -> Iterator[None]:
    """Wait, after the block, until the daemon has logged these words since it was entered."""
    start = len(trial.daemon.log.read_bytes())
    yield
    wait_until(lambda: words.encode() in trial.daemon.log.read_bytes()[start:], seconds, f"the log says: {words}")


def _change(trial: Trial, seconds: float) -> None:
    with trial.load():
        time.sleep(seconds)


def _expect_of(trial: Trial, replicas: list[Replica]) -> None:
    everyone, trial.servers = trial.servers, replicas
    trial.expect_equal()
    trial.servers = everyone


@dataclass(frozen=True)
class Replicated:
    """A scenario of a cluster. ``database_engine``: of the database on each replica, when not the usual.

    ``hosts``: the daemon knows each replica by its address, instead of the load balancer. ``options``: see ``Trial``.
    """

    run: Callable[[Trial, Cluster], None]
    replicas: int
    database_engine: str = ""
    hosts: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


SINGLE: Final = "single"
REPLICATED: Final[Mapping[str, Replicated]] = {
    "smoke": Replicated(smoke, 2),
    "failover": Replicated(failover, 2),
    "round robin": Replicated(round_robin, 3),
    "lagging replica": Replicated(lagging_replica, 3),
    "dead replica": Replicated(dead_replica, 3),
    "dead replica of two": Replicated(dead_replica_of_two, 2),
    "dead keeper": Replicated(dead_keeper, 2),
    "frozen keeper": Replicated(frozen_keeper, 2),
    "one replica": Replicated(smoke, 1),
    "lagging host": Replicated(lagging_host, 2, hosts=True, options={"insert_quorum": "off"}),
    "lost host": Replicated(lost_host, 3, hosts=True, options={"insert_quorum": "off"}),
    "rebuilt replica": Replicated(rebuilt_replica, 2),
    "Replicated database": Replicated(
        replicated_database, 2, f"Replicated('/clickhouse/databases/{DATABASE}', '{{shard}}', '{{replica}}')"
    ),
}
SCENARIOS: Final = (SINGLE, *REPLICATED)

"""Scenarios: what happens to servers and connections while changes come. Each must end equal on every server.

A scenario may be refused instead, where that is right: then the message is part of the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

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


def _change(trial: Trial, seconds: float) -> None:
    with trial.load():
        time.sleep(seconds)


def _expect_of(trial: Trial, replicas: list[Replica]) -> None:
    everyone, trial.servers = trial.servers, replicas
    trial.expect_equal()
    trial.servers = everyone


@dataclass(frozen=True)
class Replicated:
    """A scenario of a cluster. ``database_engine``: of the database on each replica, when not the usual."""

    run: Callable[[Trial, Cluster], None]
    replicas: int
    database_engine: str = ""


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
    "rebuilt replica": Replicated(rebuilt_replica, 2),
    "Replicated database": Replicated(
        replicated_database, 2, f"Replicated('/clickhouse/databases/{DATABASE}', '{{shard}}', '{{replica}}')"
    ),
}
SCENARIOS: Final = (SINGLE, *REPLICATED)

"""World of replicas: a cluster in the place of the one ClickHouse, and a proxy before each replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrix.cluster import CLUSTER, Cluster, Replica
from matrix.engines import ENGINES, REPLICATED, Engine
from support.processes.harness import ClickHouseHttp
from support.servers.place import Place

from .. import world as single
from ..plan import Plan
from ..processes.clickhouse import TorturedClickHouse
from ..processes.clock import Clock, build_preload

INSERT_SECONDS = 4.0
"""A majority takes longer than one server."""
DDL_SETTINGS = "&distributed_ddl_task_timeout=5&distributed_ddl_output_mode=null_status_on_timeout_only_active"
"""For statements of our own: they do not wait for a replica that is down."""


class TorturedReplica(Replica, TorturedClickHouse):
    """A replica with a clock of its own and a daemon's user with a profile."""


class TorturedCluster(Cluster):
    """``absent``: replicas that a person would not ask just now."""

    def __init__(self, directory: Path, replicas: int, preload: Path, database: str) -> None:
        self._preload = preload
        self._database = database
        self.clocks: list[Clock] = []
        super().__init__(directory, replicas, ENGINES[REPLICATED])
        self.absent: set[Replica] = set()

    def _make_replica(self, engine: Engine, directory: Path, **options: Any) -> Replica:
        clock = Clock(self._preload, directory.name)
        self.clocks.append(clock)
        return TorturedReplica(engine, directory, clock=clock, database=self._database, **options)

    @property
    def present(self) -> list[Replica]:
        """Replicas that can be asked, as far as is known."""
        return [replica for replica in self.replicas if replica not in self.absent]

    @contextlib.contextmanager
    def without(self, replica: Replica) -> Iterator[None]:
        """Ask others while the block runs."""
        self.absent.add(replica)
        try:
            yield
        finally:
            self.absent.discard(replica)


@dataclass(frozen=True)
class PresentHttp(ClickHouseHttp):
    """Queries to one of those that are present at the time, over the same path."""

    cluster: TorturedCluster | None = None

    def _ask(self, sql: str, settings: str = "") -> bytes:
        assert self.cluster is not None
        replica = self.cluster.present[0]
        return ClickHouseHttp(replica.http_port, self.database)._ask(sql, settings + DDL_SETTINGS)


class ReplicatedPlace(Place):
    """Asks the replicas that are present."""

    cluster: TorturedCluster

    @property
    def clickhouse(self) -> ClickHouseHttp:
        """The history's database."""
        return PresentHttp(0, self.name, cluster=self.cluster)


@contextlib.contextmanager
def make_world(plan: Plan, directory: Path) -> Iterator[single.World]:
    """Start everything on a cluster."""
    with contextlib.ExitStack() as stack:
        loop = single.Loop()
        stack.callback(loop.close)
        preload = build_preload(directory)
        cluster = TorturedCluster(directory, plan.replicas, preload, f"torture{plan.seed}")
        stack.enter_context(cluster.running())
        fronts = [single.make_proxy(loop, stack, replica.tcp_port) for replica in cluster.replicas]

        def make_place(*arguments: Any) -> Place:
            place = ReplicatedPlace(*arguments)
            place.cluster = cluster
            return place

        keys = {"cluster": CLUSTER, "insert_timeout_seconds": INSERT_SECONDS}
        served = single.Served(cluster.replicas, cluster.clocks[0], fronts, cluster, keys, make_place)
        yield single.furnish(plan, directory, stack, loop, served)

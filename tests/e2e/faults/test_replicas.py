"""Replicas over ZooKeeper, shortly: ``make matrix`` has the scenarios. Skipped where what they need is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from matrix.cluster import Cluster, require_cluster
from matrix.engines import ENGINES, REPLICATED, NotHere
from matrix.running import on_cluster
from matrix.scenarios import Replicated, smoke
from matrix.trial import Trial
from support.servers.aws import Aws


@pytest.fixture
def replicas(aws: Aws, forking: None, tmp_path: Path) -> Iterator[tuple[Trial, Cluster]]:
    """Two replicas, and tables with their first items."""
    try:
        require_cluster()
    except NotHere as missing:
        pytest.skip(f"no replicas: {missing}")
    with on_cluster(aws, "replicas", tmp_path, Replicated(smoke, 2), ENGINES[REPLICATED]) as started:
        yield started


@pytest.mark.timeout(200)
def test_every_replica_ends_equal_after_the_connection_moved(replicas: tuple[Trial, Cluster]) -> None:
    trial, cluster = replicas
    trial.start()
    with trial.load():
        time.sleep(0.5)
        cluster.move(1)
        time.sleep(1.0)
    trial.expect_equal()
    assert trial.changes > 0

"""Running one scenario: its servers, its tables, its story, and the comparison at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.servers.aws import Aws
from support.servers.place import Place

from .cluster import CLUSTER, Cluster
from .engines import ENGINES, Engine
from .outcome import Outcome
from .scenarios import REPLICATED, Replicated, single
from .server import MatrixServer
from .trial import DATABASE, Server, Trial


def run_scenario(aws: Aws, scenario: str, directory: Path, outcome: Outcome) -> None:
    """Run it on ``outcome.engine`` to its end. Raises Refused, or AssertionError for a difference."""
    engine, name = ENGINES[outcome.engine], scenario.replace(" ", "-").lower()
    if scenario not in REPLICATED:
        with on_server(aws, name, directory, engine) as trial:
            outcome.notes = trial.notes
            single(trial)
            finished(trial)
    else:
        story = REPLICATED[scenario]
        with on_cluster(aws, name, directory, story, engine) as (trial, cluster):
            outcome.notes = trial.notes
            story.run(trial, cluster)
            finished(trial)
    outcome.changes = trial.changes


@contextlib.contextmanager
def on_server(aws: Aws, name: str, directory: Path, engine: Engine) -> Iterator[Trial]:
    """A trial of one server."""
    with contextlib.ExitStack() as stack:
        server = MatrixServer(engine, directory / "clickhouse", database=DATABASE)
        stack.callback(server.kill)
        asyncio.run(server.start())
        place = Place(name, directory, aws, server)
        yield trial_of(place, [server], server.address, stack)


@contextlib.contextmanager
def on_cluster(
    aws: Aws, name: str, directory: Path, story: Replicated, engine: Engine
) -> Iterator[tuple[Trial, Cluster]]:
    """A trial of a cluster."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(directory, story.replicas, engine).running())
        kind = f" ENGINE = {story.database_engine}" if story.database_engine else ""
        cluster.everywhere(f"CREATE DATABASE {DATABASE}{kind}")
        url = cluster.hosts_url if story.hosts else cluster.url
        trial = trial_of(Place(name, directory, aws, cluster.replicas[0]), cluster.replicas, url, stack)
        trial.cluster, trial.options = CLUSTER, story.options
        yield trial, cluster


def trial_of(place: Place, servers: Sequence[Server], url: str, stack: contextlib.ExitStack, **more: Any) -> Trial:
    """A trial with its tables. What it starts and makes goes with the stack, but for what is in the servers."""
    trial = Trial(place, servers, url, **more)
    stack.callback(_leave, place)
    trial.make_tables()
    return trial


def _leave(place: Place) -> None:
    """Kill the daemons and drop what others of this AWS could see; the servers go with their data."""
    for daemon in place.daemons:
        daemon.kill()
    for stream in place.streams:
        place.aws.kinesis.delete_stream(StreamName=stream)
    for table in place.tables:
        place.aws.dynamodb.delete_table(TableName=table)


def finished(trial: Trial) -> None:
    """Compare every server, and see that the daemon is at work still."""
    trial.expect_equal()
    assert trial.daemon.running, f"the daemon has ended: {trial.daemon.tail()}"
    trial.verify()

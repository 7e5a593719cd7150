"""A server of a cluster of two shards: what would spread rows over them is refused. Skipped without its wheel."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matrix.engines import ENGINES, REPLICATED, present
from matrix.running import trial_of
from matrix.server import MatrixServer
from matrix.trial import DATABASE, Trial
from support.processes.harness import free_port
from support.servers.aws import Aws
from support.servers.place import Place

SHARDED = "sharded"


@pytest.fixture
def trial(aws: Aws, forking: None, tmp_path: Path) -> Iterator[Trial]:
    """One server, which takes itself for both shards."""
    if not present(ENGINES[REPLICATED]):
        pytest.skip(f"no ClickHouse {REPLICATED}")
    port = free_port()
    shard = f"<shard><replica><host>127.0.0.1</host><port>{port}</port></replica></shard>"
    extra = f"<remote_servers><{SHARDED}>{shard}{shard}</{SHARDED}></remote_servers>"
    server = MatrixServer(ENGINES[REPLICATED], tmp_path / "r", tcp_port=port, database=DATABASE, extra=extra)
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        asyncio.run(server.start())
        yield trial_of(Place("shards", tmp_path, aws, server), [server], server.address, stack)


def refused(trial: Trial, label: str, **clickhouse: Any) -> tuple[str, str]:
    """What ``check`` and ``run --once`` say against it."""
    config = str(trial.configure(label, trial.url, **clickhouse))
    found = trial.place.command("check", "--json", "-c", config)
    errors = [one for one in json.loads(found.out)["findings"] if one["level"] == "error"]
    ended = trial.place.command("run", "--once", "-c", config)
    assert found.code and ended.code, "neither is content"
    return " ".join("{text} {todo}".format(**each) for each in errors), ended.err


@pytest.mark.timeout(200)
def test_what_would_spread_rows_over_shards_is_refused_by_name(trial: Trial) -> None:
    for said in refused(trial, "cluster", cluster=SHARDED):
        assert "it has 2 shards" in said and "docs/clickhouse.md#clusters-of-several-shards" in said
    server = trial.servers[0].queries(DATABASE)
    assert not server.tables(), "nothing was made"
    server.run(
        "CREATE TABLE shard (pk String, n Int64, _version Int64) ENGINE = ReplacingMergeTree(_version) ORDER BY (pk, n)"
    )
    server.run(f"CREATE TABLE items AS shard ENGINE = Distributed({SHARDED}, {DATABASE}, shard, cityHash64(pk))")
    for said in refused(trial, "destination"):
        assert "its engine is Distributed" in said and "docs/clickhouse.md#clusters-of-several-shards" in said
    server.run("DROP TABLE items")
    server.run(f"CREATE TABLE dyncdc_checkpoints AS shard ENGINE = Distributed({SHARDED}, {DATABASE}, shard)")
    for said in refused(trial, "own"):
        assert "dyncdc_checkpoints (Distributed)" in said

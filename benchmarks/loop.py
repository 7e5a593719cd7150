"""The whole loop: records of a local Kinesis over HTTP into ClickHouse, by the daemon and by other builds."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from results import Result
from rig import DDL, BenchmarkFailed, Rig, Usage, measured
from support.processes.harness import die_with_parent

HERE = Path(__file__).parent
PEERS = ("obvious", "boto3_script", "async_kinesis")

POLL_SECONDS = 0.2
"""A shard gives 5 reads a second, all consumers together. Other builds pause only where there is nothing to read."""

WORKER_SHARDS = 32
NAME = "whole_loop_1kb"


def daemon_usage(rig: Rig, label: str, stream: str, nested: str = "plain", workers: int = 1) -> Usage:
    """What the daemon takes for a stream that is full when it begins. Verifies what landed."""
    daemon = rig.daemon(
        label, stream, nested, kinesis={"poll_interval_seconds": POLL_SECONDS}, limits={"workers": workers}
    )
    with rig.held(), rig.settled(daemon):
        usage = measured(rig, daemon.pid, label, stream)
    rig.verify(label, stream, nested)
    return usage


def peer_usage(rig: Rig, python: str, peer: str, stream: str) -> Usage:
    """The same of a contender."""
    table = f"peer_{peer}_{stream}"
    rig.clickhouse.run(DDL.format(table=table))
    server, expected = rig.place.server, rig.expected[stream]
    arguments = {
        "--endpoint": rig.local_aws.endpoint_url,
        "--stream": stream,
        "--database": rig.place.name,
        "--table": table,
        "--http-port": server.http_port,
        "--tcp-port": server.tcp_port,
        "--records": expected.rows,
    }
    command = [python, str(HERE / "contenders" / f"{peer}.py"), *(str(x) for pair in arguments.items() for x in pair)]
    with (
        rig.held(),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
        ) as process,
    ):
        assert process.stdout is not None and process.stdin is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise BenchmarkFailed(f"{peer} did not start")
            usage = measured(rig, process.pid, table, stream)
        finally:
            process.stdin.close()
            process.kill()
    rig.verify(table, stream)
    return usage


def result(name: str, contender: str, usage: Usage) -> Result:
    """Usage as a result."""
    return Result(name, contender, usage.us_per_record, 1e6 / usage.us_per_record, usage.peak_mb)


def best(usages: Sequence[Usage]) -> Usage:
    """The cheapest of some repetitions: others on the machine only ever add."""
    return min(usages, key=lambda usage: usage.us_per_record)


def whole_loop(rig: Rig, python: str, streams: dict[str, str], repeats: int) -> list[Result]:
    """All contenders; ``ratio``: how many times the CPU time of the obvious build's the contender's is faster."""
    full, part = streams["full"], streams["part"]
    found: dict[str, list[Usage]] = {}
    for number in range(repeats):
        for contender, nested in (("dyncdc", "plain"), ("dyncdc_typed", "typed")):
            found.setdefault(contender, []).append(daemon_usage(rig, f"loop_{nested}_{number}", full, nested))
    found["obvious"] = [_again(rig, python, "obvious", full) for _ in range(repeats)]
    for peer in PEERS[1:]:
        found[peer] = [_again(rig, python, peer, part)]
    made = [result(NAME, contender, best(usages)) for contender, usages in found.items()]
    obvious = next(one for one in made if one.contender == "obvious")
    for one in made:
        one.ratio = obvious.us_cpu_per_record / one.us_cpu_per_record
    return made


def _again(rig: Rig, python: str, peer: str, stream: str) -> Usage:
    rig.clickhouse.run(f"DROP TABLE IF EXISTS peer_{peer}_{stream} SYNC")
    return peer_usage(rig, python, peer, stream)


def workers(rig: Rig, stream: str) -> list[Result]:
    """One worker against two. ``ratio``: records/s that the busier of the two allows, against one alone.

    Both need a core of their own for that: on a small machine the servers take theirs from the wall clock.
    """
    one = best([daemon_usage(rig, f"workers_1_{number}", stream) for number in range(2)])
    two = best([daemon_usage(rig, f"workers_2_{number}", stream, workers=2) for number in range(2)])
    made = [result("workers", "dyncdc_1", one), result("workers", "dyncdc_2", two)]
    made[1].ratio = max(one.cpu) / max(two.cpu)
    made[1].details = {"wall_ratio": one.seconds / two.seconds, "cpu_by_process": list(two.cpu)}
    made[1].records_per_second_per_core = two.records / max(two.cpu)
    return made

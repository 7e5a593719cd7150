"""The rig: a local AWS and a real ClickHouse as processes of their own, daemons on them, and what those cost.

A stream is filled first and *held*: GetRecords answers empty. Everything is started, then the stream is *released*; CPU
time counts from there to the last row, of the whole process and its children, by the kernel's own accounts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from events import KEYS, TABLE, Expected
from support.processes.harness import ClickHouseHttp, Daemon, resident_bytes, running
from support.servers.aws import Aws
from support.servers.place import Place

from dyncdc.emulator.aws import LocalAws
from dyncdc.emulator.clickhouse import LocalClickHouse

DATABASE = "bench"
PUT_RECORDS = 500
MIB = 2**20
QUIET_SECONDS = 2.0
"""How long a daemon that is ready settles before its CPU time is read."""

SCALARS = (
    ("pk", "String", "S"),
    ("sk", "Int64", "N"),
    ("status", "Nullable(String)", "S"),
    ("amount", "Nullable(Decimal(18, 2))", "N"),
    ("qty", "Nullable(Int64)", "N"),
    ("score", "Nullable(Float64)", "N"),
    ("active", "Nullable(Bool)", "BOOL"),
    ("deleted_at", "Nullable(String)", "S"),
)
NESTED = (("address", "M"), ("items", "L"))

CITY_PATHS = {"plain": "'city'", "typed": "'M', 'city', 'S'"}

DDL = f"""CREATE TABLE {{table}} ({", ".join(f"{name} {kind}" for name, kind, _ in SCALARS)}, address Nullable(String),
items Nullable(String), tags Array(String), blob Nullable(String), _version UInt64, _deleted UInt8)
ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY (pk, sk)"""


class BenchmarkFailed(Exception):
    """What landed is wrong, or did not land: there is no figure."""


def columns(nested: str) -> list[dict[str, str]]:
    """The destination's columns. ``nested``: ``plain`` JSON, or DynamoDB's ``typed`` JSON, of maps and lists."""
    encoding = {"encoding": "typed"} if nested == "typed" else {}
    return [
        *({"attribute": name, "type": kind, "from": takes} for name, kind, takes in SCALARS),
        *({"attribute": name, "type": "Nullable(String)", "from": takes} | encoding for name, takes in NESTED),
        {"attribute": "tags", "type": "Array(String)", "from": "SS"},
        {"attribute": "blob", "type": "Nullable(String)", "from": "B", "encoding": "raw"},
    ]


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of one process so far, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """What a process took for some records. ``cpu`` by process; ``peak_mb`` of the largest one, since its start."""

    records: int
    cpu: Sequence[float]
    seconds: float
    peak_mb: float

    @property
    def us_per_record(self) -> float:
        """CPU microseconds for a record."""
        return sum(self.cpu) * 1e6 / self.records


@dataclass
class Rig:
    """Servers, and a place of the end-to-end tests on them."""

    place: Place
    runner: asyncio.Runner
    local_aws: LocalAws
    expected: dict[str, Expected] = field(default_factory=dict)
    arns: dict[str, str] = field(default_factory=dict)
    directed: str = ""

    @property
    def clickhouse(self) -> ClickHouseHttp:
        """Queries."""
        return self.place.clickhouse

    def make_stream(self, name: str, shards: int) -> None:
        """Make an empty stream."""
        arn = self.place.aws.make_stream(name, shards)
        self.place.streams.append(name)
        self.arns[name] = arn
        if not self.place.tables:
            self.place.aws.make_table(TABLE, KEYS)
            self.place.tables.append(TABLE)

    def _direct(self, stream: str) -> None:
        """Send the table's changes to this stream alone: a daemon asks for that, a table has two at most."""
        dynamodb, arn = self.place.aws.dynamodb, self.arns[stream]
        if self.directed == arn:
            return
        if self.directed:
            dynamodb.disable_kinesis_streaming_destination(TableName=TABLE, StreamArn=self.directed)
        self.place.aws.send_changes(TABLE, arn)
        self.directed = arn

    def fill(self, name: str, made: Sequence[bytes], expected: Expected | None = None) -> None:
        """Write records into a stream, spread over its shards. Unsigned: the local AWS does not look."""
        address = urlsplit(self.local_aws.endpoint_url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        headers = {
            "X-Amz-Target": "Kinesis_20131202.PutRecords",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request",
        }
        for start in range(0, len(made), PUT_RECORDS):
            records = [
                {"Data": base64.b64encode(data).decode(), "PartitionKey": str(start + number)}
                for number, data in enumerate(made[start : start + PUT_RECORDS])
            ]
            connection.request("POST", "/", json.dumps({"StreamName": name, "Records": records}), headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != 200 or content["FailedRecordCount"]:
                raise BenchmarkFailed(f"filling {name}: {answer.status} {content}")
        connection.close()
        if expected is not None:
            self.expected[name] = expected

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer every GetRecords with nothing while the block runs."""
        self.runner.run(self.local_aws.inject("GetRecords", [{"empty": True}], probability=1.0))
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let GetRecords answer what is there."""
        self.runner.run(self.local_aws.clear_faults())

    def calls(self) -> Mapping[str, int]:
        """Calls of each operation so far."""
        return self.runner.run(self.local_aws.calls())

    def daemon(self, label: str, stream: str, nested: str = "plain", **sections: Any) -> Daemon:
        """A daemon that is not started: changes of ``stream`` into a table named ``label``."""
        self._direct(stream)
        entry = {
            "dynamodb": TABLE,
            "clickhouse": label,
            "snapshot": {"method": "none"},
            "columns": columns(nested),
            "evolve": "spill",
        }
        document = {"kinesis": {"stream": stream}, "batch": {}, "checkpoint": {}} | sections
        document["kinesis"] = {"stream": stream, "poll_interval_seconds": 0.25} | document["kinesis"]
        document["batch"] = {"max_age_seconds": 1.0} | document["batch"]
        document["checkpoint"] = {"interval_seconds": 1.0}
        document["pipeline"] = label.replace("_", "-")
        return self.place.daemon(self.place.configure([entry], label, **document))

    @contextmanager
    def settled(self, daemon: Daemon) -> Iterator[Daemon]:
        """A daemon that runs and has nothing to do."""
        with running(daemon):
            time.sleep(QUIET_SECONDS)
            yield daemon

    def await_rows(self, table: str, rows: int, seconds: float = 120.0) -> None:
        """Wait until so many rows are in a table."""
        end = time.monotonic() + seconds
        while (found := self.clickhouse.number(f"SELECT count() FROM {table}")) < rows:
            if time.monotonic() > end:
                raise BenchmarkFailed(f"{table} has {found} of {rows} rows after {seconds:g} s")
            time.sleep(0.02)

    def verify(self, table: str, stream: str, nested: str = "plain") -> None:
        """Compare what landed with what was sent: rows, and a sum over every kind of column."""
        expected = self.expected[stream]
        (found,) = self.clickhouse.rows(
            "SELECT uniqExact(pk, sk), sum(_deleted), toString(sum(amount)), sum(qty), sum(length(tags)),"
            f" sum(length(blob)), sum(length(JSONExtractString(address, {CITY_PATHS[nested]}))) FROM {table}"
        )
        wanted = [
            *(expected.rows, expected.deleted, expected.amount, expected.quantity),
            *(expected.tags, expected.blob_bytes, expected.city_bytes),
        ]
        if [float(str(one)) for one in found] != [float(one) for one in wanted]:
            raise BenchmarkFailed(f"{table} holds {found}, not {wanted}")


def measured(rig: Rig, pid: int, table: str, stream: str) -> Usage:
    """Release the stream; return what the process and its children take until every row is there."""
    rows = rig.expected[stream].rows
    pids = process_tree(pid)
    before = [cpu_seconds(one) for one in pids]
    began = time.monotonic()
    rig.release()
    rig.await_rows(table, rows)
    seconds = time.monotonic() - began
    cpu = [cpu_seconds(one) - start for one, start in zip(pids, before, strict=True)]
    return Usage(rows, cpu, seconds, max(resident_bytes(one, "VmHWM") for one in pids) / MIB)


@contextmanager
def open_servers(database: str) -> Iterator[tuple[Place, asyncio.Runner, LocalAws]]:
    """Start the servers, with a database; stop them, and remove what they wrote, at the end."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dyncdc-bench-")))
        runner = stack.enter_context(asyncio.Runner())
        local_aws, server = LocalAws(), LocalClickHouse(directory / "clickhouse")
        stack.callback(lambda: runner.run(local_aws.stop()))
        stack.callback(server.kill)
        runner.run(local_aws.start())
        runner.run(server.start())
        os.environ |= {
            "AWS_ENDPOINT_URL": local_aws.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        aws = Aws(local_aws.endpoint_url, local=True)
        stack.callback(aws.close)
        ClickHouseHttp(server.http_port).run(f"CREATE DATABASE {database}")
        yield Place(database, directory, aws, server), runner, local_aws


@contextmanager
def open_rig() -> Iterator[Rig]:
    """A rig on servers of its own."""
    with open_servers(DATABASE) as (place, runner, local_aws):
        yield Rig(place, runner, local_aws)

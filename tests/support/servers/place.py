"""Place: what one test calls its own - names, a database, a stream, tables, configurations, daemons."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyncdc.emulator.clickhouse import LocalClickHouse
from support.processes.harness import ClickHouseHttp, Daemon, Ended, command, environment, free_port

from .aws import REGION, Aws


@dataclass
class Place:
    """Everything is made under ``name``, so that tests share servers and nothing else."""

    name: str
    directory: Path
    aws: Aws
    server: LocalClickHouse
    daemons: list[Daemon] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    @property
    def clickhouse(self) -> ClickHouseHttp:
        """The test's database."""
        return ClickHouseHttp(self.server.http_port, self.name)

    @property
    def url(self) -> str:
        """The test's database, as ``clickhouse.url`` takes it."""
        return f"clickhouse://default@127.0.0.1:{self.server.tcp_port}/{self.name}"

    @property
    def bucket(self) -> str:
        """A bucket for exports; made at the first use."""
        name = f"exports-{self.name}"
        self.aws.s3.create_bucket(Bucket=name)
        return name

    def make_stream(self, shards: int = 1) -> str:
        """Make a stream of the test's name; return its ARN."""
        self.streams.append(self.name)
        return self.aws.make_stream(self.name, shards)

    def make_table(self, label: str, keys: Mapping[str, str], stream_arn: str = "", **streaming: str) -> str:
        """Make a table, sending its changes to the stream when that is given; return the table's name."""
        table = f"{self.name}.{label}"
        self.aws.make_table(table, keys)
        self.tables.append(table)
        if stream_arn:
            self.aws.send_changes(table, stream_arn, **streaming)
        return table

    def entry(self, table: str, **options: Any) -> dict[str, Any]:
        """One [[tables]] entry: loaded by an export unless ``snapshot`` says otherwise, named by its label."""
        export = {"method": "export", "bucket": self.bucket, "settle_seconds": 0.5} if "snapshot" not in options else {}
        return {"dynamodb": table, "clickhouse": table.rpartition(".")[2], "snapshot": export, **options}

    def configure(self, tables: Sequence[Mapping[str, Any]], label: str = "config", **sections: Any) -> Path:
        """Write a configuration; ``sections`` outrank the defaults made here, key by key."""
        document: dict[str, Any] = {
            "pipeline": self.name,
            "aws": {"region": REGION, "endpoint_url": self.aws.endpoint_url},
            "clickhouse": {"url": self.url},
            "kinesis": {"stream": self.name, "poll_interval_seconds": 0.1},
            "batch": {"max_age_seconds": 0.2},
            "checkpoint": {"interval_seconds": 0.2},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "tables": list(tables),
        }
        for section, content in sections.items():
            document[section] = document.get(section, {}) | content if isinstance(content, Mapping) else content
        file = self.directory / f"{label}.toml"
        file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in document.items()))
        return file

    def daemon(self, config: Path, *arguments: str) -> Daemon:
        """A daemon for a configuration, not started; killed after the test."""
        listen = next(line for line in config.read_text().splitlines() if line.startswith("http = "))
        made = Daemon(config, int(listen.rpartition(":")[2].rstrip('" }')), environment(), arguments)
        self.daemons.append(made)
        return made

    def command(self, *arguments: str, seconds: float = 60.0) -> Ended:
        """Run a ``dyncdc`` command to its end."""
        return command(*arguments, environment=environment(), seconds=seconds)

    @contextlib.contextmanager
    def freeze_clickhouse(self) -> Iterator[None]:
        """SIGSTOP the server while the block runs: connections stay open and nothing answers."""
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    def leave(self) -> None:
        """Kill the daemons and drop what was made."""
        for daemon in self.daemons:
            daemon.kill()
        for stream in self.streams:
            self.aws.kinesis.delete_stream(StreamName=stream)
        for table in self.tables:
            self.aws.dynamodb.delete_table(TableName=table)
        if self.server.running:
            self.clickhouse.run(f"DROP DATABASE IF EXISTS {self.name} SYNC")


def toml(value: Any) -> str:
    """Return a value as TOML: what JSON and TOML have in common, and inline tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return json.dumps(value)

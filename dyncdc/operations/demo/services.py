"""Everything the demo runs on: the local AWS, a ClickHouse, clients for both, and a configuration for the daemon."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from dyncdc.emulator.aws import LocalAws
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.emulator.own_user import SECRET_PLACE
from dyncdc.errors import ConfigError, DyncdcError
from dyncdc.operations.demo.workload.dynamodb import DynamoDBWriter, open_writer
from dyncdc.sources.clients import AwsClients, open_clients

from .seed import BUCKET, STREAM, TABLES

DAEMON_LOG: Final = "daemon.log"
REGION: Final = "us-east-1"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}  # the local AWS takes any
_FOREIGN: Final = ("AWS_", "DYNCDC_")
"""Variables of the user's own setup that would lead the demo, or the daemon, away from the local kit."""

_CONFIG: Final = """\
# Written by `dyncdc demo`: a complete configuration, against a local AWS and a local ClickHouse.
pipeline = "demo"

[aws]
region = "{region}"
endpoint_url = "{endpoint_url}"

[clickhouse]
url = "{clickhouse_url}"
password_file = "{password_file}"

[kinesis]
stream = "{stream}"

[http]
listen = "127.0.0.1:{http_port}"
"""
_TABLE: Final = """
[[tables]]
dynamodb = "{table}"
# the local export's time is exact, so that it need not lie a minute behind the stream's start, as in AWS
snapshot = {{ method = "export", bucket = "{bucket}", settle_seconds = 1 }}
"""


@dataclass(frozen=True, slots=True)
class Kit:
    """What is open while the demo runs."""

    directory: Path
    config_file: Path
    log_file: Path
    metrics_url: str
    local_aws: LocalAws
    clickhouse: LocalClickHouse
    aws: AwsClients
    writer: DynamoDBWriter
    http: aiohttp.ClientSession

    @property
    def clickhouse_http(self) -> str:
        """ClickHouse's HTTP address, as one would give it to curl."""
        return f"http://127.0.0.1:{self.clickhouse.http_port}/?database={self.clickhouse.database}"


@asynccontextmanager
async def open_kit(directory: Path | None) -> AsyncIterator[Kit]:
    """Start both servers and write the configuration. A temporary directory is removed at the end, a given one stays.

    Raises ConfigError: the directory is not empty, or the extra ``local`` is not installed; FatalError.
    """
    with _directory(directory) as place, _environment(CREDENTIALS):
        async with (
            LocalClickHouse(place / "clickhouse", secret=True) as clickhouse,
            LocalAws() as local_aws,
            open_clients(REGION, endpoint_url=local_aws.endpoint_url) as aws,
            open_writer(local_aws.endpoint_url, REGION) as writer,
            aiohttp.ClientSession(auth=aiohttp.BasicAuth(clickhouse.user, clickhouse.password)) as http,
        ):
            port = _free_port()
            config_file = place / "config.toml"
            config_file.write_text(_configuration(local_aws.endpoint_url, clickhouse, port))
            yield Kit(
                place,
                config_file,
                place / DAEMON_LOG,
                f"http://127.0.0.1:{port}/metrics",
                local_aws,
                clickhouse,
                aws,
                writer,
                http,
            )


def _configuration(endpoint_url: str, clickhouse: LocalClickHouse, http_port: int) -> str:
    head = _CONFIG.format(
        region=REGION,
        endpoint_url=endpoint_url,
        clickhouse_url=clickhouse.url,
        password_file=clickhouse.directory / SECRET_PLACE,
        stream=STREAM,
        http_port=http_port,
    )
    return head + "".join(_TABLE.format(table=table, bucket=BUCKET) for table in TABLES)


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is None:
        place = Path(tempfile.mkdtemp(prefix="dyncdc-demo-"))
        failed = False
        try:
            yield place
        except (DyncdcError, ExceptionGroup):
            failed = (place / DAEMON_LOG).exists()  # the error names it, so it stays
            raise
        finally:
            if not failed:
                shutil.rmtree(place, ignore_errors=True)
        return
    try:
        given.mkdir(parents=True, exist_ok=True)
        if any(given.iterdir()):
            raise ConfigError(f"using the directory {given}: it is not empty", hint="name a new or empty one")
    except OSError as error:
        raise ConfigError(f"using the directory {given}: {error.strerror}", hint="name another one") from None
    yield given.resolve()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give this process, and the children it starts, an environment in which only the local kit exists."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_FOREIGN)}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""What commands and the daemon work with: AWS clients and a ClickHouse connection, opened from the configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dyncdc.app.process.memory_limits import INSERTS_IN_FLIGHT
from dyncdc.config import ClickHouseUrl, Config
from dyncdc.config.load import read_password_file
from dyncdc.emulator.clickhouse import open_local
from dyncdc.errors import ConfigError, RetryableError
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.writing.insert_slots import SLOW_SLOTS
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import cluster_in_use
from dyncdc.sinks.client.tls import Certificates
from dyncdc.sources.clients import AwsClients, open_clients
from dyncdc.sources.dynamodb import Tables

from .startup_retry import StartupRetry

OTHER_STATEMENTS = 2
"""Connections that inserts leave to positions, watermarks and looks at tables, however slow the inserts are."""


@dataclass(slots=True)
class AppContext:
    """What a command works with. The caller that opened it closes it."""

    config: Config
    aws: AwsClients
    clickhouse: ClickHouse
    retry: StartupRetry
    assignment: Assignment = field(default_factory=Assignment)
    """Which member of the pipeline this process is."""
    cluster: str | None = None
    """The cluster that every statement about tables is for, None for this server alone; see ``DATABASE_ITSELF``."""

    @property
    def tables(self) -> Tables:
        """DynamoDB's side."""
        return Tables(self.aws.dynamodb)


def open_aws(config: Config) -> AbstractAsyncContextManager[AwsClients]:
    """Clients for the configured region and endpoint. Raises ConfigError; nothing is called yet."""
    aws = config.aws
    return open_clients(aws.region, endpoint_url=aws.endpoint_url, role_arn=aws.role_arn, external_id=aws.external_id)


@asynccontextmanager
async def open_clickhouse(
    config: Config, startup_retry: StartupRetry, *, own: bool = False
) -> AsyncIterator[ClickHouse]:
    """Connect, and start a local:// server where none runs. ClickHouse has answered by then.

    ``own``: be the one that starts it, so that it does not end with some other command.

    Raises ConfigError, and FatalError when ``startup_retry`` ran out.
    """
    settings = config.clickhouse
    server = None
    url: ClickHouseUrl = settings.url
    if url.kind == "local":
        server = await open_local(Path(url.directory), own=own)
        url = replace(
            url,
            kind="native",
            host="127.0.0.1",
            port=server.tcp_port,
            user=server.user,
            password=server.password,
            database=server.database,
        )
    try:
        clickhouse = ClickHouse(
            url,
            compression=settings.compression,
            timeout_seconds=settings.insert_timeout_seconds,
            certificates=Certificates(settings.ca_file, settings.cert_file, settings.key_file),
            password=partial(_read_again, settings.password_file) if settings.password_file else None,
            connections=INSERTS_IN_FLIGHT + SLOW_SLOTS + OTHER_STATEMENTS,
        )
        clickhouse.quorum.wanted = settings.insert_quorum
        try:
            await startup_retry(lambda: clickhouse.fetch("SELECT 1"))
            yield clickhouse
        finally:
            await clickhouse.close()
    finally:
        if server is not None:
            await server.stop()


def _read_again(file: str) -> str:
    """The password as it stands in its file now; the file may just be replaced."""
    try:
        return read_password_file(file, "the configuration")
    except ConfigError as error:
        raise RetryableError(str(error), hint=error.hint) from error


@asynccontextmanager
async def open_context(
    config: Config, startup_retry: StartupRetry, *, own: bool = False, assignment: Assignment | None = None
) -> AsyncIterator[AppContext]:
    """Open both sides; AWS is not called before it is needed. ``own``: see ``open_clickhouse``."""
    async with open_clickhouse(config, startup_retry, own=own) as clickhouse, open_aws(config) as aws:
        cluster = await startup_retry(lambda: cluster_in_use(clickhouse, config.clickhouse.cluster))
        yield AppContext(config, aws, clickhouse, startup_retry, assignment or Assignment(), cluster)

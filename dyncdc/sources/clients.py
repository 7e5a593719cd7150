"""The AWS session: one set of clients for the whole process, with time-outs and connection pools that suit a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aioboto3
from aiobotocore.config import AioConfig

from dyncdc import __version__
from dyncdc.errors import ConfigError
from dyncdc.sources.kinesis.get_records import decode_get_records

from .aws_errors import aws_call
from .credentials import is_loopback, of_session
from .item_json import decode_items
from .raw_answers import keep_raw_answer

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
KEEPALIVE_SECONDS = 60.0
"""Longer than the longest pause between two reads of an idle shard, so that its connection is still there."""

ATTEMPTS = 2
"""The SDK's own: enough for a keep-alive connection that the server has just closed. The pipeline retries forever."""

READ_ATTEMPTS = 1
"""For Kinesis: a throttled read that the SDK repeats, asleep while memory is reserved for it, only throttles more."""

POOL_MIN_CONNECTIONS = 16

USER_AGENT = f"dyncdc/{__version__}"
"""Said once: botocore puts its own together again for each request, an eighth of what an empty read costs (measured).

Parameters are not validated either: they are ours, and the service checks them.
"""


@dataclass(frozen=True, slots=True)
class AwsClients:
    """The clients that the sources share. They belong to ``open_clients``; no one else closes them."""

    region: str
    kinesis: Any
    dynamodb: Any
    s3: Any


@asynccontextmanager
async def open_clients(
    region: str | None,
    *,
    endpoint_url: str | None = None,
    role_arn: str | None = None,
    external_id: str | None = None,
    shards: int = 64,
) -> AsyncIterator[AwsClients]:
    """Open the clients, through the SDK's credential chain. ``shards``: how many are read at once, one connection each.

    Raises ConfigError for a region, profile or endpoint that cannot be used. Credentials are first tried by a call.
    """
    async with aws_call("opening the AWS session"):
        session = aioboto3.Session(region_name=region)
        core = session._session
        credentials = core._credentials = of_session(
            core, role_arn=role_arn, external_id=external_id, endpoint_url=endpoint_url
        )
    async with AsyncExitStack() as stack:
        connections = max(POOL_MIN_CONNECTIONS, shards)
        kinesis = await _client(session, stack, "kinesis", endpoint_url, connections, READ_ATTEMPTS)
        kinesis.meta.events.register("before-parse.kinesis.GetRecords", decode_get_records)
        kinesis.meta.events.register("before-parse.kinesis.DescribeStreamSummary", keep_raw_answer)
        dynamodb = await _client(session, stack, "dynamodb", endpoint_url, POOL_MIN_CONNECTIONS, ATTEMPTS)
        for operation in ("Scan", "BatchGetItem"):
            dynamodb.meta.events.register(f"before-parse.dynamodb.{operation}", decode_items)
        dynamodb.meta.events.register("before-parse.dynamodb.DescribeExport", keep_raw_answer)
        s3 = await _client(session, stack, "s3", endpoint_url, POOL_MIN_CONNECTIONS, ATTEMPTS)
        for client in (kinesis, dynamodb, s3):
            client.meta.events.register("after-call", credentials.look_at_answer)
        yield AwsClients(str(kinesis.meta.region_name), kinesis, dynamodb, s3)


async def _client(
    session: aioboto3.Session,
    stack: AsyncExitStack,
    service: str,
    endpoint_url: str | None,
    connections: int,
    attempts: int,
) -> Any:
    config = AioConfig(
        user_agent=USER_AGENT,
        parameter_validation=False,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
        connector_args={"keepalive_timeout": KEEPALIVE_SECONDS},
        # Data files carry their md5 in the manifest: hashing them a second way would only cost time.
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint_url else {},
        # What is on this machine no proxy of the environment can reach.
        proxies={} if is_loopback(urlsplit(endpoint_url or "").hostname or "") else None,
    )
    async with aws_call(f"opening the AWS client of {service}"):
        try:
            opening = session.client(service, endpoint_url=endpoint_url, config=config)
            return await stack.enter_async_context(opening)
        except ValueError as error:  # botocore's only signal for an endpoint that is not a URL
            raise ConfigError(
                f"opening the AWS client of {service}: {error}", hint="correct aws.endpoint_url"
            ) from error

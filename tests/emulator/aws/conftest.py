"""One local AWS for all of these tests, and real clients to it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aioboto3
import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from localstack_client.config import get_service_endpoint  # type: ignore[import-untyped]

from dyncdc.emulator.aws import LocalAws
from dyncdc.emulator.aws.server.settings import Settings

_SESSION = aioboto3.Session(
    aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
)  # one for all: it caches the models of the services
_ONE_ATTEMPT = AioConfig(retries={"total_max_attempts": 1}, read_timeout=10, connect_timeout=2)


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients that try each call once."""

    kinesis: Any
    dynamodb: Any
    s3: Any


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def local_aws() -> AsyncIterator[LocalAws]:
    """The child process. Tests share it, so each names its own streams, tables and buckets."""
    async with LocalAws() as aws:
        yield aws


@pytest.fixture
async def settings(local_aws: LocalAws) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Change settings; they are put back after the test."""
    yield local_aws.set
    await local_aws.set(**Settings().as_dict())


@pytest.fixture
async def faults(local_aws: LocalAws) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Inject faults; what is left of them is dropped after the test."""
    yield local_aws.inject
    await local_aws.clear_faults()


@pytest.fixture
def clients_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[LocalAws], AbstractAsyncContextManager[Clients]]:
    """Clients to any local AWS, made the way that also works for LocalStack: by its AWS_ENDPOINT_URL."""

    @asynccontextmanager
    async def opened(aws: LocalAws) -> AsyncIterator[Clients]:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
        endpoint = get_service_endpoint("kinesis")
        async with (
            _SESSION.client("kinesis", endpoint_url=endpoint, config=_ONE_ATTEMPT) as kinesis,
            _SESSION.client("dynamodb", endpoint_url=endpoint, config=_ONE_ATTEMPT) as dynamodb,
            _SESSION.client("s3", endpoint_url=endpoint, config=_ONE_ATTEMPT) as s3,
        ):
            yield Clients(kinesis, dynamodb, s3)

    return opened


@pytest.fixture
async def clients(
    local_aws: LocalAws, clients_of: Callable[[LocalAws], AbstractAsyncContextManager[Clients]]
) -> AsyncIterator[Clients]:
    """Clients to the one that the tests share."""
    async with clients_of(local_aws) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"

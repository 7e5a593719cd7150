"""Servers and clients for the source contracts: everything over real HTTP."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from kinesis_server import KinesisServer
from moto.server import ThreadedMotoServer

from dyncdc.sources.aws import AwsClients, open_clients

REGION = "eu-west-1"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that sign requests and open nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """DynamoDB and S3."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def moto(moto_url: str) -> AsyncIterator[AwsClients]:
    """Our own clients, straight to moto."""
    async with open_clients(REGION, endpoint_url=moto_url) as clients:
        yield clients


@pytest.fixture
async def server() -> AsyncIterator[KinesisServer]:
    """A Kinesis without streams."""
    async with KinesisServer().running() as running:
        yield running


@pytest.fixture
async def clients(server: KinesisServer) -> AsyncIterator[AwsClients]:
    """Our own clients, to that Kinesis."""
    async with open_clients(REGION, endpoint_url=server.url) as opened:
        yield opened

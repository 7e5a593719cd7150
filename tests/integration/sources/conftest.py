"""Servers and clients for the source contracts: everything over real HTTP."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import cache

import aioboto3
import pytest
from support.servers.kinesis_server import KinesisServer

from dyncdc.errors import RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard
from dyncdc.pipeline.ports.source import Source
from dyncdc.sources.clients import AwsClients, open_clients

REGION = "eu-west-1"
WANT_BYTES = 20_000


async def make_table(aws: AwsClients, *, sorted_by: str) -> str:
    """Make a table with a binary key ``pk`` and a number; return its name."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    await aws.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": sorted_by, "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": kind}
            for attribute, kind in sorted({"pk": "B", sorted_by: "N"}.items())
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


async def read_on(
    source: Source, shard: Shard, after: Position = HORIZON, want_bytes: int = WANT_BYTES
) -> list[RawChunk]:
    """Fetch to the end, again after every RetryableError, as a shard reader does."""
    chunks: list[RawChunk] = []
    for _ in range(10_000):
        try:
            chunk = await source.fetch(shard, chunks[-1].end if chunks else after, want_bytes)
        except RetryableError:
            continue
        chunks.append(chunk)
        if chunk.closed:
            return chunks
    raise AssertionError("the shard has no end")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that sign requests and open nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # A session reads its service models from disk, which takes longer than most tests.
    monkeypatch.setattr(aioboto3, "Session", _session)


@cache
def _session(region_name: str) -> object:
    return _Session(region_name=region_name)


_Session = aioboto3.Session


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """The local AWS as a process, one for all tests: each makes its own tables, streams and buckets."""
    command = [sys.executable, "-m", "dyncdc.emulator.aws", "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        line = child.stdout.readline().decode()
        assert "ready on http" in line
        yield line.rpartition(" ")[2].strip()
        child.terminate()


@pytest.fixture
async def aws(aws_url: str) -> AsyncIterator[AwsClients]:
    """Our own clients, to the local AWS."""
    async with open_clients(REGION, endpoint_url=aws_url) as opened:
        yield opened


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

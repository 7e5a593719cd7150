"""The AWS session: what is refused before the first call, and acting as another role."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog
from aiobotocore.credentials import AioContainerMetadataFetcher
from conftest import REGION

from dyncdc.errors import ConfigError
from dyncdc.sources.aws import open_clients
from dyncdc.sources.aws_errors import CredentialsError
from dyncdc.sources.kinesis import open_stream
from dyncdc.sources.tables import Tables
from dyncdc.telemetry.logging import configure_logging


async def test_an_endpoint_that_is_no_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="opening the AWS client"):
        async with open_clients(REGION, endpoint_url="not a url"):
            pass


async def test_no_region_at_all_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ConfigError, match="Region"):
        async with open_clients(None, endpoint_url="http://127.0.0.1:1"):
            pass


async def test_no_credentials_are_told_from_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    async with open_clients("eu-west-2", endpoint_url="http://127.0.0.1:1") as clients:
        with pytest.raises(CredentialsError, match="no usable AWS credentials"):
            await open_stream(clients, "any")


async def test_calls_are_signed_by_the_role_that_is_assumed(aws_url: str) -> None:
    role = "arn:aws:iam::000000000000:role/reader"
    async with open_clients("eu-west-3", endpoint_url=aws_url, role_arn=role, external_id="us") as clients:
        await clients.kinesis.create_stream(StreamName="of-a-role", ShardCount=1)
        assert (await open_stream(clients, "of-a-role")).label == "of-a-role"
        credentials = await clients.kinesis._get_credentials().get_frozen_credentials()
        assert credentials.token
        assert credentials.access_key != "test"


class CredentialsEndpoint(ThreadingHTTPServer):
    """Gives credentials once, as that of a container; answers 503 from then on."""

    asked = 0


class _Answer(BaseHTTPRequestHandler):
    server: CredentialsEndpoint

    def do_GET(self) -> None:
        self.server.asked += 1
        body = b"{}"
        if self.server.asked == 1:
            expires = datetime.now(UTC) + timedelta(minutes=12)
            given = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": f"{expires:%FT%TZ}"}
            body = json.dumps(given).encode()
        self.send_response(200 if self.server.asked == 1 else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def credentials_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[CredentialsEndpoint]:
    with CredentialsEndpoint(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/nonexistent")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)
        yield server
        server.shutdown()
        thread.join()


async def test_credentials_that_cannot_be_renewed_yet_are_used_while_they_are_valid(
    aws_url: str, credentials_endpoint: CredentialsEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", "json")
    try:
        async with open_clients("ap-south-1", endpoint_url=aws_url) as clients:
            for _ in range(3):
                with pytest.raises(ConfigError, match="describing table nosuch"):
                    await Tables(clients.dynamodb).describe("nosuch")
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
    assert credentials_endpoint.asked > 3, "it tried to renew them"
    assert "advisory refresh" in capsys.readouterr().err

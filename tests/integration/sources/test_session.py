"""The AWS session: what is refused before the first call, and acting as another role."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import structlog
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioContainerMetadataFetcher
from botocore.exceptions import ClientError
from support.servers.kinesis_server import KinesisServer

from dyncdc.errors import ConfigError, DyncdcError, RetryableError
from dyncdc.sources.aws_errors import CredentialsError
from dyncdc.sources.clients import AwsClients, open_clients
from dyncdc.sources.dynamodb import Tables
from dyncdc.sources.kinesis.stream_source import open_stream
from dyncdc.telemetry.logging import configure_logging

from .conftest import REGION


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


@pytest.mark.parametrize("role", [None, "arn:aws:iam::000000000000:role/reader"])
async def test_an_endpoint_on_this_machine_is_not_asked_through_a_proxy(
    aws_url: str, monkeypatch: pytest.MonkeyPatch, role: str | None
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with open_clients("sa-east-1", endpoint_url=aws_url, role_arn=role) as clients:
        with pytest.raises(ConfigError, match="nosuch"):
            await Tables(clients.dynamodb).describe("nosuch")


async def test_a_stream_of_another_region_is_named_before_aws_calls_it_unknown(aws_url: str) -> None:
    async with open_clients(REGION, endpoint_url=aws_url) as clients:
        with pytest.raises(ConfigError, match=f"it is in us-gov-west-1, and calls go to {REGION}"):
            await open_stream(clients, "arn:aws-us-gov:kinesis:us-gov-west-1:000000000000:stream/orders")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The SDK's own files are the only place to find credentials; they do not exist yet. Returns their directory."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


async def describe(clients: AwsClients) -> DyncdcError:
    """What a call ends with: the table is not there."""
    with pytest.raises(DyncdcError) as caught:
        await Tables(clients.dynamodb).describe("nosuch")
    return caught.value


async def test_credentials_that_come_after_the_start_are_found_without_another(aws_url: str, files: Path) -> None:
    async with open_clients("ap-south-2", endpoint_url=aws_url) as clients:
        assert isinstance(await describe(clients), CredentialsError)
        (files / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        assert isinstance(await describe(clients), ConfigError)


async def test_keys_that_aws_refuses_are_read_again(server: KinesisServer, files: Path) -> None:
    keys = files / "credentials"
    keys.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = b\n")
    async with open_clients("ap-south-3", endpoint_url=server.url) as clients:
        server.refused_keys.add("old")
        for _ in range(2):
            with pytest.raises(CredentialsError, match="UnrecognizedClientException"):
                await open_stream(clients, "any")
        keys.write_text("[default]\naws_access_key_id = new\naws_secret_access_key = b\n")
        with pytest.raises(ConfigError, match="ResourceNotFoundException"):
            await open_stream(clients, "any")


async def test_keys_that_may_not_assume_the_role_any_more_are_read_again(
    aws_url: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STS refuses the first of two pairs of keys."""
    used: list[str] = []
    assume = AioAssumeRoleCredentialFetcher._get_credentials

    async def refuse_old(fetcher: AioAssumeRoleCredentialFetcher) -> object:
        used.append((await fetcher._source_credentials.get_frozen_credentials()).access_key)
        if used[-1] == "old":
            raise ClientError({"Error": {"Code": "InvalidClientTokenId"}}, "AssumeRole")
        return await assume(fetcher)

    monkeypatch.setattr(AioAssumeRoleCredentialFetcher, "_get_credentials", refuse_old)
    keys = files / "credentials"
    keys.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = b\n")
    role = "arn:aws:iam::000000000000:role/reader"
    async with open_clients("ap-south-7", endpoint_url=aws_url, role_arn=role) as clients:
        assert isinstance(await describe(clients), CredentialsError)
        keys.write_text("[default]\naws_access_key_id = new\naws_secret_access_key = b\n")
        assert isinstance(await describe(clients), ConfigError)
    assert used == ["old", "new"]


@pytest.mark.parametrize("text", ["[default]\ncredential_process = /nonexistent/tool\n", "[default\n"])
async def test_a_broken_source_of_credentials_is_retried_with_its_hint(aws_url: str, files: Path, text: str) -> None:
    async with open_clients("ap-south-4", endpoint_url=aws_url) as clients:
        (files / "config").write_text(text)
        error = await describe(clients)
        assert isinstance(error, RetryableError)
        assert "credential_process" in error.hint


async def test_a_role_without_credentials_to_assume_it_is_told_from_other_errors(aws_url: str, files: Path) -> None:
    role = "arn:aws:iam::000000000000:role/reader"
    async with open_clients("ap-south-5", endpoint_url=aws_url, role_arn=role) as clients:
        error = await describe(clients)
        assert isinstance(error, CredentialsError)
        assert "no usable AWS credentials" in str(error)


async def test_a_profile_that_does_not_exist_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    with pytest.raises(ConfigError, match="nosuch"):
        async with open_clients("ap-south-6", endpoint_url="http://127.0.0.1:1"):
            pass


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

"""The AWS session: what is refused before the first call, and acting as another role."""

from __future__ import annotations

import pytest
from conftest import REGION

from dyncdc.errors import ConfigError
from dyncdc.sources.aws import open_clients
from dyncdc.sources.aws_errors import CredentialsError
from dyncdc.sources.kinesis import open_stream


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

"""Engines for the verification tests: a real ClickHouse and the local AWS, once for all; a fresh table for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from asynch.connection import Connection
from support.data.shop_tables import CREATE, Engines, Shop

from dyncdc.emulator.aws import LocalAws
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.sources.clients import open_clients


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines(clickhouse_server: LocalClickHouse) -> AsyncIterator[Engines]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        async with (
            LocalAws() as aws,
            open_clients("us-east-1", endpoint_url=aws.endpoint_url) as clients,
            Connection(
                host="127.0.0.1", port=clickhouse_server.tcp_port, database=clickhouse_server.database
            ) as connection,
        ):
            yield Engines(clients.dynamodb, connection, aws.endpoint_url, clickhouse_server.url)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(engines: Engines) -> AsyncIterator[Shop]:
    shop = Shop(engines.dynamodb, engines.connection)
    await shop.dynamodb.create_table(
        TableName="shop",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    await shop.run(CREATE)
    yield shop
    await shop.run("DROP TABLE shop")
    await shop.dynamodb.delete_table(TableName="shop")

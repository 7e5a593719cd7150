"""A real ClickHouse for the contracts: one server for all tests, a database of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.sinks.client.client import ClickHouse


def native_url(server: LocalClickHouse, database: str) -> ClickHouseUrl:
    """Address of a database of the server."""
    return ClickHouseUrl("native", port=server.tcp_port, database=database)


@pytest.fixture
async def clickhouse(clickhouse_server: LocalClickHouse) -> AsyncIterator[ClickHouse]:
    """Connections to an empty database."""
    database = f"t_{uuid.uuid4().hex[:12]}"
    admin = ClickHouse(native_url(clickhouse_server, clickhouse_server.database))
    await admin.execute(f"CREATE DATABASE {database}")
    found = ClickHouse(replace(admin.url, database=database), timeout_seconds=5.0)
    yield found
    await found.close()
    await admin.execute(f"DROP DATABASE {database}")
    await admin.close()

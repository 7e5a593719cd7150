"""``dyncdc verify`` as a command: its lines, its JSON, its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.data.shop_tables import Engines, Shop, item
from support.processes import harness

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("forking")]


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    lines: list[str]
    errors: list[str]


async def verify(config: Path, *arguments: str) -> Ended:
    command = ("verify", "-c", str(config), *arguments)
    ended = await asyncio.to_thread(harness.command, *command, environment=dict(os.environ))
    return Ended(ended.code, ended.out.splitlines(), ended.err.splitlines())


@pytest.fixture
def config(engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    file = tmp_path / "config.toml"
    file.write_text(
        f"""pipeline = "verified"
[aws]
region = "us-east-1"
endpoint_url = "{engines.endpoint_url}"
[clickhouse]
url = "{engines.clickhouse_url}"
[kinesis]
stream = "none-needed"
[[tables]]
dynamodb = "shop"
snapshot = {{ method = "none" }}
"""
    )
    return file


async def test_equal_tables_end_with_0(shop: Shop, config: Path) -> None:
    await shop.put(item("a", 1, status={"S": "paid"}, total={"N": "1.25"}), item("a", 2))
    ended = await verify(config, "shop")
    assert ended == Ended(0, ["EQUAL items=2"], [])


async def test_different_tables_end_with_4_naming_keys_in_lines_and_in_json(shop: Shop, config: Path) -> None:
    await shop.put(item("a", 1, status={"S": "paid"}))
    await shop.put_destination(item("a", 1, status={"S": "lost"}))
    lines, document = await asyncio.gather(verify(config, "shop"), verify(config, "shop", "--json"))
    assert lines == Ended(
        4,
        ["""shop {"pk":{"S":"a"},"sk":{"N":"1"}}: differs in 'status'""", "DIFFERENT items=1 differing=1"],
        [],
    )
    assert document.code == 4
    assert json.loads(document.lines[0])["differences"] == [
        {"key": {"pk": {"S": "a"}, "sk": {"N": "1"}}, "kind": "different", "attributes": ["status"]}
    ]


async def test_table_that_is_not_configured_ends_with_2_on_one_line(shop: Shop, config: Path) -> None:
    ended = await verify(config, "sohp")
    assert ended == Ended(2, [], ["dyncdc: verifying sohp: the configuration has no such table; it has shop"])


async def test_table_without_a_destination_ends_with_2_on_one_line(shop: Shop, config: Path) -> None:
    await shop.run("DROP TABLE shop")
    ended = await verify(config, "shop")
    await shop.run("CREATE TABLE shop (x UInt8) ENGINE = Memory")
    assert (ended.code, len(ended.errors)) == (2, 1)
    assert "ClickHouse has no table shop" in ended.errors[0]

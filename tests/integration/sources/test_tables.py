"""What tables say about themselves, and their items: descriptions, destinations, scans, single items."""

from __future__ import annotations

import base64

import pytest

from dyncdc.errors import ConfigError
from dyncdc.schema.table_spec import KeyAttribute
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import Tables
from dyncdc.sources.item_json import Item, sdk_key

from .conftest import make_table


@pytest.fixture
async def table(aws: AwsClients) -> str:
    """150 items with a composite key, which DynamoDB lists RANGE first."""
    name = await make_table(aws, sorted_by="at")
    for first in range(0, 150, 25):
        puts = [{"PutRequest": {"Item": {**item(n), **sdk_key(key(n))}}} for n in range(first, first + 25)]
        await aws.dynamodb.batch_write_item(RequestItems={name: puts})
    return name


def item(number: int) -> Item:
    return {
        "pk": {"B": base64.b64encode(b"\xff%d" % (number % 7)).decode()},
        "at": {"N": str(number)},
        "x": {"S": "y" * 20},
    }


def key(number: int) -> Item:
    return {name: value for name, value in item(number).items() if name != "x"}


def numbers(items: object) -> list[int]:
    assert isinstance(items, list)
    return sorted(int(one["at"]["N"]) for one in items)


async def test_a_description_has_the_key_hash_first(aws: AwsClients, table: str) -> None:
    found = await Tables(aws.dynamodb).describe(table)
    assert found.keys == (KeyAttribute("pk", "B"), KeyAttribute("at", "N"))
    assert (found.name, found.status, found.arn.rpartition("/")[2]) == (table, "ACTIVE", table)


async def test_no_such_table_is_a_config_error_with_advice(aws: AwsClients) -> None:
    with pytest.raises(ConfigError, match="describing table nope") as caught:
        await Tables(aws.dynamodb).describe("nope")
    assert "list-tables" in caught.value.hint


async def test_a_scan_gives_every_item_once_in_pages(aws: AwsClients, table: str) -> None:
    pages = [list(page) async for page in Tables(aws.dynamodb).scan(table, page_items=40)]
    assert max(map(len, pages)) <= 40
    assert numbers([one for page in pages for one in page]) == list(range(150))


async def test_segments_of_a_scan_do_not_overlap(aws: AwsClients, table: str) -> None:
    tables = Tables(aws.dynamodb)
    found = [
        one
        for segment in range(3)
        async for page in tables.scan(table, consistent=True, segment=segment, segments=3)
        for one in page
    ]
    assert numbers(found) == list(range(150))


async def test_a_sample_is_no_larger_than_asked_for(aws: AwsClients, table: str) -> None:
    assert len(await Tables(aws.dynamodb).sample(table, 30)) == 30
    assert len(await Tables(aws.dynamodb).sample(table, 1000)) == 150


async def test_items_are_read_by_key_beyond_one_batch_and_absent_ones_left_out(aws: AwsClients, table: str) -> None:
    found = await Tables(aws.dynamodb).get_items(table, [key(n) for n in range(20, 170)])
    assert numbers(found) == list(range(20, 150))
    assert item(33) in found


async def test_recovery_and_destinations_are_off_at_first(aws: AwsClients, table: str) -> None:
    tables = Tables(aws.dynamodb)
    assert await tables.point_in_time_recovery(table) is False
    destinations, now = await tables.destinations(table)
    assert (list(destinations), now > 0) == ([], True)

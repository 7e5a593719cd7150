"""The full comparison of one table: every item against its row, then every row against the items.

Memory is bounded whatever the table's size: a page of items, one counter per bucket of keys, and the keys that differ,
up to a limit. Rows that DynamoDB's scan did not show are found by counting: every row met on the way is counted by the
hash of its key, ClickHouse counts all its rows the same way, and only the keys of buckets that disagree are looked up.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from dyncdc.schema.types.dynamodb_values import Item
from dyncdc.sources.dynamodb import Tables

from .destination import BUCKETS, KEYS_PER_PAGE, Destination
from .result import Difference, Kind, Verification, key_text

PAUSES_SECONDS: Final = (1.0, 2.0, 3.0)
"""Before each time that keys which differ are read again: a change in flight is no difference."""
ITEMS_PER_TURN: Final = 50
"""Compared, at about 0.2 ms each, before others on the event loop have their turn."""
MOST_READ_AGAIN: Final = 10_000
"""Differing keys kept for that. A table with more is not merely behind; the rest is counted as found."""


T = TypeVar("T")


class Retry(Protocol):
    """Makes a call, and repeats it while its endpoint is away or too busy."""

    async def __call__(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Return the answer. Raises what the last attempt raises."""


async def once(operation: Callable[[], Awaitable[T]]) -> T:
    """Try once."""
    return await operation()


Suspect = tuple[Difference, Item]
"""A difference and the key to read again."""


class _Comparison:
    def __init__(self, tables: Tables, destination: Destination, result: Verification, startup_retry: Retry) -> None:
        self._tables = tables
        self._startup_retry = startup_retry
        self._destination = destination
        self._result = result
        self._shown = array("Q", bytes(8 * BUCKETS))
        self._suspects: dict[str, Suspect] = {}

    async def scan(self) -> None:
        """Compare everything that DynamoDB shows."""
        pages = self._tables.scan(self._result.table, consistent=True, startup_retry=self._startup_retry)
        page = await anext(pages, None)
        while page is not None:
            async with asyncio.TaskGroup() as group:  # the next page comes while this one is compared
                following = group.create_task(_next(pages), name=f"scan:{self._result.table}")
                for first in range(0, len(page), KEYS_PER_PAGE):
                    await self._compare_page(page[first : first + KEYS_PER_PAGE])
            page = following.result()

    async def find_extra_rows(self) -> None:
        """Look up the keys that the scan did not show."""
        buckets = await self._destination.differing_buckets(self._shown)
        if not buckets:
            return
        async for page in self._destination.keys_in(buckets):
            keys = [key for key in page if not isinstance(key, str)]
            for text in (key for key in page if isinstance(key, str)):
                self._result.add(Difference(self._result.table, text, "extra"))
            for difference, key in await self._differences(keys):
                if difference.kind == "extra":
                    self._suspect(difference, key)

    async def read_again(self, pauses_seconds: Sequence[float]) -> None:
        """Read the suspects again after each pause, and put into the result those that stay different."""
        for pause in pauses_seconds:
            if not self._suspects:
                return
            await asyncio.sleep(pause)
            keys = [key for _, key in self._suspects.values()]
            self._suspects = {}
            for first in range(0, len(keys), KEYS_PER_PAGE):
                for suspect in await self._differences(keys[first : first + KEYS_PER_PAGE]):
                    self._suspect(*suspect)
        for difference, _ in (self._suspects[text] for text in sorted(self._suspects)):
            self._result.add(difference)

    async def _compare_page(self, items: Sequence[Item]) -> None:
        keys = [self._destination.key_of(item) for item in items]
        rows = await self._destination.rows(keys)
        for index, (key, item) in enumerate(zip(keys, items, strict=True)):
            if index % ITEMS_PER_TURN == 0:
                await asyncio.sleep(0)
            row = rows.get(key_text(key))
            if row is None:
                self._suspect(self._difference(key, "missing"), key)
                continue
            self._shown[row.bucket] += 1
            attributes = self._destination.differences(item, row)
            if attributes:
                self._suspect(self._difference(key, "different", attributes), key)
        self._result.items += len(items)

    async def _differences(self, keys: Sequence[Item]) -> list[Suspect]:
        """Compare some keys, both sides read now."""
        rows = await self._destination.rows(keys)
        found = await self._startup_retry(lambda: self._tables.get_items(self._result.table, keys))
        items = {key_text(self._destination.key_of(item)): item for item in found}
        differences = []
        for key in keys:
            text = key_text(key)
            row, item = rows.get(text), items.get(text)
            if row is None and item is not None:
                differences.append((self._difference(key, "missing"), key))
            elif row is not None and item is None:
                differences.append((self._difference(key, "extra"), key))
            elif row is not None and item is not None and (names := self._destination.differences(item, row)):
                differences.append((self._difference(key, "different", names), key))
        return differences

    def _difference(self, key: Item, kind: Kind, attributes: tuple[str, ...] = ()) -> Difference:
        return Difference(self._result.table, key_text(key), kind, attributes)

    def _suspect(self, difference: Difference, key: Item) -> None:
        if len(self._suspects) < MOST_READ_AGAIN:
            self._suspects[difference.key] = (difference, key)
        else:
            self._result.add(difference)


async def _next(pages: AsyncIterator[Sequence[Item]]) -> Sequence[Item] | None:
    return await anext(pages, None)


async def compare_table(
    tables: Tables,
    destination: Destination,
    result: Verification,
    *,
    finds_extra_rows: bool,
    startup_retry: Retry = once,
    pauses_seconds: Sequence[float] = PAUSES_SECONDS,
) -> None:
    """Compare one table into ``result``. Raises RetryableError, ConfigError, FatalError from either side."""
    comparison = _Comparison(tables, destination, result, startup_retry)
    await comparison.scan()
    if finds_extra_rows:
        await comparison.find_extra_rows()
    await comparison.read_again(pauses_seconds)

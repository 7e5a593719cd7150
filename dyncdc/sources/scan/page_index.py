"""Which page of a scan held which items, for a while: what a refused row was made of is read again by its page. Pure.

An item's position is a digest, which does not say where it stood, and must not: positions are shown, keys are not.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dyncdc.model.shards import Position, ShardId

ITEMS_KEPT = 200_000
"""Items whose page is known, 8 bytes each: far more than wait for ClickHouse at a time, and small beside the budget."""

DIGITS = 16
"""Hexadecimal digits of a position that are kept. Two items that share them only cost a page read in vain."""


@dataclass(frozen=True, slots=True)
class PageRead:
    """One page: where it began, and how many items were asked for."""

    segment: ShardId
    after: Position
    limit: int
    digests: array[int]


class PageIndex:
    """The pages read last, of all segments of a scan."""

    def __init__(self, items_kept: int = ITEMS_KEPT) -> None:
        self._items_kept = items_kept
        self._pages: deque[PageRead] = deque()
        self._items = 0

    def add(self, segment: ShardId, after: Position, limit: int, positions: Iterable[Position]) -> None:
        """Remember a page, and forget the oldest that there is no room for."""
        page = PageRead(segment, after, limit, array("Q", map(_digest, positions)))
        if page.digests:
            self._pages.append(page)
            self._items += len(page.digests)
        while self._items > self._items_kept and len(self._pages) > 1:
            self._items -= len(self._pages.popleft().digests)

    def holding(self, segment: ShardId, positions: Iterable[Position]) -> Iterator[PageRead]:
        """Pages of a segment that held items of these positions, in the order in which they were read."""
        wanted = set(map(_digest, positions))
        yield from [page for page in self._pages if page.segment == segment and not wanted.isdisjoint(page.digests)]


def _digest(position: Position) -> int:
    return int(position[:DIGITS], 16)

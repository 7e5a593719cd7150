"""PagesRead: the page of an item is known for a while, within bounded memory."""

from __future__ import annotations

from dyncdc.model.shards import HORIZON, Position, ShardId
from dyncdc.sources.scan.page_index import PageIndex

SEGMENT = ShardId("segment-0")


def positions(first: int, number: int) -> list[Position]:
    return [Position(f"{value:016x}00000000") for value in range(first, first + number)]


def test_the_pages_of_items_are_found_in_the_order_of_reading_and_by_segment() -> None:
    pages = PageIndex()
    pages.add(SEGMENT, HORIZON, 10, positions(0, 10))
    pages.add(ShardId("segment-1"), HORIZON, 10, positions(0, 10))
    pages.add(SEGMENT, Position("k9"), 20, positions(10, 10))
    found = [(page.after, page.limit) for page in pages.holding(SEGMENT, positions(9, 2))]
    assert found == [(HORIZON, 10), (Position("k9"), 20)]
    assert not list(pages.holding(SEGMENT, positions(50, 1)))


def test_the_oldest_pages_are_forgotten_first() -> None:
    pages = PageIndex(items_kept=25)
    for number in range(100):
        pages.add(SEGMENT, Position(f"k{number}"), 10, positions(number * 10, 10))
    assert not list(pages.holding(SEGMENT, positions(970, 10)))
    assert [page.after for page in pages.holding(SEGMENT, positions(0, 1000))] == ["k98", "k99"]

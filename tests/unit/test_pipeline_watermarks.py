"""Watermarks: never beyond what the destination holds, and never back."""

from __future__ import annotations

import pytest

from dyncdc.model import Watermark
from dyncdc.pipeline.watermarks import Obstacles, complete_until, least

CLEAR = Obstacles(loaded=True, open_letters=False, open_gaps=False)


def row(member: int, members: int, at: float | None, table: str = "orders") -> Watermark:
    return Watermark(table, member, members, at)


def test_a_table_is_complete_until_the_stream_delay_before_what_was_read() -> None:
    assert complete_until(1000.0, None, CLEAR, 60.0) == 940.0


def test_nothing_is_said_before_the_first_snapshot_is_complete() -> None:
    assert complete_until(1000.0, 900.0, Obstacles(loaded=False, open_letters=False, open_gaps=False), 60.0) is None


@pytest.mark.parametrize("obstacles", [Obstacles(True, True, False), Obstacles(True, False, True)])
def test_an_open_letter_or_gap_holds_the_watermark_where_it_was(obstacles: Obstacles) -> None:
    assert complete_until(1000.0, 700.0, obstacles, 60.0) == 700.0
    assert complete_until(1000.0, None, obstacles, 60.0) is None


def test_what_was_complete_stays_so() -> None:
    assert complete_until(None, 700.0, CLEAR, 60.0) == 700.0
    assert complete_until(750.0, 700.0, CLEAR, 60.0) == 700.0
    assert complete_until(1000.0, 950.0, CLEAR, 3600.0) == 950.0


def test_the_least_over_all_members_counts_and_nothing_while_one_is_missing() -> None:
    assert least([row(0, 2, 5.0), row(1, 2, 3.0)]) == {"orders": 3.0}
    assert least([row(0, 2, 5.0)]) == {"orders": None}
    assert least([row(0, 2, 5.0), row(1, 2, None)]) == {"orders": None}
    assert least([row(0, 1, 5.0), row(0, 1, 6.0, "things")]) == {"orders": 5.0, "things": 6.0}


def test_members_of_an_earlier_division_do_not_count() -> None:
    assert least([row(0, 2, 5.0), row(1, 2, 3.0), row(0, 1, 9.0)]) == {"orders": 9.0}
    assert least([row(0, 1, 9.0), row(1, 2, 3.0)]) == {"orders": None}

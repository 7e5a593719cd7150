"""Watermarks: never beyond what the destination holds, and never back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from support.pipeline.pipeline_parts import instruments_of
from support.pipeline.recovery_parts import MemoryRecovery, NoSnapshots
from support.pipeline.virtual_time import run

from dyncdc.model.checkpoints import Server
from dyncdc.model.shards import SourceId
from dyncdc.model.watermarks import Watermark
from dyncdc.pipeline.checkpoint.watermarks import (
    Obstacles,
    WatchedTable,
    WatermarkChecks,
    Watermarks,
    WatermarkStores,
    WatermarkTiming,
    complete_until,
    least,
)
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.recovery.rewind import Rewind

CLEAR = Obstacles(loaded=True, open_dead_letters=False, open_gaps=False)


def row(member: int, members: int, at: float | None, table: str = "orders") -> Watermark:
    return Watermark(table, member, members, at)


def test_a_table_is_complete_until_the_stream_delay_before_what_was_read() -> None:
    assert complete_until(1000.0, None, CLEAR, 60.0) == 940.0


def test_nothing_is_said_before_the_first_snapshot_is_complete() -> None:
    assert (
        complete_until(1000.0, 900.0, Obstacles(loaded=False, open_dead_letters=False, open_gaps=False), 60.0) is None
    )


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


class _Store:
    def __init__(self, *rows: Watermark) -> None:
        self.rows = list(rows)

    async def load(self) -> Sequence[Watermark]:
        return self.rows

    async def save(self, rows: Sequence[Watermark]) -> None:
        self.rows += rows

    async def open_dead_letters(self) -> Collection[tuple[str, SourceId]]:
        return ()


@pytest.mark.parametrize(("saved_at", "taken_back"), [(950.0, True), (500.0, False), (1_001.0, False)])
def test_a_watermark_is_taken_back_where_what_it_names_may_be_lost_though_no_position_is(
    saved_at: float, taken_back: bool
) -> None:
    """Catches: rows that were acknowledged, and told of, just before a restart, and just before their position."""
    store = _Store(Watermark("orders", 0, 1, 900.0, saved_at))
    stores = WatermarkStores(store, NoSnapshots(), MemoryRecovery())
    watched = WatchedTable("orders", SourceId("s"), lambda: None, lambda: 0.0, None)
    watermarks = Watermarks([watched], Assignment(), stores, instruments_of(), WatermarkChecks(), WatermarkTiming())
    rewound = Rewind({}, Server("a", 1_000.0), durable_until=700.0)
    run(watermarks.take_back(rewound))
    assert least(store.rows) == {"orders": None if taken_back else 900.0}
    run(watermarks.take_back(Rewind()))
    assert least(store.rows) == {"orders": None if taken_back else 900.0}

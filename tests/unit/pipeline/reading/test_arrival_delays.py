"""Delays into a stream: the longest of late counts, and a single late record is forgotten."""

from __future__ import annotations

from dyncdc.model.shards import SourceId
from dyncdc.pipeline.reading.arrival_delays import AGE_SECONDS, ArrivalDelays

A, B = SourceId("a"), SourceId("b")


def test_the_longest_delay_of_late_counts_for_its_own_stream() -> None:
    delays = ArrivalDelays()
    assert delays.longest(A, 5.0) == 0.0
    for at, seconds in ((1_000.0, 2.0), (1_001.0, 90.0), (1_002.0, 3.0)):
        delays.saw(A, seconds, at)
    assert delays.longest(A, 1_003.0) == 90.0
    assert delays.longest(B, 1_003.0) == 0.0


def test_one_record_an_hour_late_does_not_hold_the_watermarks_forever() -> None:
    delays = ArrivalDelays()
    delays.saw(A, 3_600.0, 1_000.0)
    held = []
    for at in range(1_001, 1_001 + int(3 * AGE_SECONDS)):
        delays.saw(A, 0.5, float(at))
        held.append(delays.longest(A, float(at)) == 3_600.0)
    assert all(held[: int(AGE_SECONDS) - 1]) and not any(held[int(2 * AGE_SECONDS) :])


def test_a_delay_ages_while_nothing_comes() -> None:
    delays = ArrivalDelays()
    delays.saw(A, 3_600.0, 1_000.0)
    assert delays.longest(A, 1_000.0 + 2 * AGE_SECONDS) == 0.0


def test_a_stream_that_stays_late_stays_late() -> None:
    delays = ArrivalDelays()
    for at in range(0, 10_000, 50):
        delays.saw(A, 300.0, float(at))
        assert delays.longest(A, float(at) + 49.0) == 300.0

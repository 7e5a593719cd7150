"""Diversion: how much may become dead letters, and what a restart remembers of having had too many."""

from __future__ import annotations

import random

import pytest
from support.pipeline.pipeline_parts import shard

from dyncdc.model.blocks import DeadLetter
from dyncdc.model.shards import Position, Shard
from dyncdc.pipeline.writing.dead_letter_limits import (
    WINDOW_RECORDS,
    DeadLetterLimiter,
    DeadLetterLimits,
    LimitReached,
    LimitStop,
)


def dead_letters(*ordinals: int, first: int = 0) -> list[DeadLetter]:
    """Dead letters of a chunk whose records have the positions ``first``, ``first + 1``, ..."""
    return [DeadLetter(ordinal, Position(str(first + ordinal)), "orders", "misfit", "age") for ordinal in ordinals]


def positions(count: int, first: int = 0) -> list[Position]:
    return [Position(str(number)) for number in range(first, first + count)]


def admit(
    dead_letter_limiter: DeadLetterLimiter, count: int, *dead: int, first: int = 0, of: Shard | None = None
) -> None:
    """One chunk of ``count`` records, some of them dead."""
    dead_letter_limiter.count_decoded(of or shard(), count, dead_letters(*dead, first=first), positions(count, first))


def stopped(dead_letter_limiter: DeadLetterLimiter, count: int, *dead: int, first: int = 0) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        admit(dead_letter_limiter, count, *dead, first=first)
    return caught.value


def test_as_many_in_a_row_as_allowed_pass_and_one_more_does_not() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=3))
    admit(dead_letter_limiter, 3, 0, 1, 2)
    admit(dead_letter_limiter, 2, 1)
    admit(dead_letter_limiter, 2, 0, 1)
    error = stopped(dead_letter_limiter, 1, 0, first=40)
    assert (error.stop.limit, error.stop.value, error.stop.position, error.again) == (
        "max_consecutive",
        3.0,
        "40",
        False,
    )
    assert "orders" in str(error) and "3 in a row" in str(error) and "position 40 of shard s" in str(error)
    assert "misfit in column age" in str(error) and "dead_letters.max_consecutive" in error.hint


def test_a_run_is_of_one_shard_and_an_empty_answer_does_not_end_it() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=2))
    admit(dead_letter_limiter, 2, 0, 1)
    admit(dead_letter_limiter, 5, of=shard("other"))
    admit(dead_letter_limiter, 0)
    stopped(dead_letter_limiter, 1, 0)


def test_the_ratio_counts_only_once_there_were_so_many_records() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_ratio=0.05))
    admit(dead_letter_limiter, WINDOW_RECORDS - 1, *range(0, 4_000, 2))
    error = stopped(dead_letter_limiter, 1, 0, first=7)
    assert (error.stop.limit, error.stop.position) == ("max_ratio", "7")
    assert "0.05 of the last 10,000 records" in str(error)


def test_the_ratio_forgets_what_lies_further_back() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_ratio=0.05))
    admit(dead_letter_limiter, 500, *range(500))
    for _ in range(20):
        admit(dead_letter_limiter, 500)
    admit(dead_letter_limiter, 500, *range(500))
    stopped(dead_letter_limiter, 1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_window_counts_as_a_list_of_all_records_would(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([0.01, 0.05, 0.3])
    dead_letter_limiter, history = DeadLetterLimiter(DeadLetterLimits(max_ratio=limit)), bytearray()
    while len(history) < 60_000:
        count = chance.choice([0, 1, 7, 900, 9_999, 10_000, 10_001, 25_000])
        rate = chance.choice([0.0, 0.0, limit, 2 * limit])
        dead = [number for number in range(count) if chance.random() < rate]
        chunk = bytearray(count)
        for number in dead:
            chunk[number] = 1
        history += chunk
        too_many = bool(dead) and len(history) >= WINDOW_RECORDS and sum(history[-WINDOW_RECORDS:]) > limit * 10_000
        if too_many:
            assert stopped(dead_letter_limiter, count, *dead).stop.limit == "max_ratio"
            return
        admit(dead_letter_limiter, count, *dead)


def test_the_position_kept_is_the_first_of_the_chunk_that_is_not_handed_over() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=3))
    assert stopped(dead_letter_limiter, 100, 5, *range(20, 60), first=1_000).stop.position == "1005"


def test_the_next_session_stops_at_the_same_record_with_the_same_words_whatever_the_size_of_its_chunks() -> None:
    error = stopped(DeadLetterLimiter(DeadLetterLimits(max_consecutive=3)), 100, 5, *range(20, 60), first=1_000)
    again = DeadLetterLimiter(DeadLetterLimits(max_consecutive=3), [error.stop])
    admit(again, 5, first=1_000)
    second = stopped(again, 1, 0, first=1_005)
    assert (str(second), second.hint, second.again) == (str(error), error.hint, True)


def test_raising_the_limit_or_mending_the_cause_lets_the_next_session_go_on() -> None:
    stop = stopped(DeadLetterLimiter(DeadLetterLimits(max_consecutive=3)), 4, 0, 1, 2, 3).stop
    raised = DeadLetterLimiter(DeadLetterLimits(max_consecutive=4), [stop])
    assert raised.stops == {}
    admit(raised, 4, 0, 1, 2, 3)
    mended: list[LimitStop] = []
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=3), [stop], on_passed=mended.append)
    admit(dead_letter_limiter, 4, 2, of=shard("other"))
    assert mended == []
    admit(dead_letter_limiter, 4, 2)
    assert mended == [stop] and dead_letter_limiter.stops == {}


def test_another_limit_that_was_raised_does_not_help() -> None:
    stop = stopped(DeadLetterLimiter(DeadLetterLimits(max_consecutive=3)), 4, 0, 1, 2, 3).stop
    assert stopped(DeadLetterLimiter(DeadLetterLimits(max_ratio=1.0, max_consecutive=3), [stop]), 4, 0).again


def refuse(dead_letter_limiter: DeadLetterLimiter, position: str, first: str) -> None:
    dead_letter = DeadLetter(0, Position(position), "orders", "refused_by_clickhouse", "age")
    dead_letter_limiter.count_rejected("orders_ch", shard(), dead_letter, (shard(), Position(first)))


def test_rows_that_clickhouse_refuses_count_into_the_same_limits() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=2))
    refuse(dead_letter_limiter, "1", "1")
    refuse(dead_letter_limiter, "2", "1")
    dead_letter_limiter.count_accepted("orders_ch", [])
    refuse(dead_letter_limiter, "3", "3")
    refuse(dead_letter_limiter, "4", "3")
    with pytest.raises(LimitReached, match="in column age") as caught:
        refuse(dead_letter_limiter, "5", "3")
    stop = caught.value.stop
    assert (stop.position, stop.refused) == ("3", True), "no dead letter of the statement is written yet"

    again = DeadLetterLimiter(DeadLetterLimits(max_consecutive=2), [stop])
    admit(again, 9, 3)  # that the record at 3 decodes, or does not, is not what stopped the session before
    with pytest.raises(LimitReached) as caught:
        refuse(again, "3", "3")
    assert caught.value.again


def test_refused_rows_turn_records_that_had_passed_into_letters() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_ratio=0.001))
    admit(dead_letter_limiter, WINDOW_RECORDS)
    for number in range(10):
        refuse(dead_letter_limiter, str(number), "0")
        dead_letter_limiter.count_accepted("orders_ch", [])
    with pytest.raises(LimitReached, match=r"0\.001 of the last"):
        refuse(dead_letter_limiter, "10", "10")


def test_a_refused_row_that_clickhouse_takes_at_last_is_forgiven() -> None:
    dead_letter_limiter = DeadLetterLimiter(DeadLetterLimits(max_consecutive=1))
    refuse(dead_letter_limiter, "3", "3")
    with pytest.raises(LimitReached) as caught:
        refuse(dead_letter_limiter, "4", "3")
    mended: list[LimitStop] = []
    again = DeadLetterLimiter(DeadLetterLimits(max_consecutive=1), [caught.value.stop], on_passed=mended.append)
    again.count_accepted("orders_ch", [(shard(), b'"33","13"'), (shard("other"), b'"3"')])
    assert mended == []
    again.count_accepted("orders_ch", [(shard(), b'"2","3"')])
    assert mended == [caught.value.stop]

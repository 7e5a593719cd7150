"""Rewind: which positions are taken back after a restart of the server, how far, and never ahead."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.pipeline.pipeline_parts import SOURCE

from dyncdc.model.checkpoints import Checkpoint, Mark, Past, PastMark, Server
from dyncdc.model.shards import HORIZON, Position, ShardId
from dyncdc.pipeline.recovery.rewind import is_before, is_restarted, rewind, together

STARTED_AT = 10_000.0
SERVER = Server("one", STARTED_AT)
KEY = (SOURCE, ShardId("s"))


def saved(position: int, at: float, *, epoch: float = 5_000.0, ordinal: int = 99, finished: bool = False) -> Checkpoint:
    """A row saved at ``at`` by a process that began at ``epoch``, in seconds."""
    mark = Mark(Position(str(position)), at, finished)
    return Checkpoint(SOURCE, KEY[1], mark, int(epoch * 1_000_000), ordinal, saved_at=at)


def past(
    *marks: tuple[int, float], epoch: float = 5_000.0, begins: Sequence[int] = (0,), server: str = "one"
) -> list[PastMark]:
    """Past marks of the shard, as (position, when)."""
    return [
        PastMark(
            SOURCE,
            KEY[1],
            Mark(Position(str(position)) if position else HORIZON, at),
            int(epoch * 1_000_000),
            number,
            number in begins,
            server,
            at,
        )
        for number, (position, at) in enumerate(marks)
    ]


def position_after(row: Checkpoint, marks: Sequence[PastMark], *, server: Server = SERVER, last: float = 0.0) -> str:
    found = rewind([row], Past(marks, last), server, 300.0).marks
    return found[KEY].position if KEY in found else "stays"


def test_reading_goes_on_from_the_newest_mark_that_is_old_enough() -> None:
    marks = past((0, 9_000.0), (1, 9_500.0), (2, 9_690.0), (3, 9_750.0), (4, 9_810.0))
    assert position_after(saved(5, 9_999.0), marks) == "2"


def test_what_was_saved_since_the_server_started_stays() -> None:
    assert position_after(saved(5, 10_001.0, epoch=10_000.5), past((1, 9_000.0), (2, 10_001.0))) == "stays"


def test_what_a_process_saves_that_has_not_noticed_the_restart_counts_for_nothing() -> None:
    assert position_after(saved(5, 10_001.0, epoch=9_000.0), past((1, 9_000.0), (2, 9_900.0)), last=9_990.0) == "1"


def test_what_was_saved_long_before_the_last_save_stays() -> None:
    assert position_after(saved(5, 9_600.0, finished=True), past((1, 9_000.0)), last=9_990.0) == "stays"


@pytest.mark.parametrize("last", [9_990.0, 0.0])
def test_a_finished_shard_is_read_again_if_it_ended_in_those_seconds(last: float) -> None:
    assert position_after(saved(5, 9_980.0, finished=True), past((0, 9_000.0), (4, 9_900.0)), last=last) == HORIZON


def test_a_shard_that_began_in_those_seconds_is_read_from_where_it_began() -> None:
    assert position_after(saved(5, 9_999.0), past((0, 9_950.0), (3, 9_970.0))) == HORIZON


def test_what_lies_before_a_new_beginning_is_not_gone_back_to() -> None:
    marks = past((7, 9_000.0), (8, 9_600.0), (4, 9_900.0), (5, 9_960.0), begins=(0, 2))
    assert position_after(saved(6, 9_999.0), marks) == "4", "8 is what the shard was at before it was read again from 4"


def test_a_mark_of_which_the_save_was_lost_is_never_gone_ahead_to() -> None:
    marks = past((1, 9_950.0), (9, 9_960.0), begins=(0, 1))
    assert position_after(saved(2, 9_955.0, ordinal=0), marks) == "1"


def test_without_a_history_a_position_stays() -> None:
    assert position_after(saved(5, 9_999.0), []) == "stays"


def test_another_server_counts_as_one_that_was_started_again() -> None:
    marks = past((1, 9_500.0), (2, 9_950.0))
    assert position_after(saved(5, 9_999.0), marks, server=Server("other", 100.0)) == "1"
    assert position_after(saved(5, 9_999.0), marks, server=Server("other")) == "1"
    assert position_after(saved(5, 9_999.0), marks, server=Server("one", 100.0)) == "stays"
    assert position_after(saved(5, 9_999.0), marks, server=Server("", 0.0)) == "stays", "any of several may answer"


def test_a_long_outage_does_not_shorten_what_is_read_again() -> None:
    marks = past((1, 1_000.0), (2, 1_600.0), (3, 1_900.0), epoch=900.0)
    assert position_after(saved(5, 1_990.0, epoch=900.0), marks) == "2"


def test_without_anything_older_than_the_server_nothing_is_touched() -> None:
    found = rewind([saved(5, 10_001.0, epoch=10_000.5)], Past(), SERVER, 300.0)
    assert not found.marks and not found.touches(10_001.0, 1)


def test_what_was_acknowledged_in_those_seconds_is_touched() -> None:
    found = rewind([saved(5, 9_999.0)], Past(), SERVER, 300.0)
    assert found.touches(9_800.0, 10_001_000_000) and not found.touches(9_600.0, 1)
    assert not found.touches(10_001.0, 10_001_000_000)


def test_a_restart_is_told_from_a_clock_that_jitters() -> None:
    assert is_restarted(SERVER, STARTED_AT + 5.0)
    assert not is_restarted(SERVER, STARTED_AT + 0.999)
    assert not is_restarted(Server("one"), STARTED_AT) and not is_restarted(SERVER, 0.0)


def test_a_process_that_began_within_the_second_of_the_start_is_not_older() -> None:
    assert not is_before(saved(1, 10_000.5, epoch=STARTED_AT - 0.9), SERVER)


def test_of_two_losses_the_one_that_reaches_further_back_decides() -> None:
    marks = past((0, 9_000.0), (1, 9_500.0), (2, 9_690.0), (3, 9_750.0), (4, 9_810.0))
    row, last = saved(5, 9_999.0), Server("one", STARTED_AT + 50.0)
    earlier = rewind([row], Past(marks), SERVER, 300.0)
    later = rewind([row, Checkpoint(SOURCE, ShardId("t"), row.mark, 1, 1, saved_at=10_049.0)], Past(marks), last, 200.0)
    assert later.marks[KEY].position == "4" and earlier.marks[KEY].position == "2"
    for both in (together([earlier, later]), together([later, earlier])):
        assert both.marks[KEY].position == "2"
        assert both.touches(9_800.0, 10_001_000_000) and both.touches(10_020.0, 10_060_000_000)
        assert both.acknowledged_before(10_020.0) and not both.acknowledged_before(10_051.0)
        assert both.overtakes(row) and not both.overtakes(saved(6, 10_060.0, epoch=10_055.0))

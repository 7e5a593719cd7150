"""ShardLedger: the frontier moves over the contiguous durable prefix, and finished comes behind the data."""

from __future__ import annotations

import pytest
from support.pipeline.pipeline_parts import ledger_of, mark, shard

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import HORIZON
from dyncdc.pipeline.checkpoint.ledger import MANY_RECEIPTS, ShardLedger


def nothing() -> None:
    """Release nothing."""


def test_c3_the_frontier_waits_for_the_oldest_chunk() -> None:
    ledger = ledger_of()
    first, second = ledger.track(mark(1), 1, nothing), ledger.track(mark(2), 1, nothing)
    second.ack()
    assert ledger.frontier == Mark(HORIZON)
    first.ack()
    assert ledger.frontier == mark(2) and ledger.in_flight == 0


def test_a_chunk_is_durable_with_its_last_block_and_gives_its_bytes_back_once() -> None:
    ledger, released = ledger_of(), []
    receipt = ledger.track(mark(1), 3, lambda: released.append(1))
    receipt.ack()
    receipt.ack()
    assert released == [] and ledger.frontier == Mark(HORIZON)
    receipt.ack()
    assert released == [1] and ledger.frontier == mark(1)


def test_a_block_cannot_be_acknowledged_twice() -> None:
    receipt = ledger_of().track(mark(1), 1, nothing)
    receipt.ack()
    with pytest.raises(AssertionError, match="twice"):
        receipt.ack()


def test_an_empty_chunk_moves_the_frontier_only_behind_what_came_before() -> None:
    ledger = ledger_of()
    first = ledger.track(mark(1), 1, nothing)
    ledger.track(mark(1, read_until=5.0), 0, nothing)
    assert ledger.frontier == Mark(HORIZON)
    first.ack()
    assert ledger.frontier == mark(1, read_until=5.0)


def test_empty_chunks_behind_a_stalled_sink_take_no_memory() -> None:
    ledger = ledger_of()
    first = ledger.track(mark(1), 1, nothing)
    for second in range(1_000):
        ledger.track(mark(1, read_until=float(second)), 0, nothing)
    assert ledger.in_flight == 2
    first.ack()
    assert ledger.frontier == mark(1, read_until=999.0)


def test_the_end_of_a_shard_never_overtakes_its_data() -> None:
    finished: list[bool] = []
    ledger = ShardLedger(shard(), Mark(HORIZON), persisted=None, on_finished=lambda: finished.append(True))
    receipt = ledger.track(mark(1), 1, nothing)
    ledger.track(mark(1, finished=True), 0, nothing)
    assert ledger.frontier == Mark(HORIZON)
    assert finished == []
    receipt.ack()
    assert ledger.frontier == mark(1, finished=True)
    assert finished == [True]


def test_an_empty_chunk_gives_its_bytes_back_at_once() -> None:
    ledger, released = ledger_of(), []
    ledger.track(mark(1), 1, nothing)
    ledger.track(mark(2), 0, lambda: released.append(1))
    assert released == [1]


def test_the_frontier_never_passes_a_chunk_of_which_something_was_left_out() -> None:
    """Catches: a position behind changes that went nowhere."""
    ledger, released, given = ledger_of(), [], []
    ledger.track(mark(1), 0, nothing)
    receipt = ledger.track(mark(2), 1, lambda: released.append(2), given.append, incomplete=True)
    receipt.ack(7)
    assert ledger.frontier == mark(1) and given == [7], "but its bytes are given back"
    ledger.track(mark(3), 0, nothing, incomplete=True)
    ledger.track(mark(4), 1, nothing).ack()
    ledger.track(mark(4, finished=True), 0, nothing)
    assert ledger.frontier == mark(1) and ledger.incomplete


def test_chunks_behind_one_of_which_something_was_left_out_take_no_memory() -> None:
    ledger = ledger_of()
    for number in range(10_000):
        ledger.track(mark(number), 1, nothing, incomplete=number % 2 == 0).ack()
    assert ledger.in_flight <= 2 * MANY_RECEIPTS

"""ShardLedger: in whatever order blocks become durable, the frontier is the contiguous prefix."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from support.pipeline.pipeline_parts import ledger_of, mark

from dyncdc.model.shards import HORIZON


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_c3_the_frontier_never_passes_an_unacknowledged_chunk(parts: list[int], rng: random.Random) -> None:
    ledger = ledger_of()
    released: list[int] = []
    receipts = [
        ledger.track(mark(number), count, lambda number=number: released.append(number))  # type: ignore[misc]
        for number, count in enumerate(parts)
    ]
    blocks = [number for number, count in enumerate(parts) for _ in range(count)]
    rng.shuffle(blocks)
    left = list(parts)
    for number in blocks:
        receipts[number].ack()
        left[number] -= 1
        durable = next((index for index, count in enumerate(left) if count), len(left))
        assert ledger.frontier.position == (str(durable - 1) if durable else HORIZON)
    assert ledger.in_flight == 0
    assert sorted(released) == list(range(len(parts)))

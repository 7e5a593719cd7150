"""However processes meet, and whatever the clocks say: one of them works, and the destination ends equal."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .identity import run

SEEDS = 80
CHUNK = 40


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_processes_that_meet_under_any_clock_end_with_one_at_work_and_the_destination_equal(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its seed: run(seed) repeats it
    expected = ("alone", "together", "newcomer", "refused", "takes over", "frozen", "sessions lost")
    assert all(counted[what] for what in expected), counted

"""However many members there are, and whatever becomes of them, the destination ends equal to the source."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .membering import run

SEEDS = 80
CHUNK = 40


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_members_that_come_go_and_change_in_number_end_with_the_destination_equal_to_the_source(
    first_seed: int,
) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its seed: run(seed) repeats it
    expected = ("killed", "drained", "replaced", "stray", "once", "converged", *(f"members: {n}" for n in range(1, 5)))
    assert all(counted[what] for what in expected), counted

"""Whatever stands under a name for a while, the destination ends equal to the source, and every gap is closed."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .moving import run

SEEDS = 100
CHUNK = 100


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_lives_under_which_names_change_hands_end_with_the_destination_equal_to_the_source(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed) or Counter()  # an error names its seed: run(seed) repeats it
    assert counted["exchange"] > 20 and counted["truncate"] > 3 and counted["recreated"] > 3
    assert counted["gaps"] > 10 and counted["swept at a word"] > 0

"""Whatever AWS forgets, the destination ends equal to the source, and every gap and request is closed."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .losing import run

SEEDS = 100
CHUNK = 50


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_k8_sessions_that_lose_positions_end_with_the_destination_equal_to_the_source(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed) or Counter()  # an error names its seed: run(seed) repeats it
    assert counted["gaps"] > 10 and counted["reborn"] > 1

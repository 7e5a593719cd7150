"""Whatever expires while a shard is read, the gaps tell of it before a position passes it."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .edges import run

SEEDS = 10
CHUNK = 10


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_k8_all_that_a_slow_reader_loses_lies_in_gaps_that_are_durable_before_it_reads_on(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its record: run(seed) repeats it
    assert counted["lost"] > 1_000 and counted["gaps"] > 5, "there was something to tell"
    assert counted["gaps without a loss"] * 5 < counted["gaps"] and counted["told"] < 3 * counted["lost"], counted

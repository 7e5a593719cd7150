"""However far ClickHouse goes back, and whenever, the destination ends equal to the source."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .going_back import run

SEEDS = 100
CHUNK = 100


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_lives_over_a_clickhouse_that_goes_back_end_with_the_destination_equal_to_the_source(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed) or Counter()  # an error names its seed: run(seed) repeats it
    lost = [counted[f"lost: {what}"] for what in ("nothing", "everything", "destination", "checkpoints")]
    assert all(lost) and counted["noticed"] > 10 and counted["watermarks"] > 100, counted


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_whoever_follows_a_process_that_saw_replicas_lose_parts_and_was_killed_reads_again_what_was_lost(
    first_seed: int,
) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed, parts=True) or Counter()
    assert counted["lost: parts"] > 10 and counted["noticed"] == counted["lost: parts"], counted

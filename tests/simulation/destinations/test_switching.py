"""A streaming destination that is off for less than a minute leaves a gap once anybody could see it."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation.budget import chunks

from .switching import run

SEEDS = 80
CHUNK = 40


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_s3_what_a_streaming_destination_missed_within_a_minute_lies_in_a_gap_whoever_is_killed(
    first_seed: int,
) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its seed: run(seed) repeats it
    assert all(counted[what] for what in ("seen off and on", "killed while off", "seen by a later session")), counted

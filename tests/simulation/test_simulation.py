"""The real pipeline survives everything that the fakes do to it, seed by seed."""

from __future__ import annotations

from collections import Counter

import pytest

from .simulate import SNAPSHOT_POINTS, STREAM_POINTS, run

SEEDS = 400
CHUNK = 50


@pytest.mark.parametrize("first_seed", range(0, SEEDS, CHUNK))
def test_every_life_and_death_ends_with_the_destination_equal_to_the_source(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its seed: run(seed) repeats it
    assert counted["ended: once"] and counted["ended: drain"] and counted["cut: any time"]
    assert counted["watermarks"] > 200, "at each of them the destination held everything that was made before it"


@pytest.mark.timeout(60)  # as many seeds as it takes to reach every point
def test_c1_the_power_is_cut_at_every_named_point() -> None:
    counted: Counter[str] = Counter()
    points = {f"cut: {point}" for point in (*STREAM_POINTS, *SNAPSHOT_POINTS)}
    for seed in range(SEEDS, SEEDS + 300):
        counted += run(seed)
        if points <= counted.keys():
            return
    raise AssertionError(f"never reached: {sorted(points - counted.keys())}")


def test_children_are_read_as_soon_as_their_parents_have_ended() -> None:
    for seed in range(60):
        run(seed, quiet=True)


def test_a_seed_replays_exactly() -> None:
    assert run(7) == run(7)

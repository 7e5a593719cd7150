"""The real pipeline survives everything that the fakes do to it, seed by seed."""

from __future__ import annotations

from collections import Counter

import pytest

from .budget import chunks, seeds
from .simulate import SNAPSHOT_POINTS, STREAM_POINTS, run

SEEDS = 200
CHUNK = 50

REACHING = (493, 420, 460, 440, 494, 446, 499, 489, 435)
"""Seeds that reach every point between them. Only where to begin: after a change of the simulation others may."""


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_every_session_and_death_ends_with_the_destination_equal_to_the_source(first_seed: int) -> None:
    counted: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + CHUNK):
        counted += run(seed)  # an error names its seed: run(seed) repeats it
    assert counted["ended: once"] and counted["ended: drain"] and counted["cut: any time"]
    assert counted["watermarks"] > 200, "at each of them the destination held everything that was made before it"


def test_c1_the_power_is_cut_at_every_named_point() -> None:
    counted: Counter[str] = Counter()
    points = {f"cut: {point}" for point in (*STREAM_POINTS, *SNAPSHOT_POINTS)}
    for seed in (*REACHING, *range(400, 700)):
        counted += run(seed)
        if points <= counted.keys():
            return
    raise AssertionError(f"never reached: {sorted(points - counted.keys())}")


def test_children_are_read_as_soon_as_their_parents_have_ended() -> None:
    for seed in seeds(30):
        run(seed, quiet=True)


def test_a_seed_replays_exactly() -> None:
    assert run(7) == run(7)

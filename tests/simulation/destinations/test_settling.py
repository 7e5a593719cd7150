"""Settings and mappings under many seeds: what is changed and taken back leaves nothing wrong."""

from __future__ import annotations

import pytest

from simulation.budget import chunks

from . import settling

SEEDS = 200
CHUNK = 100


@pytest.mark.parametrize("first", chunks(SEEDS, CHUNK))
def test_whatever_was_changed_and_taken_back_no_row_stays_wrong(first: int) -> None:
    for seed in range(first, first + CHUNK):
        settling.run(seed)

"""Change records in any order, over again and in both units give the last state of every item, seed by seed."""

from __future__ import annotations

import pytest

from simulation.budget import chunks, seeds

from . import compiled, records, values

SEEDS = 300
CHUNK = 100


@pytest.mark.parametrize("first_seed", chunks(SEEDS, CHUNK))
def test_records_in_any_order_and_over_again_end_in_the_last_state(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + CHUNK):
        records.run(seed)  # an error names its seed


def test_the_compiled_path_gives_the_blocks_of_the_exact_one() -> None:
    for seed in seeds(SEEDS):
        compiled.run(seed)


def test_older_servers_read_every_value_that_is_not_in_the_spill_as_it_is() -> None:
    for seed in seeds(SEEDS // 3):
        values.run(seed)

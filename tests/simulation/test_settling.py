"""Settings and mappings under many seeds: what is changed and taken back leaves nothing wrong."""

from __future__ import annotations

import pytest

from . import settling


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_whatever_was_changed_and_taken_back_no_row_stays_wrong(first: int) -> None:
    for seed in range(first, first + 100):
        settling.run(seed)

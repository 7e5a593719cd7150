"""The simulation notices planted bugs: what it never notices, it does not test."""

from __future__ import annotations

import pytest

from . import mutants
from .life import Violation
from .simulate import run

SEEDS = 150


@pytest.mark.parametrize("plant", mutants.ALL, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_noticed(plant: mutants.Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    # A finished row that lands after the next process has started is rare; there, everybody dies while saving.
    cut_point = "while saving" if plant is mutants.finished_not_sticky else None
    for seed in range(SEEDS):
        try:
            run(seed, cut_point=cut_point)
        except Violation:
            return
    raise AssertionError(f"{SEEDS} seeds passed with this bug: {plant.__doc__}")

"""Planted bugs are noticed: what never notices one does not test it. ``make mutants`` shows by what."""

from __future__ import annotations

import pytest

from . import pipeline as mutants
from .noticing import MUTANTS, SEEDS, notice


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_noticed(plant: mutants.Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notice(plant, monkeypatch, recorded=True), f"{SEEDS} seeds passed with this bug: {plant.__doc__}"

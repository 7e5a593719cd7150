"""Noticing: whether a planted bug is noticed, and after how many seeds.

``python -m simulation.mutants.noticing`` shows all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from simulation import simulate
from simulation.decode import compiled, compiled_mutants, decode_mutants, records, value_mutants, values
from simulation.destinations import (
    leaving_out,
    leaving_out_mutants,
    moving,
    moving_mutants,
    settling,
    settling_mutants,
    switching,
    switching_mutants,
)
from simulation.members import identity, identity_mutants, member_mutants, membering
from simulation.process_run import Violation
from simulation.recovery import (
    edge_mutants,
    edges,
    going_back,
    going_back_mutants,
    losing,
    losing_mutants,
    rollback_mutants,
)
from simulation.snapshot import partial_exports, partial_exports_mutants

from . import pipeline as mutants
from . import refusals as refusal_mutants
from .noticing_seeds import NOTICED_BY

SEEDS = 400

MUTANTS: tuple[mutants.Plant, ...] = (
    *mutants.ALL,
    *mutants.PAUSES,
    *decode_mutants.ALL,
    *compiled_mutants.ALL,
    *losing_mutants.ALL,
    *going_back_mutants.ALL,
    *rollback_mutants.ALL,
    *member_mutants.ALL,
    *value_mutants.ALL,
    *settling_mutants.ALL,
    *identity_mutants.ALL,
    *refusal_mutants.ALL,
    *edge_mutants.ALL,
    *moving_mutants.ALL,
    *switching_mutants.ALL,
    *partial_exports_mutants.ALL,
    *leaving_out_mutants.ALL,
)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What noticed a planted bug."""

    seed: int
    tried: int
    """How many seeds it took."""
    by: str


def notice(
    plant: mutants.Plant, patch: pytest.MonkeyPatch, seeds: Iterable[int] = range(SEEDS), *, recorded: bool = False
) -> Noticed | None:
    """Plant a bug and return what noticed it; None when all seeds passed.

    ``recorded``: begin with the seed that is known to notice it, if any is.
    """
    plant(patch)
    first = [NOTICED_BY[plant.__name__]] if recorded and plant.__name__ in NOTICED_BY else []
    for tried, seed in enumerate((*first, *seeds), start=1):
        try:
            _run(plant)(seed)
        except Violation as violation:
            return Noticed(seed, tried, str(violation))
    return None


def _run(plant: mutants.Plant) -> Callable[[int], object]:
    if plant in decode_mutants.ALL:
        return records.run
    if plant in compiled_mutants.ALL:
        return compiled.run
    if plant in losing_mutants.ALL:
        return losing.run
    if plant in going_back_mutants.ALL:
        return going_back.run
    if plant in rollback_mutants.ALL:
        return lambda seed: going_back.run(seed, parts=True)
    if plant in edge_mutants.ALL:
        return edges.run
    if plant in member_mutants.ALL:
        return membering.run
    if plant in value_mutants.ALL:
        return values.run
    if plant in settling_mutants.ALL:
        return settling.run
    if plant in identity_mutants.ALL:
        return identity.run
    if plant in leaving_out_mutants.ALL:
        return leaving_out.run
    if plant in moving_mutants.ALL:
        return moving.run
    if plant in switching_mutants.ALL:
        return switching.run
    if plant in partial_exports_mutants.ALL:
        return partial_exports.run
    if plant in mutants.PAUSES:
        return lambda seed: simulate.run(seed, quiet=True)
    # A finished row that lands after the next process has started is rare; there, everybody dies while saving.
    cut_point = "while saving" if plant is mutants.finished_not_sticky else None
    return lambda seed: simulate.run(seed, cut_point=cut_point)


def main() -> int:
    """Plant all mutants, one at a time; exit 1 unless each was noticed. Tells which recorded seed is out of date."""
    noticed = 0
    for plant in MUTANTS:
        began = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            found = notice(plant, patch)
        noticed += found is not None
        result = "not noticed" if found is None else f"noticed, {found.tried:>3} seeds"
        print(f"{result:<20} {time.monotonic() - began:>5.1f} s  {plant.__name__}: {plant.__doc__}")
        print(f"{'':<30}{(found.by if found else f'{SEEDS} seeds passed')[:140]}", flush=True)
        with pytest.MonkeyPatch.context() as patch:
            if found and not notice(plant, patch, seeds=(), recorded=True):
                print(f"{'':<30}for noticing_seeds.py: seed {found.seed} notices it")
    print(f"\n{noticed} of {len(MUTANTS)} planted bugs were noticed")
    return 0 if noticed == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())

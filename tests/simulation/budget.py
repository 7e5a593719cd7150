"""How many seeds the simulations try: one number for all of them.

``make test`` tries what each of them names, ``make simulations TIMES=20`` twenty times as many.
"""

from __future__ import annotations

import os

TIMES = int(os.environ.get("DYNCDC_SIMULATIONS", "1"))


def seeds(count: int) -> range:
    """Seeds from 0 on, ``count`` of them in every run of the tests."""
    return range(count * TIMES)


def chunks(count: int, of: int) -> range:
    """The first seed of each chunk of ``of`` seeds: one test each, so that workers share them."""
    return range(0, count * TIMES, of)

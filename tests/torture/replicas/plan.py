"""Plan of a history on replicas: that of its seed, with faults of replicas among those of the processes."""

from __future__ import annotations

import dataclasses
import random
from itertools import chain

from ..kinds import ZOMBIE
from ..plan import PROCESS_SPELLS, Plan, deal_spells, make_plan
from . import kinds

REPLICA_SPELLS = 3
ORDINARY_SPELLS = PROCESS_SPELLS - REPLICA_SPELLS
PAUSE_SECONDS = (0.1, 0.7)


def make_replicated_plan(seed: int, replicas: int) -> Plan:
    """Make the plan of ``seed``."""
    plan = make_plan(seed)
    rng = random.Random(f"torture replicas {seed}")
    without = (ZOMBIE,) if plan.ties else ()
    ordinary = deal_spells(rng, seed, kinds.ORDINARY, ORDINARY_SPELLS, PAUSE_SECONDS, without=without)
    faults = deal_spells(rng, seed, kinds.SPELLS, REPLICA_SPELLS, PAUSE_SECONDS)
    mixed = chain.from_iterable(zip(faults, ordinary, strict=True))
    return dataclasses.replace(plan, process=(*mixed, *plan.process[PROCESS_SPELLS:]), replicas=replicas)

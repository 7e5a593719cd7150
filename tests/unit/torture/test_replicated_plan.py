"""Plans of histories on replicas, and what a long run of them must have injected."""

from __future__ import annotations

from collections import Counter

import pytest
from torture import matrix
from torture.history import Outcome
from torture.kinds import LEAST, REQUIRED, ZOMBIE
from torture.plan import PROCESS_SPELLS, make_plan
from torture.replicas import kinds
from torture.replicas.faults import REPLICATED
from torture.replicas.plan import make_replicated_plan

SEEDS = range(1, kinds.LONG_RUN + 1)


@pytest.mark.parametrize("seed", [1, 2, 47])
def test_a_seed_has_one_plan(seed: int) -> None:
    assert make_replicated_plan(seed, 3) == make_replicated_plan(seed, 3)
    assert make_replicated_plan(seed, 3) != make_replicated_plan(seed + 1, 3)


def test_plans_on_one_server_have_its_own_faults_and_none_of_replicas() -> None:
    before = [make_plan(seed) for seed in SEEDS]
    _ = [make_replicated_plan(seed, 3) for seed in SEEDS]
    assert [make_plan(seed) for seed in SEEDS] == before
    dealt = {spell.kind for plan in before for spell in (*plan.process, *plan.aws, *plan.stream, *plan.sql)}
    assert dealt.isdisjoint(kinds.FAULTS) and set(kinds.LEFT_OUT) <= dealt


def test_only_faults_of_processes_differ_from_the_plan_on_one_server() -> None:
    for seed in SEEDS:
        single, replicated = make_plan(seed), make_replicated_plan(seed, 3)
        assert (single.replicas, replicated.replicas) == (0, 3)
        assert (single.tables, single.aws, single.stream, single.sql) == (
            replicated.tables,
            replicated.aws,
            replicated.stream,
            replicated.sql,
        )
        assert single.process[PROCESS_SPELLS:] == replicated.process[PROCESS_SPELLS:]


def test_a_long_run_deals_each_fault_of_replicas_often_enough_and_none_that_is_left_out() -> None:
    dealt = Counter(spell.kind for seed in SEEDS for spell in make_replicated_plan(seed, 3).process)
    assert {kind: dealt[kind] for kind in kinds.SPELLS if dealt[kind] < LEAST} == {}
    assert dealt.keys().isdisjoint(kinds.LEFT_OUT)
    assert set(kinds.ORDINARY) <= dealt.keys()


def test_no_daemon_is_woken_where_changes_tie() -> None:
    plans = [make_replicated_plan(seed, 3) for seed in SEEDS if make_plan(seed).ties]
    assert plans and not any(spell.kind == ZOMBIE for plan in plans for spell in plan.process)


def test_each_fault_of_replicas_is_one_that_can_be_injected() -> None:
    assert set(kinds.SPELLS) <= REPLICATED.keys()
    assert REPLICATED.keys().isdisjoint(kinds.LEFT_OUT)
    assert set(kinds.LEFT_OUT) <= set(REQUIRED)


def test_a_long_run_demands_the_faults_of_replicas() -> None:
    counted = dict.fromkeys(kinds.FAULTS, 1)
    outcomes = [Outcome(seed, counted=dict(counted)) for seed in SEEDS]
    for outcome in outcomes[LEAST - 1 :]:
        del outcome.counted[kinds.FAILOVER]
    assert matrix.too_few(outcomes, kinds.FAULTS, kinds.LONG_RUN) == [kinds.FAILOVER]
    assert matrix.too_few(outcomes[1:], kinds.FAULTS, kinds.LONG_RUN) == []
    assert kinds.FAILOVER in matrix.lines(outcomes, kinds.REQUIRED)[2 + kinds.REQUIRED.index(kinds.FAILOVER)]

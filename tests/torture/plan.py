"""Plan: what one seed does to the world, and when. Pure: made up front from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .kinds import AWS_KINDS, PROCESS_KINDS, RETENTION, SQL_KINDS, STREAM_KINDS, ZOMBIE

PROCESS_SPELLS = 6
AWS_SPELLS = 5
STREAM_TURNS = 5
SQL_TURNS = 1
SHORT_RETENTION_SEEDS = 6
"""One seed in so many has a stream that keeps its records for seconds."""
ZOMBIE_SEEDS = 10
"""One seed in so many, of those without ties, has a daemon that is woken, beside those of the deck: never with ties."""
EXPORT, SCAN = "export", "scan"


@dataclass(frozen=True)
class Spell:
    """One disturbance of one kind."""

    kind: str
    after_seconds: float
    """Pause before it."""
    seconds: float
    """How long it lasts; what that means is the kind's matter."""
    strength: float
    """0 to 1: again the kind's matter."""

    def __str__(self) -> str:
        return f"+{self.after_seconds:.2f} s {self.kind}, {self.seconds:.2f} s, strength {self.strength:.2f}"


@dataclass(frozen=True)
class TablePlan:
    """One table: how it is loaded first, and how the stream stamps its changes in the beginning."""

    label: str
    method: str
    precision: str


@dataclass(frozen=True)
class Plan:
    """One history."""

    seed: int
    ties: bool
    """Bursts of changes of one key within a millisecond. Never with duplicates: together they are the documented limit
    of what the records alone can tell (TRAPS O14)."""
    duplicates: float
    shards: int
    keys: int
    preloaded: int
    tables: tuple[TablePlan, ...]
    slow_export: bool
    first_export_fails: str
    bad_records: int
    disturbed_start: bool
    """Whether the first start of the daemon is disturbed as well."""
    process: tuple[Spell, ...]
    aws: tuple[Spell, ...]
    stream: tuple[Spell, ...]
    sql: tuple[Spell, ...]
    coarse: bool
    """Kinesis tells times in whole seconds, and that nothing is left to read."""
    short_retention: bool
    """What is not read within seconds is gone."""
    replicas: int = 0
    """Of ClickHouse; 0 is one server that has none."""

    def lines(self) -> Iterator[str]:
        """Yield the plan for people."""
        yield f"seed {self.seed}: ties {self.ties}, duplicates {self.duplicates}"
        yield f"{self.shards} shards, {self.keys} keys, {self.preloaded} items, {self.bad_records} bad records"
        yield from (f"table {one.label}: {one.method}, {one.precision}" for one in self.tables)
        yield f"slow export {self.slow_export}, first export {self.first_export_fails or 'works'}"
        yield f"coarse times {self.coarse}, short retention {self.short_retention}, replicas {self.replicas}"
        tracks = (("process", self.process), ("aws", self.aws), ("stream", self.stream), ("sql", self.sql))
        for name, spells in tracks:
            yield from (f"{name}: {spell}" for spell in spells)


def make_plan(seed: int) -> Plan:
    """Make the plan of ``seed``."""
    rng = random.Random(f"torture {seed}")
    ties = seed % 2 == 0
    methods = [EXPORT, EXPORT, SCAN]
    # At least one table is born with microseconds, at least one with milliseconds (its version is a total order).
    precisions = ["MICROSECOND", rng.choice(["MICROSECOND", "MILLISECOND"]), "MILLISECOND"]
    rng.shuffle(precisions)
    labels = ("items", "accounts", "sessions")
    short_retention = seed % SHORT_RETENTION_SEEDS == SHORT_RETENTION_SEEDS - 1
    tables = tuple(TablePlan(label, rng.choice(methods), one) for label, one in zip(labels, precisions, strict=True))
    return Plan(
        seed=seed,
        ties=ties,
        duplicates=0.0 if ties else rng.choice([0.02, 0.1]),
        shards=rng.randint(1, 3),
        keys=rng.choice([60, 400]),
        preloaded=rng.choice([0, 300, 600]),
        tables=tables,
        slow_export=rng.random() < 0.5,
        first_export_fails=rng.choice(["", "error", "drop"]),
        # what has fallen off the retention becomes no dead letter
        bad_records=0 if short_retention else rng.choice([0, 0, 1, 4]),
        disturbed_start=rng.random() < 0.4,
        process=(
            *deal_spells(rng, seed, PROCESS_KINDS, PROCESS_SPELLS, (0.1, 0.7), without=(ZOMBIE,) if ties else ()),
            *([Spell(RETENTION, 0.5, 1.0, rng.random())] if short_retention else []),
            *([Spell(ZOMBIE, 0.5, 1.0, rng.random())] if seed % ZOMBIE_SEEDS == 1 else []),
        ),
        aws=tuple(deal_spells(rng, seed, AWS_KINDS, AWS_SPELLS, (0.0, 0.5))),
        stream=tuple(deal_spells(rng, seed, STREAM_KINDS, STREAM_TURNS, (0.3, 1.5))),
        sql=tuple(deal_spells(rng, seed, SQL_KINDS, SQL_TURNS, (0.5, 4.0))),
        coarse=seed % 4 == 1,
        short_retention=short_retention,
    )


def deal_spells(
    rng: random.Random,
    seed: int,
    kinds: Sequence[str],
    count: int,
    pause: tuple[float, float],
    *,
    without: Sequence[str] = (),
) -> Iterator[Spell]:
    """Yield the spells of a seed: dealt out over the seeds like cards, so that every kind comes up equally often."""
    for number in range(seed * count, (seed + 1) * count):
        deck = list(kinds)
        random.Random(f"deck {number // len(kinds)}").shuffle(deck)
        kind = deck[number % len(kinds)]
        while kind in without:
            kind = rng.choice(list(kinds))
        yield Spell(kind, rng.uniform(*pause), rng.uniform(0.2, 1.2), rng.random())

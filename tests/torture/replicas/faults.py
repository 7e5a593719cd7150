"""Faults of replicas, their keeper and the connection to them. Each returns when its spell is over."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

from matrix.cluster import Replica
from matrix.rebuild import DROP_REPLICA_SECONDS, copy_tables, forget
from support.processes.harness import wait_until
from support.servers.chaos import ChaosProxy

from .. import kinds as ordinary
from ..faults import disturb as single
from ..faults.owners import STEPS_SECONDS, is_off
from ..plan import Spell
from ..processes.clickhouse import ODD_PROFILES
from ..processes.daemon import check_alive
from ..world import World
from . import kinds
from .judge import expect_nothing_written_apart, tables_of
from .world import TorturedCluster

SESSION_OVER_SECONDS = 7.5
"""Longer than a session with the keeper lasts."""
REBUILD_SECONDS = 60.0
ALONE_SECONDS = 8.0
"""A session that begins on a replica without tables makes them first, statement by statement ON CLUSTER."""


def disturb(world: World, spell: Spell) -> None:
    """Do what a spell says, and count it; what is one of the processes' takes the daemon's replica away as well."""
    act = REPLICATED.get(spell.kind)
    with contextlib.ExitStack() as stack:
        if act is not None or spell.kind in ordinary.PROCESS_KINDS:
            stack.enter_context(_taken_away(world, spell))
        if act is None:
            single.disturb(world, spell)
        else:
            world.counted[spell.kind] += act(world, spell)


@contextlib.contextmanager
def _taken_away(world: World, spell: Spell) -> Iterator[None]:
    """Cut the daemon off from the replica that it is connected to, for the length of the fault or for its beginning."""
    front = max(world.fronts, key=lambda front: front.open_connections)
    if not front.open_connections:  # it is connected to none
        yield
        return
    front.refuse = True
    world.loop.soon(front.reset_connections)
    world.counted[kinds.FAILOVER] += 1
    try:
        world.sleep(0.3 * spell.strength)
        if spell.strength < 0.3:  # it may come back to this one when the next is the faulty one
            front.refuse = False
        yield
    finally:
        front.refuse = False


@contextlib.contextmanager
def _sent_to(world: World, replica: Replica) -> Iterator[None]:
    """Let the daemon reach this replica alone while the block runs."""
    others = list(world.fronts)
    others.pop(world.cluster.replicas.index(replica)).refuse = False
    for front in others:
        front.refuse = True
        world.loop.soon(front.reset_connections)
    try:
        yield
    finally:
        for front in others:
            front.refuse = False


def _chosen(world: World, spell: Spell) -> Replica:
    """Any replica: that of the daemon, by now another, among them."""
    cluster: TorturedCluster = world.cluster
    return random.Random(f"replica {world.plan.seed} {spell.strength}").choice(cluster.replicas)


def _away(world: World, spell: Spell, leave: Callable[[], None], come_back: Callable[[], None]) -> int:
    leave()
    try:
        world.sleep(_short_or_long(spell))
    finally:
        come_back()
    return 1


def kill_replica(world: World, spell: Spell) -> int:
    replica = _chosen(world, spell)
    with world.cluster.without(replica):
        return _away(world, spell, replica.kill, replica.up)


def freeze_replica(world: World, spell: Spell) -> int:
    replica = _chosen(world, spell)
    with world.cluster.without(replica):
        return _away(world, spell, replica.freeze, replica.thaw)


def stop(what: str) -> Callable[[World, Spell], int]:
    """Let a replica not fetch from the others, or not send to them, so that it, or they, fall behind.

    At times the daemon fails over to it meanwhile.
    """

    def act(world: World, spell: Spell) -> int:
        replica = _chosen(world, spell)
        replica.http.run(f"SYSTEM STOP {what}")
        try:
            world.sleep(0.5 + spell.seconds * 2)
            with _sent_to(world, replica) if spell.strength > 0.4 else contextlib.nullcontext():
                world.sleep(0.5 + spell.seconds * 2)
        finally:
            replica.http.run(f"SYSTEM START {what}")
        return 1

    return act


def rebuild(world: World, spell: Spell) -> int:
    """Lose the disk of a replica, drop it from the keeper, and create its tables again from those of another.

    At times the daemon can reach no other while it has no tables.
    """
    cluster: TorturedCluster = world.cluster
    replica, database = _chosen(world, spell), world.place.name
    number = cluster.replicas.index(replica)
    source = cluster.replicas[number - 1]
    with cluster.without(replica):
        replica.kill()
        replica.wipe()
        name = f"r{number + 1}"
        wait_until(
            lambda: forget(source, name, database), DROP_REPLICA_SECONDS, f"{name} is dropped", pause_seconds=0.5
        )
        replica.up()
        if spell.strength > 0.5:
            with _sent_to(world, replica):
                world.sleep(ALONE_SECONDS + spell.seconds * 3)
                expect_nothing_written_apart(replica, database)
        wait_until(lambda: _share(source, replica, database), REBUILD_SECONDS, "it shares its tables")
    return 1


def _share(source: Replica, target: Replica, database: str) -> bool:
    """Whether a replica has the tables of another; they are made again if not. The daemon may change them meanwhile."""
    if tables_of(target, database) == tables_of(source, database):
        return True
    with contextlib.suppress(AssertionError, OSError):
        copy_tables(source, target, database)
    return False


def kill_keeper(world: World, spell: Spell) -> int:
    return _away(world, spell, world.cluster.keeper.kill, world.cluster.keeper.start)


def freeze_keeper(world: World, spell: Spell) -> int:
    return _away(world, spell, world.cluster.keeper.freeze, world.cluster.keeper.thaw)


def step_clock(world: World, spell: Spell) -> int:
    """Let the clock of one replica be off for a while. At times a daemon begins in that time."""
    cluster: TorturedCluster = world.cluster
    replica = _chosen(world, spell)
    clock = cluster.clocks[cluster.replicas.index(replica)]
    off = random.Random(f"clock {world.plan.seed} {spell.strength}").choice(STEPS_SECONDS)
    clock.step(off)
    try:
        moved = is_off(replica.http, off)
        world.sleep(spell.seconds)
        if spell.strength > 0.5:
            check_alive(world)
            world.daemon.kill()
            world.daemon.start()
            world.sleep(spell.seconds)
    finally:
        clock.step(0.0)
    return int(moved)


def change_profile(world: World, spell: Spell) -> int:
    """Start one replica again with other settings for the daemon's user. They stay."""
    replica = _chosen(world, spell)
    replica.profile = ODD_PROFILES[int(spell.strength * 1000) % len(ODD_PROFILES)]
    with world.cluster.without(replica):
        replica.kill()
        replica.up()
    return 1


def _fronts(world: World, spell: Spell) -> list[ChaosProxy]:
    """All that lead to ClickHouse, or one of them."""
    if spell.strength > 0.5:
        return list(world.fronts)
    return [random.Random(f"front {world.plan.seed} {spell.strength}").choice(world.fronts)]


def reset_fronts(world: World, spell: Spell) -> int:
    times = 1 + int(spell.strength * 4)
    for _ in range(times):
        for front in world.fronts:
            world.loop.soon(front.reset_connections)
        world.sleep(spell.seconds / times)
    return times


def switched(change: Callable[[Spell], dict[str, float | int | bool]]) -> Callable[[World, Spell], int]:
    """Turn switches of one proxy, or of all, for the length of the spell."""

    def act(world: World, spell: Spell) -> int:
        chosen = _fronts(world, spell)
        for front in chosen:
            for name, value in change(spell).items():
                setattr(front, name, value)
        try:
            world.sleep(spell.seconds)
        finally:
            for front in chosen:
                front.heal()
        return 1

    return act


def _short_or_long(spell: Spell) -> float:
    """Shorter than a session with the keeper, mostly."""
    return SESSION_OVER_SECONDS if spell.strength > 0.75 else spell.seconds * 2.5


REPLICATED: dict[str, Callable[[World, Spell], int]] = {
    kinds.REPLICA_KILLED: kill_replica,
    kinds.REPLICA_FROZEN: freeze_replica,
    kinds.REPLICA_LAGS: stop("FETCHES"),
    kinds.SENDS_STOPPED: stop("REPLICATED SENDS"),
    kinds.REPLICA_REBUILT: rebuild,
    kinds.REPLICA_CLOCK: step_clock,
    kinds.KEEPER_KILLED: kill_keeper,
    kinds.KEEPER_FROZEN: freeze_keeper,
    ordinary.PROFILE: change_profile,
    ordinary.CLICKHOUSE_RESET: reset_fronts,
    ordinary.CLICKHOUSE_LATE: switched(lambda spell: {"latency_seconds": 0.05 + 0.3 * spell.strength}),
    ordinary.CLICKHOUSE_SILENT: switched(lambda spell: {"blackhole": True}),
    ordinary.CLICKHOUSE_CUT: switched(lambda spell: {"cut_after_bytes": int(10 + 1500 * spell.strength)}),
}

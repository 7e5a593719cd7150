"""Disturb: what each kind of fault does to a world. A function returns when its spell is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from support.processes.harness import wait_until
from support.servers.chaos import ChaosProxy

from .. import kinds
from ..plan import Spell
from ..processes.daemon import check_alive, terminate
from ..workload import HAND_MADE
from ..world import MARGIN_SECONDS, World, replacement
from . import outside
from .outside import run_somehow
from .owners import OWNERS, streaming_destinations

LONGEST_FREEZE_SECONDS = 3.0
LOST_SECONDS = MARGIN_SECONDS + 1.0
PRECISIONS = {"MILLISECOND": "MICROSECOND", "MICROSECOND": "MILLISECOND"}

READS = ("GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary")
TABLE_READS = ("DescribeTable", "DescribeKinesisStreamingDestination", "DescribeExport", "Scan")
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")
OBJECT_READ = "GetObject"


def disturb(world: World, spell: Spell) -> None:
    """Do what a spell says, and count it."""
    if spell.kind in AWS_FAULTS:
        _fail_calls(world, spell)
    else:
        world.counted[spell.kind] += DISTURBANCES[spell.kind](world, spell)


# --- the daemon ---


def kill_daemon(world: World, spell: Spell) -> int:
    check_alive(world)
    world.daemon.kill()
    world.sleep(spell.seconds * spell.strength)
    world.daemon.start()
    # at times it is killed again while it starts; mostly it gets to work first
    if spell.strength > 0.3:
        world.daemon.wait_ready()
    return 1


def terminate_daemon(world: World, spell: Spell) -> int:
    terminate(world)
    world.daemon.start()
    if spell.strength > 0.3:
        world.daemon.wait_ready()
    return 1


def freeze_daemon(world: World, spell: Spell) -> int:
    check_alive(world)
    world.freeze(world.daemon.pid, spell.seconds * LONGEST_FREEZE_SECONDS / 1.2)
    return 1


def replace_daemon(world: World, spell: Spell) -> int:
    """Freeze the daemon, let another one take over, and wake it: it must stop and say so."""
    check_alive(world)
    old, new = world.daemon, replacement(world)
    old.wait_ready()  # or it would be the later one
    old.signal(signal.SIGSTOP)
    new.arguments = ("--take-over",)  # or it would wait until the other has not been seen for a while
    try:
        new.start()
        new.arguments = ()
        new.wait_ready()
        world.sleep(spell.seconds)
    finally:
        old.signal(signal.SIGCONT)
    world.daemon = new
    try:
        code = old.wait(20)
    except AssertionError:
        old.signal(signal.SIGUSR1)  # see processes/task_dump/sitecustomize.py
        world.sleep(1.0)
        raise AssertionError(f"a daemon that was replaced does not end; its tasks are in {old.log}") from None
    assert code == 1, f"a daemon that was replaced: {old.tail()}"
    assert "took over" in old.log.read_text(), old.tail()
    return 1


# --- ClickHouse and the network ---


def freeze_clickhouse(world: World, spell: Spell) -> int:
    world.freeze(world.server.pid, spell.seconds * LONGEST_FREEZE_SECONDS / 1.2)
    return 1


def kill_clickhouse(world: World, spell: Spell) -> int:
    world.server.kill()
    try:
        world.sleep(spell.seconds)
    finally:
        world.loop.call(world.server.start())
    return 1


def reset(proxy: Callable[[World], ChaosProxy]) -> Callable[[World, Spell], int]:
    def act(world: World, spell: Spell) -> int:
        times = 1 + int(spell.strength * 4)
        for _ in range(times):
            world.loop.soon(proxy(world).reset_connections)
            world.sleep(spell.seconds / times)
        return times

    return act


def switched(proxy: Callable[[World], ChaosProxy], change: Callable[[Spell], dict[str, Any]]) -> Any:
    """Turn switches of a proxy for the length of the spell."""

    def act(world: World, spell: Spell) -> int:
        for name, value in change(spell).items():
            setattr(proxy(world), name, value)
        try:
            world.sleep(spell.seconds)
        finally:
            proxy(world).heal()
        return 1

    return act


def _aws(world: World) -> ChaosProxy:
    return world.to_aws


def _clickhouse(world: World) -> ChaosProxy:
    return world.to_clickhouse


# --- the stream ---


def split(world: World, spell: Spell) -> int:
    if len(world.aws.open_shards(world.place.name)) > 5:
        world.counted[kinds.MERGE] += merge(world, spell)
        return 0
    world.aws.split_first(world.place.name)
    return 1


def merge(world: World, spell: Spell) -> int:
    if len(world.aws.open_shards(world.place.name)) < 2:
        world.counted[kinds.SPLIT] += split(world, spell)
        return 0
    world.aws.merge_last(world.place.name)
    return 1


def change_unit(world: World, spell: Spell) -> int:
    """Switch the time stamps of one table to the other unit, or of all.

    No one writes at the instant of the switch: within one millisecond around it no record says which came first.
    """
    tables = sorted(world.names.values())
    chosen = tables if spell.strength > 0.6 else [tables[int(spell.strength * 5) % len(tables)]]
    with world.streaming, world.writes.pause:
        world.sleep(0.003)
        for table in chosen:
            (now,) = streaming_destinations(world, table)
            world.aws.dynamodb.update_kinesis_streaming_destination(
                TableName=table,
                StreamArn=world.stream_arn,
                UpdateKinesisStreamingConfiguration={
                    "ApproximateCreationDateTimePrecision": PRECISIONS[now["ApproximateCreationDateTimePrecision"]]
                },
            )
        for table in chosen:
            wait_until(
                lambda name=table: streaming_destinations(world, name)[0]["DestinationStatus"] == "ACTIVE",  # type: ignore[misc]
                10,
                "the new unit is in force",
                pause_seconds=0.02,
            )
        world.sleep(0.003)
    return len(chosen)


GHOSTS = {
    "items": "(pk, n, _version) SELECT concat('orphan row-', toString(number)), number, 1 FROM numbers(3)",
    "accounts": "(id, _version) SELECT concat('orphan row-', toString(number)), 1 FROM numbers(3)",
    "sessions": "(token, number, _version) SELECT 'Z2hvc3Q=', toString(number), 1 FROM numbers(3)",
}
"""Rows of items that never were."""


def load_again(world: World, spell: Spell) -> int:
    """Take rows from a table and put others into it, and ask for another snapshot, which fixes both."""
    label = sorted(GHOSTS)[int(spell.strength * 100) % len(GHOSTS)]
    table = world.names[label]
    clickhouse = world.place.clickhouse
    statements = (
        f"INSERT INTO {label} {GHOSTS[label]}",
        f"ALTER TABLE {label} DELETE WHERE cityHash64(_version) % 3 = 0 AND {_older_than(LOST_SECONDS)}"
        " SETTINGS mutations_sync = 1",
    )
    with world.by_hand:
        for statement in statements:
            if not run_somehow(world, lambda sql=statement: clickhouse.run(sql)):  # type: ignore[misc]
                return 0
        return int(run_somehow(world, lambda: outside.ask_for_snapshot(world, table)))


def add_column(world: World, spell: Spell) -> int:
    """Someone adds a column that is named like an attribute: rows show it from the next look at the columns on."""
    name = HAND_MADE[int(spell.strength * 100) % len(HAND_MADE)]
    statement = f"ALTER TABLE items ADD COLUMN IF NOT EXISTS {name} Nullable(String)"
    return int(run_somehow(world, lambda: world.place.clickhouse.run(statement)))


def _older_than(seconds: float) -> str:
    """A condition on versions of either kind. A snapshot fixes what is older than its margin."""
    microseconds = int((time.time() - seconds) * 1_000_000)
    return f"toFloat64(_version) < {microseconds} * if(toTypeName(_version) = 'UInt256', pow(2, 192), 1)"


# --- AWS ---


def _refusals(codes: dict[str, Sequence[str]]) -> dict[str, list[Any]]:
    return {
        operation: [{"error": name, "status": 403 if operation == OBJECT_READ else 400} for name in names]
        for operation, names in codes.items()
    }


def _errors(codes: dict[str, tuple[str, int]]) -> dict[str, list[Any]]:
    return {operation: [{"error": code, "status": status}] for operation, (code, status) in codes.items()}


_THROUGHPUT = ("ProvisionedThroughputExceededException", 400)
_LIMIT = ("LimitExceededException", 400)
_THROTTLING = ("ThrottlingException", 400)

AWS_FAULTS: dict[str, dict[str, list[Any]]] = {
    kinds.THROTTLED: _errors(
        {
            "GetRecords": _THROUGHPUT,
            "GetShardIterator": _THROUGHPUT,
            "ListShards": _LIMIT,
            "DescribeStreamSummary": _LIMIT,
            "DescribeTable": _THROTTLING,
            "DescribeKinesisStreamingDestination": _THROTTLING,
            "DescribeExport": _THROTTLING,
            "Scan": _THROUGHPUT,
            OBJECT_READ: ("SlowDown", 503),
        }
    ),
    kinds.SERVER_ERROR: _errors(
        {
            **dict.fromkeys(READS, ("InternalFailure", 500)),
            **dict.fromkeys(TABLE_READS, ("InternalServerError", 500)),
            OBJECT_READ: ("InternalError", 500),
        }
    ),
    kinds.DROPPED: {key: ["drop"] for key in (*READS, *TABLE_READS, OBJECT_READ)},
    kinds.TRUNCATED: {key: [{"cut": 0}, {"cut": 30}, {"cut": 500}] for key in (*READS, *TABLE_READS, OBJECT_READ)},
    kinds.STALE: {key: [{"hold": 0.2}, {"hold": 0.9}] for key in (*READS, *TABLE_READS, OBJECT_READ)},
    kinds.DENIED: _refusals(
        {
            **dict.fromkeys((*READS, *TABLE_READS), ("AccessDeniedException", "ExpiredTokenException")),
            OBJECT_READ: ("AccessDenied", "ExpiredToken"),
        }
    ),
    kinds.EMPTY: {"GetRecords": [{"empty": True}]},
    kinds.EXPIRED: {"GetRecords": [{"error": "ExpiredIteratorException"}]},
    kinds.APPLIED: {key: [{"error": "InternalServerError", "status": 500, "apply": True}] for key in WRITES},
}


def _fail_calls(world: World, spell: Spell) -> None:
    """Let calls of AWS fail for the length of the spell; count those that did."""
    before = _injected(world, spell)
    probability = 0.1 + 0.2 * spell.strength if spell.kind == kinds.APPLIED else 0.2 + 0.7 * spell.strength
    for number, (operation, faults) in enumerate(AWS_FAULTS[spell.kind].items()):
        world.aws.inject(operation, *faults, probability=probability, seed=world.plan.seed * 100 + number)
    if spell.kind == kinds.EXPIRED:  # and really old ones: of shards that rest
        world.aws.set(iterator_ttl_seconds=0.25)
    try:
        world.sleep(spell.seconds)
    finally:
        for operation in AWS_FAULTS[spell.kind]:
            world.aws.control("DELETE", f"faults?operation={operation}")
        if spell.kind == kinds.EXPIRED:
            world.aws.set(iterator_ttl_seconds=300.0)
        world.counted[spell.kind] += _injected(world, spell) - before


def _injected(world: World, spell: Spell) -> int:
    injected = world.aws.control("GET", "injected")
    return sum(injected.get(operation, 0) for operation in AWS_FAULTS[spell.kind])


DISTURBANCES: dict[str, Callable[[World, Spell], int]] = {
    kinds.DAEMON_KILLED: kill_daemon,
    kinds.DAEMON_TERMINATED: terminate_daemon,
    kinds.DAEMON_FROZEN: freeze_daemon,
    kinds.ZOMBIE: replace_daemon,
    kinds.CLICKHOUSE_FROZEN: freeze_clickhouse,
    kinds.CLICKHOUSE_KILLED: kill_clickhouse,
    kinds.CLICKHOUSE_RESET: reset(_clickhouse),
    kinds.CLICKHOUSE_LATE: switched(_clickhouse, lambda spell: {"latency_seconds": 0.05 + 0.3 * spell.strength}),
    kinds.CLICKHOUSE_SILENT: switched(_clickhouse, lambda spell: {"blackhole": True}),
    kinds.CLICKHOUSE_CUT: switched(_clickhouse, lambda spell: {"cut_after_bytes": int(10 + 1500 * spell.strength)}),
    kinds.CLICKHOUSE_RESTORED: outside.restore,
    kinds.PARTS_GONE: outside.lose_parts,
    kinds.LOGIN_REFUSED: outside.refuse_login,
    kinds.PROFILE: outside.change_profile,
    kinds.EXCHANGED: outside.exchange,
    kinds.OWN_TABLE: outside.lose_own_table,
    kinds.COMMENT: outside.edit_comment,
    kinds.RETENTION: outside.fall_behind,
    kinds.NET_RESET: reset(_aws),
    kinds.NET_LATE: switched(_aws, lambda spell: {"latency_seconds": 0.05 + 0.3 * spell.strength}),
    kinds.NET_SILENT: switched(_aws, lambda spell: {"blackhole": True}),
    kinds.SPLIT: split,
    kinds.MERGE: merge,
    kinds.UNIT: change_unit,
    kinds.SNAPSHOT_AGAIN: load_again,
    kinds.COLUMN_BY_HAND: add_column,
    **OWNERS,
}

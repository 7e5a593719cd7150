"""Owners: those of tables and hosts change them under the daemon. Each returns when its spell is over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from support.data.load import COLUMNS
from support.processes.harness import ClickHouseHttp, Daemon, wait_until

from .. import kinds
from ..plan import Spell
from ..processes.daemon import check_alive, logged, supervise, terminate
from ..workload import KEY_SCHEMAS, TTL_ATTRIBUTE
from ..world import World, configure, replacement
from . import configuration
from .outside import run_somehow

SEEN_SECONDS = 15.0
"""A streaming destination that is off this long must have been seen off."""
STEPS_SECONDS = (-3600.0, -45.0, -15.0, -2.0, 3.0, 20.0, 90.0, 3600.0)


# --- tables of DynamoDB ---


def _is_followed(world: World, name: str) -> bool:
    noted: list[int] = []
    query = f"SELECT count() FROM dyncdc_destinations WHERE `table` = '{name}'"
    run_somehow(world, lambda: noted.append(world.place.clickhouse.number(query)))
    return sum(noted) > 0


def make_again(world: World, spell: Spell) -> int:
    """Delete a table and recreate it under its name with most of its items, some changed; at times behind its back."""
    rng = random.Random(f"again {world.plan.seed} {spell.strength}")
    label = rng.choice(sorted(world.names))
    name, aws = world.names[label], world.aws
    down = spell.strength > 0.7
    check_alive(world)
    # Before a daemon has noted which table it follows, changes of another of that name may be in the stream.
    wait_until(lambda: _is_followed(world, name), 60, f"{name} is followed", pause_seconds=0.3)
    if down:
        world.daemon.kill()
    with world.streaming, world.writes.pause:
        world.may_end = True
        (destination,) = streaming_destinations(world, name)
        # most: less of them would wait for a person
        kept = [item | {"extra": {"S": "anew"}} for item in aws.scan(name) if rng.random() < 0.8]
        aws.dynamodb.delete_table(TableName=name)
        world.sleep(spell.seconds * 0.2)
        aws.make_table(name, KEY_SCHEMAS[label])
        if label == "sessions":
            aws.dynamodb.update_time_to_live(
                TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
            )
        aws.put_all(name, kept[: len(kept) // 2])  # as an import does, which no stream shows
        aws.send_changes(name, world.stream_arn, destination["ApproximateCreationDateTimePrecision"])
        aws.put_all(name, kept[len(kept) // 2 :])
    if down:
        world.daemon.start()
        world.daemon.wait_ready()
    else:
        supervise(world)
    return 1


def switch_streaming_off(world: World, spell: Spell) -> int:
    """Switch the streaming destination of a table off while items change, and on again once that was seen."""
    label = sorted(world.names)[int(spell.strength * 100) % len(world.names)]
    name, aws = world.names[label], world.aws
    check_alive(world)
    at = len(logged(world.daemon))

    def seen() -> bool:
        return not world.daemon.running or any(
            "streaming destination disabled" in line and name in line for line in logged(world.daemon)[at:].splitlines()
        )

    with world.streaming:
        world.may_end = True
        (destination,) = streaming_destinations(world, name)
        aws.dynamodb.disable_kinesis_streaming_destination(TableName=name, StreamArn=world.stream_arn)
        world.sleep(spell.seconds)
        end = time.monotonic() + SEEN_SECONDS
        while not seen() and time.monotonic() < end:
            world.sleep(0.1)
        world.sleep(0.5)  # for the gap: no one could tell of it who begins later
        aws.send_changes(name, world.stream_arn, destination["ApproximateCreationDateTimePrecision"])
    supervise(world)
    return 1


def streaming_destinations(world: World, table: str) -> Any:
    """What DynamoDB says of the streaming destinations of a table."""
    return world.aws.dynamodb.describe_kinesis_streaming_destination(TableName=table)["KinesisDataStreamDestinations"]


# --- hosts ---


def stand_by(world: World, spell: Spell) -> int:
    """Start a second daemon beside the first, and at times end the first: the second takes its place."""
    check_alive(world)
    first, second = world.daemon, replacement(world)
    first.wait_ready()
    with world.by_hand:  # the first one is to be seen
        second.start()
        world.sleep(1.5 + spell.seconds)
    if second.running and first.running and spell.strength < 0.3:
        second.kill()
        return 1
    if first.running and spell.strength < 0.6:
        first.kill()
    elif first.running:
        terminate(world)
    else:  # it was not seen, for someone has dropped what shows it: then the later one goes on
        assert first.wait() == 1 and "took over" in logged(first), f"the first of two daemons: {first.tail()}"
    world.daemon = second
    second.wait_ready()
    return 1


def intrude(world: World, spell: Spell) -> int:
    """Start a daemon of another pipeline that wants to load another DynamoDB table into a destination that is taken."""
    check_alive(world)
    clickhouse, place = world.place.clickhouse, world.place
    other = f"{place.name}.other"
    if other not in place.tables:
        place.make_table("other", KEY_SCHEMAS["items"])
        world.aws.put_all(other, [{"pk": {"S": "intruder"}, "n": {"N": str(number)}} for number in range(5)])
        world.aws.send_changes(other, world.stream_arn)
    config = configure(
        place,
        [
            {
                "dynamodb": other,
                "clickhouse": "items",
                "columns": COLUMNS,
                "snapshot": {"method": "scan", "settle_seconds": 0.5},
            }
        ],
        world.aws.endpoint_url,
        world.direct,
        "intruder",
        pipeline=f"{place.name}_intruder",
    )
    owned = "SELECT count() FROM dyncdc_destinations WHERE destination = 'items'"

    def is_owned() -> None:
        assert clickhouse.number(owned), "no one owns it yet"

    with world.by_hand:  # who owns it stays known
        if not run_somehow(world, is_owned):
            return 0
        intruder: Daemon = place.daemon(config)
        intruder.start()
        code = intruder.wait(90)
    assert code in (1, 2) and "it holds the rows of DynamoDB table" in intruder.tail(), (
        f"a daemon that wants a destination of another table ends with {code}: {intruder.tail()}"
    )
    return 1


def step_server_clock(world: World, spell: Spell) -> int:
    """Let ClickHouse's clock be off for a while. At times daemons begin, or end, in that time."""
    off = random.Random(f"clock {world.plan.seed} {spell.strength}").choice(STEPS_SECONDS)
    try:
        world.server_clock.step(off)
        world.sleep(spell.seconds * 0.5)
        if spell.strength > 0.5:
            _kill_and_start(world)
            world.sleep(spell.seconds * spell.strength)
            _kill_and_start(world)
        world.sleep(spell.seconds * 0.5)
        moved: list[bool] = []
        run_somehow(world, lambda: moved.append(is_off(world.place.clickhouse, off)))
    finally:
        world.server_clock.step(0.0)
    if spell.strength > 0.3:
        _kill_and_start(world)
    return int(any(moved))


def _kill_and_start(world: World) -> None:
    check_alive(world)
    world.daemon.kill()
    world.daemon.start()


def is_off(server: ClickHouseHttp, seconds: float) -> bool:
    """Whether a server's clock is off by so much: only then is the step counted."""
    now = server.number("SELECT toInt64(toFloat64(now64(3)))")
    return abs(now - time.time() - seconds) < 2.0


def step_daemon_clock(world: World, spell: Spell) -> int:
    """Let the clock of the daemon's host be off for a while."""
    check_alive(world)
    off = random.Random(f"clock {world.plan.seed} {spell.strength}").choice(STEPS_SECONDS)
    world.daemon_clock.step(off)
    try:
        moved = abs(world.daemon_clock.seen_off_seconds() - off) < 1.0
        world.sleep(spell.seconds)
    finally:
        world.daemon_clock.step(0.0)
    return int(moved)


OWNERS: dict[str, Callable[[World, Spell], int]] = {
    kinds.STANDBY: stand_by,
    kinds.INTRUDER: intrude,
    kinds.DAEMON_CLOCK: step_daemon_clock,
    kinds.CLICKHOUSE_CLOCK: step_server_clock,
    kinds.SETTINGS: configuration.change_settings,
    kinds.PARTIAL_EXPORT: configuration.offer_partial_export,
    kinds.STREAMING_OFF: switch_streaming_off,
    kinds.TABLE_ANEW: make_again,
}

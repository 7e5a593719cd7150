"""The world of one seed: what happens to the items, when, and on which shards the changes travel. Pure, built up front.

Times are virtual seconds; 0 is the start of the first session. What happened before lies in the stream's retention.
"""

from __future__ import annotations

import json
import random
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

EPOCH = 1_700_000_000.0
"""Date of virtual time 0, in seconds since the epoch."""

SLOTS = 8
"""Hash slots of a stream: shards own some of them, splits and merges move them."""

POISON = "poison"
"""The payload that the fake ClickHouse refuses."""

Kind = Literal["good", "poison", "garbage"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one item. ``number`` counts in order of happening, over all tables."""

    number: int
    at: float
    table: str
    key: str
    version: int
    deleted: bool
    payload: str
    kind: Kind = "good"

    @property
    def rank(self) -> tuple[int, int]:
        """What decides between two changes of one key: the version, and among equals the order of delivery."""
        return self.version, self.number

    def encoded(self) -> bytes:
        """Return the record as it travels."""
        if self.kind == "garbage":
            return b"\xff not a change %d" % self.number
        fields = (self.table, self.key, self.version, self.number, int(self.deleted), self.payload)
        return json.dumps(fields).encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A change on its shard."""

    arrival: float
    sequence: int
    change: Change
    data: bytes


@dataclass(slots=True)
class ShardLog:
    """One shard of the script. It can be listed from ``opened`` on and takes nothing after ``closed``."""

    id: str
    parents: frozenset[str]
    opened: float
    slots: frozenset[int]
    slow: bool
    closed: float = float("inf")
    children: tuple[str, ...] = ()
    entries: list[Entry] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def seal(self, first_sequence: int, rng: random.Random) -> None:
        """Number the entries. Their digits grow within a shard, so that comparing them as text goes wrong."""
        sequence = first_sequence
        for index, entry in enumerate(self.entries):
            sequence += rng.randint(1, 4)
            self.entries[index] = Entry(entry.arrival, sequence, entry.change, entry.data)
        self.arrivals = [entry.arrival for entry in self.entries]
        self.sequences = [entry.sequence for entry in self.entries]

    def arrived(self, now: float) -> int:
        """Return how many entries are in the shard at ``now``."""
        return bisect_right(self.arrivals, now)


@dataclass(slots=True)
class StreamScript:
    """All shards of one stream, and which tables travel on it."""

    name: str
    tables: tuple[str, ...]
    shards: dict[str, ShardLog] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"arn:stream/{self.name}@1"


@dataclass(slots=True)
class World:
    """The script of a seed and the truth about it."""

    seed: int
    rng: random.Random
    ends_at: float
    ties: bool
    streams: list[StreamScript]
    history: dict[str, list[Change]]
    """All changes of a table, those before the stream included, in order of happening."""
    snapshots: dict[str, float]
    """Tables that are loaded, each with the instant from which the stream carries it."""

    def state_at(self, table: str, instant: float) -> dict[str, Change]:
        """Return the items of a table at an instant."""
        state: dict[str, Change] = {}
        for change in self.history[table]:
            if change.at > instant:
                break
            state[change.key] = change
        return {key: change for key, change in state.items() if not change.deleted}

    def entries(self) -> Iterator[tuple[StreamScript, ShardLog, Entry]]:
        """Yield everything that ever travels."""
        for stream in self.streams:
            for log in stream.shards.values():
                for entry in log.entries:
                    yield stream, log, entry


def build(seed: int, *, ends_at: float = 16.0) -> World:
    """Make the world of ``seed``."""
    rng = random.Random(seed)
    world = World(seed, rng, ends_at, rng.random() < 0.6, [], {}, {})
    for number in range(2 if rng.random() < 0.25 else 1):
        tables = tuple(f"{'ab'[number]}{index}" for index in range(rng.choice([1, 2, 3])))
        world.streams.append(StreamScript(f"stream-{number}", tables))
    all_tables = [table for stream in world.streams for table in stream.tables]
    for table in all_tables:
        if rng.random() < 0.5:
            world.snapshots[table] = rng.uniform(-8.0, 4.0)
    changes = _changes(world, all_tables)
    for table in all_tables:
        world.history[table] = [change for change in changes if change.table == table and change.kind != "garbage"]
    for stream in world.streams:
        carried = [change for change in changes if change.table in stream.tables and _travels(world, change)]
        _route(world, stream, carried)
    return world


def _travels(world: World, change: Change) -> bool:
    return change.at >= world.snapshots.get(change.table, -25.0)


def _changes(world: World, tables: Sequence[str]) -> list[Change]:
    """Old items, then a live load with hot keys, deletions, re-creations and, with ties, bursts in one millisecond."""
    rng = world.rng
    plan: list[tuple[float, str, str]] = []
    for table in world.snapshots:
        plan += [(-5000.0 + index, table, f"k{index}") for index in range(rng.randint(0, 25))]
    for _ in range(rng.choice([20, 80, 160])):
        at = rng.uniform(-24.0, world.ends_at)
        table, key = rng.choice(tables), f"k{int(rng.expovariate(0.2)) % 20}"
        burst = rng.choice([1, 1, 1, 2, 3]) if world.ties else 1
        plan += [(at, table, key)] * burst
    plan.sort()
    changes: list[Change] = []
    last_version = 0
    precision = rng.choice([1_000, 1_000, 3_000_000])  # the last is coarser than any AWS has: ties far apart
    for number, (at, table, key) in enumerate(plan):
        version = int((EPOCH + at) * 1_000_000)
        if world.ties:
            version -= version % precision
        else:
            version = last_version = max(version, last_version + 1)
        kind, payload = _kind(world, table)
        changes.append(Change(number, at, table, key, version, kind == "good" and rng.random() < 0.2, payload, kind))
    return changes


def _kind(world: World, table: str) -> tuple[Kind, str]:
    rng = world.rng
    if table not in world.snapshots:
        odd = rng.random()
        if odd < 0.02:
            return "garbage", ""
        if odd < 0.03:
            return "poison", POISON
    return "good", "x" * rng.choice([0, 10, 10, 200])


def _route(world: World, stream: StreamScript, changes: Sequence[Change]) -> None:
    """Put the changes on shards, while splits and merges happen."""
    rng = world.rng
    open_shards = _roots(stream, rng)
    reshards = [rng.uniform(-20.0, world.ends_at) for _ in range(rng.choice([0, 1, 3, 5]))]
    reshards += [at + rng.uniform(0.05, 1.0) for at in reshards if rng.random() < 0.5]  # one soon after another
    reshards.sort()
    for change in changes:
        while reshards and reshards[0] <= change.at:
            _reshard(stream, open_shards, reshards.pop(0), rng)
        slot = zlib.crc32(change.key.encode()) % SLOTS
        log = next(log for log in open_shards if slot in log.slots)
        arrival = max(change.at + rng.uniform(0.0, 0.3), log.entries[-1].arrival if log.entries else log.opened)
        log.entries.append(Entry(arrival, 0, change, change.encoded()))
    for at in reshards:
        _reshard(stream, open_shards, at, rng)
    for log in stream.shards.values():
        _disturb(log, rng)
        log.seal(rng.choice([4, 95, 990, 10**55]), rng)
        if log.children:
            log.closed = max([log.closed, *log.arrivals])


def _roots(stream: StreamScript, rng: random.Random) -> list[ShardLog]:
    count = rng.choice([1, 2, 4])
    roots = []
    for index in range(count):
        slots = frozenset(range(index * SLOTS // count, (index + 1) * SLOTS // count))
        # some come from shards that the stream has forgotten
        parents = frozenset({f"forgotten-{index}"}) if rng.random() < 0.3 else frozenset()
        roots.append(ShardLog(f"{stream.name}-{index:03d}", parents, -30.0, slots, rng.random() < 0.2))
    stream.shards.update((log.id, log) for log in roots)
    return roots


def _reshard(stream: StreamScript, open_shards: list[ShardLog], at: float, rng: random.Random) -> None:
    """Close one or two open shards and open their children."""

    def child(slots: frozenset[int], *parents: ShardLog) -> ShardLog:
        log = ShardLog(
            f"{stream.name}-{len(stream.shards):03d}",
            frozenset(parent.id for parent in parents),
            at,
            slots,
            rng.random() < 0.2,
        )
        stream.shards[log.id] = log
        open_shards.append(log)
        return log

    def close(log: ShardLog, *children: ShardLog) -> None:
        log.closed = at
        log.children = tuple(x.id for x in children)
        open_shards.remove(log)

    if len(open_shards) > 1 and rng.random() < 0.45:
        one, other = rng.sample(open_shards[-3:], 2)
        merged = child(one.slots | other.slots, one, other)
        close(one, merged)
        close(other, merged)
        return
    wide = [log for log in open_shards if len(log.slots) > 1]
    if wide:
        log = rng.choice(wide)
        slots = sorted(log.slots)
        middle = len(slots) // 2
        close(log, child(frozenset(slots[:middle]), log), child(frozenset(slots[middle:]), log))


def _disturb(log: ShardLog, rng: random.Random) -> None:
    """Let neighbours change places and records come twice, where a version still tells which is newer."""
    entries = log.entries

    def tied(change: Change) -> bool:
        return sum((x.change.key, x.change.version) == (change.key, change.version) for x in entries) > 1

    for index in range(len(entries) - 1):
        first, second = entries[index].change, entries[index + 1].change
        neighbours = second.at - first.at < 0.3 and (first.key, first.version) != (second.key, second.version)
        if neighbours and rng.random() < 0.2:
            entries[index], entries[index + 1] = (
                Entry(entries[index].arrival, 0, second, second.encoded()),
                Entry(entries[index + 1].arrival, 0, first, first.encoded()),
            )
    for index in range(len(entries) - 1, -1, -1):
        if rng.random() < 0.04 and entries[index].change.kind == "good" and not tied(entries[index].change):
            again = rng.randrange(index, len(entries))
            entries.insert(again + 1, Entry(entries[again].arrival, 0, entries[index].change, entries[index].data))

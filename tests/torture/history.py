"""History: one seed from its first item to the verdict."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from support.data.oracle import assert_equal_within, differences
from support.processes.harness import ClickHouseHttp, wait_until

from dyncdc.config import load_config
from dyncdc.operations.verify import verify_table

from . import kinds, replicas
from .faults.disturb import disturb
from .faults.outside import SHORT_RETENTION_SECONDS
from .plan import SCAN, Plan, Spell
from .processes.clickhouse import TorturedClickHouse
from .processes.daemon import check_alive, terminate
from .stream_audit import carried
from .world import Abandoned, World, make_world, stamp

CATCH_UP_SECONDS = 45.0
"""From the end of all faults to equality, at most. It is polled: a history takes as long as it takes, not this long."""

STRAGGLER = "task ignored cancellation"
NOT_COMPILED = "compiled decoder missing"
"""What a daemon says of a task that had to be cancelled twice."""

GAPS = "gaps, all recovered"

NO_JSON = (b"\xff\xfe no json", b'{"tableName":', b"[1,2]")


@dataclass
class Outcome:
    """What became of a history. ``failure`` is empty when the destination ended equal and everybody behaved."""

    seed: int
    seconds: float = 0.0
    changes: int = 0
    items: int = 0
    failure: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    laps: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class _Tracks:
    """The disturbances of a history: several sequences side by side, each in a thread."""

    def __init__(self, world: World, diary: Callable[[str], None]) -> None:
        self._world = world
        self._diary = diary
        self._failures: list[BaseException] = []

    def run(self, processes: Sequence[Spell], *others: Sequence[Spell]) -> None:
        """Run all to their end. Raises the first failure of any.

        What starts processes runs in this thread: they die with the thread that started them.
        """
        threads = [threading.Thread(target=self._run, args=(track,), daemon=True) for track in others]
        for thread in threads:
            thread.start()
        self._run(processes)
        for thread in threads:
            thread.join()
        for failure in self._failures:
            raise failure

    def _run(self, track: Sequence[Spell]) -> None:
        try:
            for spell in track:
                self._world.sleep(spell.after_seconds)
                self._diary(f"{spell.kind} for {spell.seconds:.2f} s, strength {spell.strength:.2f}")
                (replicas.disturb if self._world.cluster else disturb)(self._world, spell)
                self._diary(f"{spell.kind} is over")
        except Abandoned:
            pass
        except BaseException as error:
            self._failures.append(error)
            self._world.giving_up.set()


def run(plan: Plan, directory: Path) -> Outcome:
    """Live through a plan. Never raises for what the product did: that is in the outcome."""
    outcome = Outcome(plan.seed)
    began = time.monotonic()
    diary_file = directory / "diary.txt"
    diary_file.write_text("\n".join(plan.lines()) + "\n\n")

    def diary(line: str) -> None:
        with diary_file.open("a") as file:
            file.write(f"{stamp()} {line}\n")

    def lap(name: str) -> None:
        outcome.laps[name] = round(time.monotonic() - began - sum(outcome.laps.values()), 2)
        diary(f"-- {name}")

    try:
        with (replicas.make_world if plan.replicas else make_world)(plan, directory) as world:
            lap("set up")
            try:
                _live(world, diary, lap)
                _judge(world, outcome, lap)
            finally:
                outcome.changes = world.writes.changes
                outcome.counted = dict(world.counted)
            lap("judged")
        lap("left")
    except BaseException as error:
        outcome.failure = str(error) or type(error).__name__
        diary(traceback.format_exc())
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _live(world: World, diary: Callable[[str], None], lap: Callable[[str], None]) -> None:
    """Load and disturb until the plan is over; then heal, and see that the daemon catches up."""
    plan = world.plan
    if plan.duplicates:
        world.aws.set(duplicate_probability=plan.duplicates)
    if plan.short_retention:
        world.aws.set(retention_seconds=SHORT_RETENTION_SECONDS)
    if plan.coarse:
        world.aws.set(behind_grain_seconds=3600.0, arrival_grain_seconds=1.0)
        world.counted[kinds.COARSE] += 1
    if plan.slow_export:
        world.aws.set(export_delay_seconds=2.0)
        world.counted[kinds.SLOW_EXPORT] += sum(one.method != SCAN for one in plan.tables)
    if plan.first_export_fails:
        fault: dict[str, dict[str, Any]] = {
            "error": {"error": "InternalServerError", "status": 500},
            "drop": {"drop": True},
        }
        world.aws.inject("ExportTableToPointInTime", fault[plan.first_export_fails] | {"apply": True})
    with world.writes:
        world.daemon.start()
        _put_bad_records(world)
        if not plan.disturbed_start:
            world.daemon.wait_ready()
        lap("started")
        _Tracks(world, diary).run(plan.process, plan.aws, plan.stream, plan.sql)
        lap("disturbed")
    world.counted[kinds.EXPORT_APPLIED] += world.aws.control("GET", "injected").get("ExportTableToPointInTime", 0)
    world.heal()
    world.aws.set(ttl_sweep_seconds=0.0)
    world.aws.control("POST", "sweep")  # what has not expired by now stays
    check_alive(world)
    world.daemon.wait_ready()
    lap("calm")


def _put_bad_records(world: World) -> None:
    """Some that are no JSON, and some that are no change of a table that is followed."""
    no_change = json.dumps({"tableName": world.names["items"], "dynamodb": 7}).encode()
    kinds_of_bad = (*NO_JSON, no_change)
    for number in range(world.plan.bad_records):
        data = kinds_of_bad[number % len(kinds_of_bad)]
        world.aws.kinesis.put_record(StreamName=world.place.name, Data=data, PartitionKey=str(number))


def _judge(world: World, outcome: Outcome, lap: Callable[[str], None]) -> None:
    """Compare everything, twice: once it looks equal, and after the daemon has left."""
    place, aws = world.place, world.aws
    end = time.monotonic() + CATCH_UP_SECONDS
    _await_snapshots(world, CATCH_UP_SECONDS)
    _await_recovery(world, max(1.0, end - time.monotonic()))
    for server in world.servers:
        for name in world.names.values():
            check_alive(world)
            assert_equal_within(max(1.0, end - time.monotonic()), aws, _asked(world, server), name)
    lap("caught up")
    while not terminate(world):  # cut short by its limit: a view may not show the newest columns yet
        world.daemon.start()
        for name in world.names.values():
            assert_equal_within(max(1.0, end - time.monotonic()), aws, place.clickhouse, name)
    if world.cluster:
        replicas.expect_one_truth(world, max(5.0, end - time.monotonic()))
    lap("drained")
    for server in world.servers:
        for label, name in world.names.items():
            found = differences(aws, _asked(world, server), name, label)
            assert not found, f"{label} was equal on {server.directory.name} and is not any more: {found[:3]}"
    world.counted += carried(aws, place.name)
    world.counted[kinds.EVOLVED] += place.clickhouse.number(
        "SELECT count() FROM system.columns WHERE database = currentDatabase() AND default_kind = 'DEFAULT'"
        " AND default_expression LIKE '%_spill%'"
    )
    _judge_letters(world)
    for daemon in place.daemons:
        log = daemon.log.read_text()
        assert STRAGGLER not in log, f"a cancellation was swallowed: {daemon.log}"
        assert NOT_COMPILED not in log, "the decoders that users have are those to be tortured: install a C compiler"
    gaps = place.clickhouse.rows("SELECT * FROM dyncdc_gaps")
    planned = {
        spell.kind
        for track in (world.plan.process, world.plan.aws, world.plan.stream, world.plan.sql)
        for spell in track
    }
    assert not gaps or not planned.isdisjoint(kinds.GAP_KINDS) or world.counted[kinds.RETENTION], f"gaps: {gaps}"
    world.counted[GAPS] += len({tuple(gap[1:5]) for gap in gaps})
    outcome.items = sum(place.clickhouse.number(f"SELECT count() FROM {label}_current") for label in world.names)
    config = load_config(str(world.config))
    for name in world.names.values():
        verdict = world.loop.call(verify_table(config, name))  # what `dyncdc verify` does
        assert verdict.equal, f"{verdict.verdict}: {list(verdict.lines())[:3]}"


def _asked(world: World, server: TorturedClickHouse) -> ClickHouseHttp:
    return ClickHouseHttp(server.http_port, world.place.name)


def _judge_letters(world: World) -> None:
    """The records that are no change are dead letters, and nothing else is."""
    rows = world.place.clickhouse.rows(
        "SELECT reason, table, any(error), uniqExact(id) FROM dyncdc_dead_letters GROUP BY 1, 2"
    )
    there = sum(int(str(row[3])) for row in rows)
    assert there == world.counted[kinds.BAD] == world.plan.bad_records, f"dead letters: {rows}"


def _await_recovery(world: World, seconds: float) -> None:
    """Every gap that was written down is recovered."""
    sql = (
        "SELECT table, shard, `from`, max(`to`), any(reason) FROM dyncdc_gaps"
        " GROUP BY table, source, shard, `from`"
        " HAVING max(recovered_at) IS NULL OR max(`to`) > maxIf(`to`, recovered_at IS NOT NULL)"
    )
    found: list[Any] = []

    def recovered() -> bool:
        check_alive(world)
        found[:] = world.place.clickhouse.rows(sql)
        return not found

    try:
        wait_until(recovered, seconds, "all gaps are recovered", pause_seconds=0.3)
    except AssertionError:
        raise AssertionError(f"open gaps after {seconds:.0f} s: {found}") from None


def _await_snapshots(world: World, seconds: float) -> None:
    """Every table is loaded, once, and again for each request that was not overtaken by a later one."""
    sql = (
        "SELECT table, argMax(state, revision), argMax(request, revision) FROM dyncdc_snapshots"
        " GROUP BY table, id ORDER BY table, min(updated_at)"
    )
    wanted = {(name, world.requested.get(name, "")) for name in world.names.values()}
    found: list[Any] = []

    def complete() -> bool:
        check_alive(world)
        found[:] = world.place.clickhouse.rows(sql)
        return wanted <= {(table, request) for table, state, request in found if state == "complete"}

    try:
        wait_until(complete, seconds, "all snapshots are complete", pause_seconds=0.3)
    except AssertionError:
        raise AssertionError(f"snapshots after {seconds:.0f} s: {found}; requested: {world.requested}") from None
    for one in world.plan.tables:
        world.counted[kinds.SNAPSHOT_SCAN if one.method == SCAN else kinds.SNAPSHOT_EXPORT] += 1


def merge_counts(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Injections of all histories, by kind."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total += Counter(outcome.counted)
    return total

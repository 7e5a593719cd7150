"""Several processes share one pipeline: as workers of one daemon, and as members that know each other by ClickHouse."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data.load import COLUMNS, Load, make_account, make_item, make_key
from support.data.oracle import assert_equal_within
from support.processes.harness import Daemon, alive, running, wait_until
from support.servers.place import Place

KEYS = 600
SHARDS = 4


@pytest.fixture
def tables(place: Place) -> tuple[str, str]:
    stream = place.make_stream(shards=SHARDS)
    items = place.make_table("items", {"pk": "S", "n": "N"}, stream)
    accounts = place.make_table("accounts", {"id": "S"}, stream)
    rng = random.Random(7)
    place.aws.put_all(
        items, list({str(k): make_item(rng, k) for k in (make_key(rng, KEYS) for _ in range(KEYS))}.values())
    )
    place.aws.put_all(accounts, [make_account(rng, number) for number in range(60)])
    return items, accounts


@pytest.fixture
def load(place: Place, tables: tuple[str, str]) -> Iterator[Load]:
    with Load(place.aws, *tables, seed=11, keys=KEYS, pause_seconds=0.02) as load:
        yield load


def configured(place: Place, tables: tuple[str, str], label: str = "config", **sections: object) -> Path:
    items, accounts = tables
    scan = {"method": "scan", "segments": 3, "read_capacity_units": 400, "settle_seconds": 0.5}
    entries = [place.entry(items, columns=COLUMNS), place.entry(accounts, snapshot=scan)]
    return place.configure(entries, label, **sections)


def equal(place: Place, tables: tuple[str, str], seconds: float = 30) -> None:
    for table in tables:
        assert_equal_within(seconds, place.aws, place.clickhouse, table)


def workers_of(pid: int) -> list[int]:
    """Process ids of a supervisor's workers, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if int(status[1]) == pid and "--worker" in arguments:
                found[arguments[arguments.index("--member") + 1]] = int(entry.name)
    return [found[name] for name in sorted(found)]


def members_of(place: Place, divided: int) -> list[int]:
    """Numbers of the members that saved positions of the stream, of a assignment into so many."""
    rows = place.clickhouse.rows("SELECT DISTINCT member FROM dyncdc_checkpoints WHERE source LIKE 'arn:%' ORDER BY 1")
    return [int(str(member)) for (member,) in rows if int(str(member)) < divided]


@pytest.mark.timeout(240)
def test_workers_share_the_work_survive_the_death_of_one_and_drain(
    place: Place, tables: tuple[str, str], load: Load
) -> None:
    place.aws.set(export_files=6)
    daemon = place.daemon(configured(place, tables, limits={"workers": 2, "memory_bytes": 80_000_000}))
    with running(daemon):
        first, second = workers_of(daemon.pid)
        place.aws.split_first(place.name)
        wait_until(lambda: members_of(place, 2) == [0, 1], 20, "both read shards")
        read = daemon.metric("dyncdc_records_read_total")
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: "worker 1" in daemon.get("/healthz")[1], 5, "health names the dead worker")
        wait_until(lambda: daemon.get("/readyz")[0] == 200 and len(workers_of(daemon.pid)) == 2, 20, "it is back")
        place.aws.merge_last(place.name)
        assert daemon.metric("dyncdc_records_read_total") >= read, "counters never fall"
        assert daemon.metric("dyncdc_worker_restarts_total") == 1
        assert daemon.metric("dyncdc_budget_limit_bytes") < 80_000_000
        load.stop()
        equal(place, tables)
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 10, "all is well")
        assert alive(first) and first in workers_of(daemon.pid)
        assert daemon.terminate() == 0, daemon.tail()
    assert not alive(first) and not alive(second)


def test_workers_die_with_their_supervisor(place: Place, tables: tuple[str, str]) -> None:
    daemon = place.daemon(configured(place, tables, limits={"workers": 2}))
    with running(daemon):
        pids = workers_of(daemon.pid)
        assert len(pids) == 2
        daemon.kill()
        wait_until(lambda: not any(map(alive, pids)), 5, "its workers are gone")


@pytest.mark.timeout(240)
def test_once_ends_with_0_when_all_workers_have_done_their_part(place: Place, tables: tuple[str, str]) -> None:
    config = configured(place, tables, limits={"workers": 2})
    for _ in range(2):
        done = place.command("run", "--once", "-c", str(config), seconds=100)
        assert (done.code, done.complaints) == (0, []), done
        equal(place, tables, 0)
        rng = random.Random(5)
        place.aws.put_all(tables[0], [make_item(rng, {"pk": {"S": f"new-{n}"}, "n": {"N": "0"}}) for n in range(40)])


@pytest.mark.timeout(300)  # eight processes on whatever machine this is
def test_the_number_of_members_changes_under_load_and_a_stray_one_is_refused(
    place: Place, tables: tuple[str, str], load: Load
) -> None:
    def member(number: int, of: int) -> Daemon:
        config = configured(place, tables, f"member-{number}-{of}")
        return place.daemon(config, "--member", f"{number}/{of}").start()

    three = [member(number, 3) for number in range(3)]
    for one in three:
        one.wait_ready()
    place.aws.split_first(place.name)
    wait_until(lambda: members_of(place, 3) == [0, 1, 2], 20, "all three read shards")
    for one in three:
        one.signal(signal.SIGTERM)
    assert [one.wait() for one in three] == [0, 0, 0], [one.tail() for one in three]
    place.aws.merge_last(place.name)
    four = [member(number, 4) for number in range(4)]
    for one in four:
        one.wait_ready()
    stray = member(0, 3)
    assert stray.wait() == 1, [one.tail() for one in four]
    assert "members of another assignment are alive: 0/4, 1/4, 2/4, 3/4" in stray.tail()
    status = place.command("status", "--json", "-c", str(configured(place, tables, "status")))
    members = json.loads(status.out)["members"]
    assert [(one["member"], one["alive"]) for one in members if one["alive"]] == [(f"{n}/4", True) for n in range(4)]
    load.stop()
    equal(place, tables)
    for one in four:
        one.signal(signal.SIGTERM)
    assert [one.wait() for one in four] == [0, 0, 0, 0], [one.tail() for one in four]

"""Signals: the first drains and saves, the second is quick, and neither waits for an endpoint that does not answer."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest
from support.data.load import COLUMNS, Load, make_item, make_key
from support.data.oracle import assert_equal_within
from support.processes.harness import free_port, running, wait_until
from support.servers.place import Place

pytestmark = pytest.mark.usefixtures("interpreters")

KEYS = 500
SHUTDOWN_SECONDS = 10.0


@pytest.fixture
def tables(place: Place) -> tuple[str, str]:
    """Two empty tables on one stream."""
    stream = place.make_stream(shards=2)
    return place.make_table("items", {"pk": "S", "n": "N"}, stream), place.make_table("accounts", {"id": "S"}, stream)


@pytest.fixture
def load(place: Place, tables: tuple[str, str]) -> Iterator[Load]:
    """A load on them."""
    with Load(place.aws, *tables, seed=7, keys=KEYS, pause_seconds=0.008) as writing:
        yield writing


def test_c12_sigterm_under_load_saves_and_the_next_start_goes_on_from_there(
    place: Place, tables: tuple[str, str], load: Load
) -> None:
    items, accounts = tables
    unloaded = {"method": "none"}  # the stream holds everything from the start, and only it is counted
    entries = [place.entry(items, columns=COLUMNS, snapshot=unloaded), place.entry(accounts, snapshot=unloaded)]
    # only the save at the end says how far it was
    seldom = {"interval_seconds": 60.0}
    daemon = place.daemon(place.configure(entries, run={"shutdown_seconds": SHUTDOWN_SECONDS}, checkpoint=seldom))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_records_read_total") > 500, 20, "500 records are read")
        read_before = daemon.metric("dyncdc_records_read_total")
        started = time.monotonic()
        assert daemon.terminate(SHUTDOWN_SECONDS + 5) == 0, daemon.tail()
        assert time.monotonic() - started < SHUTDOWN_SECONDS
    with running(daemon):
        load.stop()
        assert_equal_within(15, place.aws, place.clickhouse, items)
        read_after = daemon.metric("dyncdc_records_read_total")
        assert read_after <= load.changes - read_before, "records were read again"
        assert daemon.terminate() == 0


def test_sigint_drains_too(place: Place, tables: tuple[str, str], load: Load) -> None:
    items, _ = tables
    daemon = place.daemon(place.configure([place.entry(items, columns=COLUMNS)]))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_rows_written_total") > 50, 20, "50 rows are written")
        load.stop()
        daemon.signal(signal.SIGINT)
        assert daemon.wait(10) == 0, daemon.tail()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_c12_a_second_signal_cuts_the_drain_short(
    place: Place, tables: tuple[str, str], load: Load, number: signal.Signals, code: int
) -> None:
    items, _ = tables
    daemon = place.daemon(place.configure([place.entry(items, columns=COLUMNS)]))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_rows_written_total") > 50, 20, "50 rows are written")
        with place.freeze_clickhouse():  # nothing can drain now
            time.sleep(1.0)
            daemon.signal(number)
            time.sleep(0.5)
            assert daemon.running, f"it did not wait for its drain: {daemon.tail()}"
            started = time.monotonic()
            daemon.signal(number)
            assert daemon.wait(10) == code, daemon.tail()
            assert time.monotonic() - started < 2.0


def test_c12_a_drain_that_takes_too_long_is_given_up_with_exit_1(
    place: Place, tables: tuple[str, str], load: Load
) -> None:
    items, _ = tables
    daemon = place.daemon(place.configure([place.entry(items, columns=COLUMNS)], run={"shutdown_seconds": 1.5}))
    with running(daemon):
        wait_until(lambda: daemon.metric("dyncdc_rows_written_total") > 50, 20, "50 rows are written")
        with place.freeze_clickhouse():
            time.sleep(1.0)
            started = time.monotonic()
            assert daemon.terminate(10) == 1, daemon.tail()
            assert time.monotonic() - started < 4.0
    with running(daemon):
        load.stop()
        assert_equal_within(15, place.aws, place.clickhouse, items)


def test_sigterm_while_clickhouse_cannot_be_reached_ends_the_start_at_once(
    place: Place, tables: tuple[str, str]
) -> None:
    items, _ = tables
    nowhere = {"url": f"clickhouse://default@127.0.0.1:{free_port()}/{place.name}"}
    daemon = place.daemon(place.configure([place.entry(items)], clickhouse=nowhere)).start()
    wait_until(lambda: daemon.get("/livez")[0] == 200, 20, "the daemon lives")
    time.sleep(1.0)
    assert daemon.get("/readyz")[0] == 503
    started = time.monotonic()
    assert daemon.terminate(10) == 0, daemon.tail()
    assert time.monotonic() - started < 2.0


def test_once_ends_with_0_when_everything_is_there(place: Place, tables: tuple[str, str]) -> None:
    items, accounts = tables
    rng = random.Random(3)
    before = {str(key): make_item(rng, key) for key in (make_key(rng, KEYS) for _ in range(KEYS))}
    place.aws.put_all(items, list(before.values()))
    config = place.configure([place.entry(items, columns=COLUMNS), place.entry(accounts)])
    done = place.command("run", "--once", "-c", str(config))
    assert (done.code, done.complaints) == (0, []), done
    assert_equal_within(0, place.aws, place.clickhouse, items)
    # and again, with changes made while no one watched
    place.aws.put_all(items, [make_item(rng, {"pk": {"S": f"new-{n}"}, "n": {"N": "0"}}) for n in range(40)])
    for key in list(before.values())[:20]:
        place.aws.dynamodb.delete_item(TableName=items, Key={"pk": key["pk"], "n": key["n"]})
    done = place.command("run", "--once", "-c", str(config))
    assert (done.code, done.complaints) == (0, []), done
    assert_equal_within(0, place.aws, place.clickhouse, items)

"""``clickhouse.url = "local:///directory"``: the daemon owns a real ClickHouse that lives and dies with it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from support.data.oracle import assert_equal_within
from support.processes.harness import ClickHouseHttp, alive, running, wait_until
from support.servers.place import Place

from dyncdc.emulator.clickhouse_child import ENDPOINT_FILE
from dyncdc.emulator.own_user import SECRET_PLACE

DATABASE = "dyncdc"


def owned(directory: Path) -> tuple[int, ClickHouseHttp]:
    """Process id and HTTP port of the server on a directory."""
    endpoint = json.loads((directory / ENDPOINT_FILE).read_text())
    return int(endpoint["pid"]), ClickHouseHttp(
        int(endpoint["http_port"]), DATABASE, (directory / SECRET_PLACE).read_text()
    )


def test_the_daemons_own_clickhouse_dies_with_it_and_comes_back(place: Place) -> None:
    directory = place.directory / "own clickhouse"
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, [{"id": {"S": f"{number}"}, "size": {"N": f"{number}"}} for number in range(100)])
    config = place.configure([place.entry(table)], clickhouse={"url": f"local://{directory}".replace(" ", "%20")})
    daemon = place.daemon(config)
    with running(daemon):
        pid, clickhouse = owned(directory)
        assert alive(pid)
        assert_equal_within(20, place.aws, clickhouse, table)
        status = place.command("status", "-c", str(config))  # attaches to the same server
        assert status.code == 0, status
        assert "things" in status.out
        assert alive(pid)
        daemon.kill()
        wait_until(lambda: not alive(pid), 2, "the child is gone too", strict=True)
    place.aws.put(table, {"id": {"S": "late"}, "size": {"N": "7"}})
    with running(daemon):
        second, clickhouse = owned(directory)
        assert second != pid
        assert_equal_within(20, place.aws, clickhouse, table)
        started = time.monotonic()
        assert daemon.terminate() == 0, daemon.tail()
        assert time.monotonic() - started < 10
        assert not alive(second)
    verdict = place.command("verify", table, "-c", str(config))  # starts the server for itself
    assert verdict.code == 0, verdict

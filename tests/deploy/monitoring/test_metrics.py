"""The metrics of a real daemon, as `promtool` sees them: names, units, help, and a text that Prometheus can read."""

from __future__ import annotations

import pytest
from support.processes.harness import running, wait_until
from support.repository.tools import ran, tool
from support.servers.place import Place


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [1, 2])
def test_promtool_finds_nothing_wrong_with_what_a_daemon_exposes(place: Place, workers: int) -> None:
    tool("promtool")
    table = place.make_table("things", {"id": "S"}, place.make_stream(shards=2))
    daemon = place.daemon(place.configure([place.entry(table)], limits={"workers": workers}))
    with running(daemon):
        for number in range(8):
            place.aws.put(table, {"id": {"S": f"t{number}"}})
        place.aws.kinesis.put_record(StreamName=place.name, Data=b"no change", PartitionKey="p")
        wait_until(lambda: daemon.metric("dyncdc_rows_written_total") >= 8, 20, f"rows are written: {daemon.tail()}")
        wait_until(lambda: daemon.metric("dyncdc_dead_letters_total") == 1, 20, f"counted: {daemon.tail()}")
        exposed = daemon.get("/metrics")[1]
    assert ran("promtool", "check", "metrics", stdin=exposed) == ""

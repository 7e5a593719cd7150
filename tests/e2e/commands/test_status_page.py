"""The status page of a real daemon with workers, and ``dyncdc status`` beside it: also while ClickHouse hangs."""

from __future__ import annotations

import json
from typing import Any

from support.processes.harness import running, wait_until
from support.servers.place import Place

ID = {"attribute": "id", "type": "String"}
SECRET = "4711-of-nobody"


def test_the_page_tells_of_all_workers_and_goes_on_telling_while_clickhouse_hangs(place: Place) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream(shards=2))
    config = place.configure(
        [place.entry(table, columns=[ID], snapshot={"method": "none"})],
        clickhouse={"url": place.url, "insert_timeout_seconds": 2.0},
        limits={"workers": 2},
        run={"startup_timeout_seconds": 3.0, "stuck_after_seconds": 3.0},
    )
    daemon = place.daemon(config)

    def document() -> dict[str, Any]:
        status, body = daemon.get("/status.json")
        assert status == 200, body
        assert SECRET not in body
        return dict(json.loads(body))

    def one(found: dict[str, Any]) -> dict[str, Any]:
        return dict(found["tables"][0])

    with running(daemon):
        for number in range(6):
            place.aws.put(table, {"id": {"S": f"{SECRET}-{number}"}})
        place.aws.kinesis.put_record(StreamName=place.name, Data=SECRET.encode(), PartitionKey="p")
        wait_until(lambda: one(document())["written_total"] >= 6, 20, "all is written")
        wait_until(lambda: document()["dead_letters_total"] == 1, 20, "the record that is none is counted")
        found = document()
        assert [worker["state"] for worker in found["workers"]] == ["running", "running"]
        assert found["shards"]["read"] == 2
        assert (one(found)["table"], one(found)["lag_seconds"] is not None) == (table, True)
        wait_until(lambda: one(document())["rows"] == 6, 20, "ClickHouse's count is there")
        status, page = daemon.get("/")
        assert (status, "<title>dyncdc</title>" in page) == (200, True)

        told = json.loads(place.command("status", "-c", str(config), "--json").out)
        assert [(dead_letters["table"], dead_letters["count"]) for dead_letters in told["dead_letters"]] == [("", 1)]
        assert len(told["live"]["workers"]) == 2

        with place.freeze_clickhouse():
            wait_until(lambda: document()["clickhouse"]["error"] != "", 20, "the page says that nothing is fresh")
            wait_until(lambda: document()["state"] == "stuck", 20, "it says what is stuck")
            found = document()
            assert (one(found)["rows"], found["dead_letters_total"]) == (6, 1), "what was known stays"
            assert any(trouble["where"].startswith("worker ") for trouble in found["troubles"])
            ended = place.command("status", "-c", str(config))
            assert ended.code == 1
            assert table in ended.out and "stuck" in ended.out
            assert SECRET not in ended.out + ended.err
        wait_until(lambda: document()["clickhouse"]["error"] == "", 20, "it has read again")
        wait_until(lambda: document()["state"] == "healthy", 20, "all is well")
        assert daemon.terminate() == 0, daemon.tail()
    assert SECRET not in daemon.log.read_text()

"""Bad input: one line that says what, where and what to do, the right exit code, and nothing half-made."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.processes.harness import BUSY_MACHINE, Ended, free_port, running, wait_until
from support.servers.fixtures import GUEST, GUEST_PASSWORD
from support.servers.place import Place

from dyncdc.emulator.clickhouse import LocalClickHouse

FATAL, USAGE = 1, 2
NOT_LOADED = {"method": "none"}
Sections = dict[str, Any]


def assert_refused(done: Ended, code: int, *patterns: str) -> None:
    """One line for people, that matches all patterns and says what to do; no traceback."""
    assert done.code == code, done
    assert len(done.complaints) == 1, done
    line = done.complaints[0]
    assert line.startswith("dyncdc: "), line
    for pattern in patterns:
        assert re.search(pattern, line), f"{pattern!r} is not in: {line}"
    assert "; " in line, f"it says nothing about what to do: {line}"
    assert "Traceback" not in done.err


def once(place: Place, tables: list[dict[str, Any]], **sections: Any) -> Ended:
    """``dyncdc run --once``."""
    return place.command("run", "--once", "-c", str(place.configure(tables, **sections)))


@pytest.fixture
def table(place: Place) -> str:
    """A table with one item whose changes go to the stream."""
    made = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put(made, {"id": {"S": "a"}, "size": {"N": "1"}})
    return made


@pytest.mark.parametrize(
    ("sections", "patterns"),
    [
        ({"batch": {"max_row": 5}}, [r"config\.toml", r"batch\.max_row\b", r"max_rows"]),
        ({"batch": {"max_rows": "5"}}, [r"config\.toml", r"batch\.max_rows", "whole number"]),
    ],
    ids=["unknown key", "wrong type"],
)
def test_a_wrong_configuration_names_the_key(place: Place, sections: Sections, patterns: list[str]) -> None:
    done = once(place, [place.entry("things", snapshot=NOT_LOADED)], **sections)
    assert done.code == USAGE, done
    (line,) = done.complaints
    assert all(re.search(pattern, line) for pattern in patterns), line
    assert place.clickhouse.tables() == set()


def test_no_such_file_and_no_such_option_are_usage_errors(place: Place) -> None:
    assert_refused(place.command("run", "-c", str(place.directory / "none.toml")), USAGE, "none.toml", "no such file")
    assert_refused(place.command("run", "--onec"), USAGE, "--onec")


def test_no_such_table(place: Place) -> None:
    place.make_stream()
    done = once(place, [place.entry("nosuch.table", snapshot=NOT_LOADED)])
    assert_refused(done, USAGE, r"nosuch\.table", "tables.dynamodb")
    assert not {name for name in place.clickhouse.tables() if not name.startswith("dyncdc_")}


def test_a_daemon_whose_table_is_not_there_ends_with_what_its_supervisor_starts_again(place: Place) -> None:
    place.make_stream()
    daemon = place.daemon(place.configure([place.entry("nosuch.table", snapshot=NOT_LOADED)])).start()
    assert daemon.wait() == FATAL, daemon.tail()
    assert "nosuch.table" in daemon.tail().splitlines()[-1]


def test_no_such_stream(place: Place, table: str) -> None:
    done = once(place, [place.entry(table, snapshot=NOT_LOADED)], kinesis={"stream": "nosuch-stream"})
    assert_refused(done, USAGE, "nosuch-stream", r"kinesis\.stream")
    assert "things" not in place.clickhouse.tables()


def test_a_table_whose_changes_go_nowhere(place: Place) -> None:
    place.make_stream()
    silent = place.make_table("silent", {"id": "S"})
    done = once(place, [place.entry(silent, snapshot=NOT_LOADED)])
    assert_refused(done, USAGE, re.escape(silent), place.name, "enable-kinesis-streaming-destination")
    assert "silent" not in place.clickhouse.tables()


def test_a_wrong_password_is_refused_and_never_shown(place: Place, table: str) -> None:
    wrong = {"url": f"clickhouse://{GUEST}:open%20sesamo@127.0.0.1:{place.server.tcp_port}/{place.name}"}
    done = once(place, [place.entry(table, snapshot=NOT_LOADED)], clickhouse=wrong)
    assert_refused(done, FATAL, f"127.0.0.1:{place.server.tcp_port}", "password")
    assert "sesam" not in done.err + done.out
    right = {"url": wrong["url"].replace("open%20sesamo", GUEST_PASSWORD.replace(" ", "%20"))}
    done = once(place, [place.entry(table, snapshot=NOT_LOADED)], clickhouse=right)
    assert (done.code, done.complaints) == (0, []), done


@pytest.mark.parametrize(
    ("create", "patterns"),
    [
        ("(id String, size Int64, _version Int64) ENGINE = ReplacingMergeTree(_version) ORDER BY size", ["ORDER BY"]),
        ("(id String, size Int64, _version UInt32) ENGINE = ReplacingMergeTree(_version) ORDER BY id", ["_version"]),
    ],
    ids=["wrong key", "narrow version"],
)
def test_an_unsafe_existing_table_is_refused_untouched(
    place: Place, table: str, create: str, patterns: list[str]
) -> None:
    place.clickhouse.run(f"CREATE TABLE things {create}")
    before = place.clickhouse.value("SHOW CREATE TABLE things")
    entry = place.entry(
        table, snapshot=NOT_LOADED, metadata={"version": "_version", "deleted": "", "spill": ""}, deletes="ignore"
    )
    assert_refused(once(place, [entry]), USAGE, "things", *patterns)
    assert place.clickhouse.value("SHOW CREATE TABLE things") == before
    assert place.clickhouse.number("SELECT count() FROM things") == 0
    assert "things_current" not in place.clickhouse.tables()


def unreachable(place: Place, what: str) -> Sections:
    """Sections that name an endpoint where nothing listens."""
    port = free_port()
    nowhere: dict[str, Sections] = {
        "ClickHouse": {"clickhouse": {"url": f"clickhouse://default@127.0.0.1:{port}/{place.name}"}},
        "AWS": {"aws": {"endpoint_url": f"http://127.0.0.1:{port}"}},
    }
    return nowhere[what]


@pytest.mark.parametrize("what", ["ClickHouse", "AWS"])
def test_once_gives_an_unreachable_endpoint_up_in_time(place: Place, table: str, what: str) -> None:
    started = time.monotonic()
    run = {"startup_timeout_seconds": 2.0}
    done = once(place, [place.entry(table, snapshot=NOT_LOADED)], run=run, **unreachable(place, what))
    assert_refused(done, FATAL, "2 s")
    assert time.monotonic() - started < 10 * BUSY_MACHINE
    assert "things" not in place.clickhouse.tables()


def test_run_waits_for_an_unreachable_aws(place: Place, table: str) -> None:
    entry = place.entry(table, snapshot=NOT_LOADED)
    run = {"startup_timeout_seconds": 1.0, "stuck_after_seconds": 1.0}
    daemon = place.daemon(place.configure([entry], run=run, **unreachable(place, "AWS"))).start()
    wait_until(lambda: daemon.get("/healthz")[0] == 503, 15, "health is red")
    assert daemon.running, daemon.tail()
    assert daemon.get("/livez")[0] == 200
    assert daemon.get("/readyz")[0] == 503


def test_run_waits_for_clickhouse_and_starts_when_it_comes(place: Place, table: str) -> None:
    server = LocalClickHouse(place.directory / "late", tcp_port=free_port(), http_port=free_port())
    entry = place.entry(table, snapshot=NOT_LOADED)
    run = {"startup_timeout_seconds": 1.0, "stuck_after_seconds": 1.0}
    daemon = place.daemon(place.configure([entry], run=run, clickhouse={"url": server.url})).start()
    wait_until(lambda: daemon.get("/healthz")[0] == 503, 15, "health is red")
    assert daemon.running, daemon.tail()
    asyncio.run(server.start())
    try:
        wait_until(daemon.ready, 15, f"the daemon is ready: {daemon.tail()}")
        assert daemon.terminate() == 0, daemon.tail()
    finally:
        asyncio.run(server.stop())


def test_a_port_in_use(place: Place, table: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = once(place, [place.entry(table, snapshot=NOT_LOADED)], http={"listen": address})
    assert_refused(done, USAGE, re.escape(address), r"http\.listen", "in use")
    assert place.clickhouse.tables() == set()


class FinishedExport:
    """A finished export of a table of 40 items in 4 files, for tests to spoil. The stream holds none of them."""

    def __init__(self, place: Place) -> None:
        place.aws.set(export_files=4)
        self.aws, self.bucket = place.aws, place.bucket
        table = place.make_table("things", {"id": "S"})
        place.aws.put_all(table, [{"id": {"S": f"thing {n}"}, "size": {"N": f"{n}"}} for n in range(40)])
        arn = place.aws.dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
        made = place.aws.export(arn, self.bucket)
        place.aws.send_changes(table, place.make_stream())
        self.arn = made["ExportArn"]
        self.summary_key = made["ExportManifest"]
        self.files_key = json.loads(self.read(self.summary_key))["manifestFilesS3Key"]
        lines = [json.loads(line) for line in self.read(self.files_key).splitlines()]
        self.files = {line["dataFileS3Key"]: line["itemCount"] for line in lines}
        self.victim = max(self.files, key=lambda key: self.files[key])
        snapshot = {"method": "export", "export_arn": self.arn, "accept_gap": True, "settle_seconds": 0}
        self.entry = place.entry(table, snapshot=snapshot)

    def read(self, key: str) -> bytes:
        """An object of the export."""
        return self.aws.read_object(self.bucket, key)

    def write(self, key: str, content: bytes) -> None:
        """Spoil an object of the export."""
        self.aws.write_object(self.bucket, key, content)


@pytest.fixture
def export(place: Place) -> FinishedExport:
    """A finished export."""
    return FinishedExport(place)


def corrupt(content: bytes) -> bytes:
    """A bit of the compressed data flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


def one_item_more(content: bytes) -> bytes:
    """A sound gzip file, which is not what was exported."""
    return gzip.compress(gzip.decompress(content) + b'{"Item":{"id":{"S":"forged"},"size":{"N":"1"}}}\n')


@pytest.mark.parametrize(
    "spoil",
    [corrupt, lambda content: content[:-12], one_item_more],
    ids=["corrupt", "truncated", "forged"],
)
def test_s7_a_spoilt_data_file_is_named_and_the_others_stand(
    place: Place, export: FinishedExport, spoil: Callable[[bytes], bytes]
) -> None:
    export.write(export.victim, spoil(export.read(export.victim)))
    started = time.monotonic()
    done = once(place, [export.entry])
    assert time.monotonic() - started < 20 * BUSY_MACHINE
    assert_refused(done, FATAL, re.escape(export.victim))
    # nothing but the spoilt file is missing, and it does not count as loaded
    whole = set().union(*(keys_in(export.read(key)) for key in export.files if key != export.victim))
    there = {str(key) for (key,) in place.clickhouse.rows("SELECT id FROM things_current")}
    assert there >= whole
    assert snapshot_state(place) != "complete"
    finished = place.clickhouse.rows("SELECT DISTINCT shard FROM dyncdc_checkpoints FINAL WHERE finished")
    assert [export.victim] not in finished


def test_s7_a_missing_data_file_is_named(place: Place, export: FinishedExport) -> None:
    export.aws.s3.delete_object(Bucket=export.bucket, Key=export.victim)
    assert_refused(once(place, [export.entry]), FATAL, re.escape(export.victim))
    assert snapshot_state(place) != "complete"


def test_s7_the_daemon_goes_on_following_the_stream_beside_a_spoilt_file(place: Place, export: FinishedExport) -> None:
    export.write(export.victim, corrupt(export.read(export.victim)))
    with running(place.daemon(place.configure([export.entry]))) as daemon:
        wait_until(lambda: daemon.get("/healthz")[0] == 503, 15, f"health is red: {daemon.tail()}")
        assert export.victim in daemon.get("/healthz")[1]
        place.aws.put(export.entry["dynamodb"], {"id": {"S": "new"}, "size": {"N": "1"}})
        found = "SELECT count() FROM things_current WHERE id = 'new'"
        wait_until(lambda: place.clickhouse.number(found) == 1, 15, "the stream goes on")
        assert daemon.terminate() == 0, daemon.tail()


def test_s7_a_manifest_that_does_not_match_its_checksum_loads_nothing(place: Place, export: FinishedExport) -> None:
    key = export.files_key
    export.write(key, export.read(key).replace(b'"itemCount":', b'"itemCount": ', 1))
    assert_refused(once(place, [export.entry]), FATAL, re.escape(key), "checksum")
    assert loaded_by_snapshot(place) == 0
    assert snapshot_state(place) != "complete"


def test_s7_a_manifest_whose_counts_disagree_loads_nothing(place: Place, export: FinishedExport) -> None:
    lines = export.read(export.files_key).splitlines(keepends=True)
    shorter = b"".join(lines[:-1])
    export.write(export.files_key, shorter)
    checksum = base64.b64encode(hashlib.md5(shorter).digest())
    export.write(export.files_key.removesuffix(".json") + ".md5", checksum)
    assert_refused(once(place, [export.entry]), FATAL, re.escape(export.files_key), "40")
    assert loaded_by_snapshot(place) == 0


def test_s3_an_export_from_before_the_stream_was_read_is_refused_unless_the_gap_is_accepted(
    place: Place, export: FinishedExport
) -> None:
    time.sleep(1.1)  # the server's clock shows whole seconds
    refused = {**export.entry, "snapshot": {**export.entry["snapshot"], "accept_gap": False}}
    assert_refused(once(place, [refused]), USAGE, re.escape(export.entry["dynamodb"]), "too old", "accept_gap")
    assert loaded_by_snapshot(place) == 0
    done = once(place, [export.entry])
    assert (done.code, done.complaints) == (0, []), done
    assert place.clickhouse.number("SELECT count() FROM things_current") == 40
    assert place.clickhouse.number("SELECT count() FROM dyncdc_gaps") == 1


def keys_in(content: bytes) -> set[str]:
    """Keys of the items in a data file."""
    return {json.loads(line)["Item"]["id"]["S"] for line in gzip.decompress(content).splitlines()}


def snapshot_state(place: Place) -> object:
    """The state of the newest snapshot."""
    return place.clickhouse.value("SELECT argMax(state, updated_at) FROM dyncdc_snapshots")


def loaded_by_snapshot(place: Place) -> int:
    """Rows in the table: nothing but the export could have brought them."""
    return place.clickhouse.number("SELECT count() FROM things")

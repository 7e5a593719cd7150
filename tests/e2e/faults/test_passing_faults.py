"""What is refused for a while (credentials, permissions, a password): the daemon waits, is red, goes on by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp, Daemon, running, wait_until
from support.servers.place import Place

from dyncdc.emulator.clickhouse import LocalClickHouse
from e2e.access.test_permissions import denied

USER = "writer"
READS = (
    "DescribeStreamSummary",
    "ListShards",
    "GetShardIterator",
    "GetRecords",
    "DescribeTable",
    "DescribeKinesisStreamingDestination",
)


class Rotating:
    """A ClickHouse whose only writer gets another password now and then."""

    def __init__(self, directory: Path) -> None:
        self.server = LocalClickHouse(directory / "clickhouse", users={USER: "first"})
        self.secret = directory / "secret"
        self.secret.write_text("first\n")
        asyncio.run(self.server.start())

    @property
    def options(self) -> dict[str, str]:
        """What ``[clickhouse]`` says."""
        url = f"clickhouse://{USER}@127.0.0.1:{self.server.tcp_port}/{self.server.database}"
        return {"url": url, "password_file": str(self.secret)}

    def rotate(self, password: str) -> None:
        """Let the server take another password from now on. The file still holds the old one."""
        self.server.kill()  # it would wait for the daemon to leave
        self.server = LocalClickHouse(
            self.server.directory,
            tcp_port=self.server.tcp_port,
            http_port=self.server.http_port,
            users={USER: password},
        )
        asyncio.run(self.server.start())

    def has(self, key: str) -> bool:
        """Whether an item has arrived."""
        http = ClickHouseHttp(self.server.http_port, self.server.database)
        return http.number(f"SELECT count() FROM things_current WHERE id = '{key}'") == 1


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Rotating]:
    made = Rotating(tmp_path)
    yield made
    asyncio.run(made.server.stop())


def deny(place: Place) -> None:
    """Let AWS refuse whatever a daemon asks."""
    for action in READS:
        place.aws.inject(action, denied(f"any:{action}"), probability=1.0)


def await_red(daemon: Daemon, word: str) -> None:
    """Wait until health names what is refused. The daemon must not end."""

    def red() -> bool:
        assert daemon.running, daemon.tail()
        status, text = daemon.get("/healthz")
        return status == 503 and word in text

    wait_until(red, 30, f"health names {word}: {daemon.tail()}")


@pytest.mark.timeout(240)
def test_what_is_refused_for_a_while_ends_no_daemon_running_or_starting(place: Place, rotating: Rotating) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    config = place.configure(
        [place.entry(table, snapshot={"method": "none"})],
        clickhouse=rotating.options,
        run={"stuck_after_seconds": 1.0, "startup_timeout_seconds": 1.0},
    )
    with running(place.daemon(config)) as daemon:
        deny(place)
        place.aws.put(table, {"id": {"S": "denied"}})
        await_red(daemon, "AccessDeniedException")
        place.aws.clear_faults()
        wait_until(lambda: rotating.has("denied"), 30, f"it goes on: {daemon.tail()}")

        rotating.rotate("second")
        place.aws.put(table, {"id": {"S": "rotated"}})
        await_red(daemon, "516 AUTHENTICATION_FAILED")
        rotating.secret.write_text("second\n")
        wait_until(lambda: rotating.has("rotated"), 30, f"it has read the new password: {daemon.tail()}")
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 15, "health is green again")

        assert daemon.terminate() == 0, daemon.tail()
        place.aws.put(table, {"id": {"S": "restarted"}})
        deny(place)
        daemon.start()
        await_red(daemon, "AccessDeniedException")
        assert daemon.get("/readyz")[0] == 503
        rotating.rotate("third")
        place.aws.clear_faults()
        await_red(daemon, "516 AUTHENTICATION_FAILED")
        rotating.secret.write_text("third\n")
        wait_until(daemon.ready, 30, f"the start goes on by itself: {daemon.tail()}")
        wait_until(lambda: rotating.has("restarted"), 30, f"it replicates: {daemon.tail()}")
        assert daemon.terminate() == 0, daemon.tail()
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    refusals = [line for line in lines if line.get("error_class") in ("CredentialsError", "LoginRefused")]
    assert refusals and all(line["level"] == "error" and line["hint"] for line in refusals)


ONCE = """#!/bin/sh
echo asked >> {asked}
[ "$(wc -l < {asked})" -eq 1 ] || exit 1
echo '{{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": "{expires}"}}'
"""
"""Credentials that are given once, and expire so soon that each call tries to renew them first."""


def test_credentials_that_are_valid_and_cannot_be_renewed_end_no_daemon(place: Place, tmp_path: Path) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    daemon = place.daemon(place.configure([place.entry(table, snapshot={"method": "none"})]))
    asked, script, profile = tmp_path / "asked", tmp_path / "credentials.sh", tmp_path / "profile"
    expires = datetime.now(UTC) + timedelta(minutes=12)
    script.write_text(ONCE.format(asked=asked, expires=f"{expires:%FT%TZ}"))
    profile.write_text(f"[default]\ncredential_process = /bin/sh {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del daemon.environment[name]
    daemon.environment.update(AWS_CONFIG_FILE=str(profile), AWS_SHARED_CREDENTIALS_FILE="/nonexistent")
    with running(daemon):
        place.aws.put(table, {"id": {"S": "a"}})
        wait_until(lambda: place.clickhouse.number("SELECT count() FROM things_current") == 1, 20, "it replicates")
        assert daemon.terminate() == 0, daemon.tail()
    assert len(asked.read_text().splitlines()) > 3, "it has tried to renew them, so the library has repeated itself"
    said = [line for line in daemon.log.read_text().splitlines() if "advisory refresh" in line]
    assert said and all(json.loads(line)["level"] == "warning" for line in said)


def test_a_daemon_whose_stderr_is_full_replicates_and_counts_what_it_could_not_say(place: Place) -> None:
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put(table, {"id": {"S": "a"}})
    daemon = place.daemon(place.configure([place.entry(table)]))
    daemon.output = Path("/dev/full")
    with running(daemon):
        wait_until(lambda: place.clickhouse.tables() >= {"things"}, 20, "the table is made")
        wait_until(lambda: place.clickhouse.number("SELECT count() FROM things_current") == 1, 20, "the item is there")
        assert daemon.metric("dyncdc_log_lines_lost_total") > 0
        assert daemon.terminate() == 0

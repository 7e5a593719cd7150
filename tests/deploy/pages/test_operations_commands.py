"""Every command of the pages for operators is run, in their order, or listed here with the reason why not."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp, free_port, wait_until
from support.repository.documented import PAGES, ROOT, blocks
from support.repository.tools import OURS, tool
from support.servers.aws import REGION, Aws

from dyncdc.emulator.clickhouse import LocalClickHouse

NOT_RUN = {
    "make demo": "tests/e2e/commands/test_demo.py runs the demo",
    "make test": "this is one of its tests",
    "make check": "runs before the tests",
    "make alerts": "takes minutes; run before a release",
    "python3 -m venv /opt/dyncdc": "test_container.py runs the same, in another folder",
    "/opt/dyncdc/bin/pip ": "test_container.py runs the same, in another folder",
    "export PATH=/opt/dyncdc/bin": "as before",
    "docker ": "needs an engine; test_container.py runs the steps of the build and what they make",
    "systemctl ": "needs systemd as process 1; test_systemd.py has it verify the units",
    "journalctl ": "needs systemd as process 1",
    "kubectl ": "needs a cluster; test_kubernetes.py builds the manifests and holds them against the API's schemas",
    "promtool test rules ": "test_rules.py runs it",
    "cd ": "for the commands of kubectl that follow it",
    "dyncdc dead-letters list [": "a synopsis; tests/e2e/data/test_dead_letters.py runs them",
    "dyncdc dead-letters show ID": "the same",
    "dyncdc dead-letters replay [": "the same",
    "dyncdc dead-letters drop ID": "the same",
}
"""Beginning of a command, and why it cannot be run here."""

UPGRADE = ROOT / "docs" / "upgrade.md"
ITEMS = 25
BACKUP = re.compile(r"BACKUP DATABASE analytics TO Disk\('backups', '\S+'\)")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def commands(page: Path) -> Iterator[str]:
    """The commands of a page that are run here."""
    for block in blocks(page):
        yield from (command for command in block.commands if not command.startswith(tuple(NOT_RUN)))


class WithBackups(LocalClickHouse):
    """A ClickHouse with a disk for backups, as the upgrade page has one."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.directory / "config.xml"
        place = self.directory / "backups"
        disk = f"<disks><backups><type>local</type><path>{place}/</path></backups></disks>"
        more = f"<storage_configuration>{disk}</storage_configuration>"
        more += f"<backups><allowed_disk>backups</allowed_disk><allowed_path>{place}/</allowed_path></backups>"
        file.write_text(file.read_text().replace("</clickhouse>", f"{more}</clickhouse>"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalClickHouse]:
    server = WithBackups(tmp_path / "clickhouse", users={"dyncdc": ""})
    asyncio.run(server.start())
    ClickHouseHttp(server.http_port).run("CREATE DATABASE analytics")
    yield server
    asyncio.run(server.stop())


@dataclass
class Operator:
    """Someone with a shell in a checkout. What a page names is replaced by what is here instead."""

    place: Path
    environment: dict[str, str]
    replaced: dict[str, str]
    daemon: subprocess.Popen[bytes] | None = None

    def here(self, command: str) -> str:
        """The command as it is run."""
        for theirs, ours in self.replaced.items():
            command = command.replace(theirs, ours)
        return command

    def run(self, command: str) -> str:
        """Run a command that must succeed; return all it said. `dyncdc run` goes on beside what follows."""
        if command.startswith("dyncdc run"):
            with (self.place / "daemon.log").open("ab") as log:
                words = self.here(command).split()
                self.daemon = subprocess.Popen(words, cwd=self.place, env=self.environment, stderr=log)
            return ""
        ended = subprocess.run(
            ["sh", "-ec", self.here(command)],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr

    def stop(self) -> int:
        """SIGTERM the daemon; return its exit code."""
        assert self.daemon is not None
        self.daemon.terminate()
        return self.daemon.wait(40)

    def log(self) -> str:
        """What the daemon has said."""
        return (self.place / "daemon.log").read_text()


@pytest.fixture
def operator(aws: Aws, server: LocalClickHouse, tmp_path: Path) -> Iterator[Operator]:
    place = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy", place / "deploy")
    (place / "etc" / "systemd" / "system").mkdir(parents=True)
    listen = f"127.0.0.1:{free_port()}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DYNCDC_"))}
    environment = {
        **inherited,
        "PATH": f"{ROOT}/.venv/bin{os.pathsep}{OURS}{os.pathsep}{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": aws.endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DYNCDC_HTTP__LISTEN": listen,
        "DYNCDC_AWS__ENDPOINT_URL": aws.endpoint_url,
        "DYNCDC_CHECKPOINT__INTERVAL_SECONDS": "0.2",
    }
    replaced = {
        "clickhouse://dyncdc@ch.internal:9000/": f"clickhouse://dyncdc@127.0.0.1:{server.tcp_port}/",
        "/etc/dyncdc/config.toml": "config.toml",
        "/etc/systemd/": f"{place}/etc/systemd/",
        "127.0.0.1:9108": listen,
    }
    operator = Operator(place, environment, replaced)
    yield operator
    if operator.daemon is not None:
        operator.daemon.kill()
        operator.daemon.wait()


@pytest.mark.usefixtures("names_of_pages")
def test_the_commands_of_the_pages_do_what_the_pages_say(aws: Aws, server: LocalClickHouse, operator: Operator) -> None:
    for name in ("aws", "promtool", "curl"):
        tool(name)
    clickhouse = ClickHouseHttp(server.http_port, "analytics")
    aws.make_table("orders", {"id": "S"})
    operator.replaced["STREAM_ARN"] = aws.make_stream("orders-changes")
    aws.s3.create_bucket(Bucket="my-exports")
    put(aws, range(ITEMS))
    said = {}
    for command in (command for page in PAGES for command in commands(page)):
        said[command] = operator.run(command)
        if command.startswith("dyncdc run"):
            wait_for(clickhouse, ITEMS)
    assert "EQUAL items=25" in said["dyncdc verify orders -c config.toml"]
    assert said["curl -s http://127.0.0.1:9108/healthz"] == "healthy\n"
    assert "daemon healthy" in said["dyncdc status -c /etc/dyncdc/config.toml"]
    assert (
        "arn:aws:kinesis:eu-west-1:123456789012:stream/orders-changes"
        in (operator.place / "stream-policy.json").read_text()
    )
    snapshots = "SELECT uniqExact(id) FROM dyncdc_snapshots WHERE state = 'complete'"
    wait_until(lambda: clickhouse.number(snapshots) == 3, 60, f"what was asked for is loaded: {operator.log()}")
    restore(aws, server, operator)


def restore(aws: Aws, server: LocalClickHouse, operator: Operator) -> None:
    """A backup that is younger than the stream's retention: what came after it comes again."""
    clickhouse, everywhere = ClickHouseHttp(server.http_port, "analytics"), ClickHouseHttp(server.http_port)
    (backup,) = BACKUP.findall(UPGRADE.read_text())
    everywhere.run(backup)
    put(aws, range(ITEMS, 2 * ITEMS))
    wait_for(clickhouse, 2 * ITEMS)
    assert operator.stop() == 0
    everywhere.run("DROP DATABASE analytics SYNC")
    everywhere.run(backup.replace("BACKUP", "RESTORE").replace(" TO ", " FROM "))
    assert clickhouse.number("SELECT count() FROM orders_current") == ITEMS
    operator.run("dyncdc run -c config.toml")
    wait_for(clickhouse, 2 * ITEMS)
    assert f"EQUAL items={2 * ITEMS}" in operator.run("dyncdc verify orders -c config.toml")


def put(aws: Aws, numbers: range) -> None:
    aws.put_all("orders", [{"id": {"S": f"order {n}"}, "amount": {"N": f"{n}.5"}} for n in numbers])


def wait_for(clickhouse: ClickHouseHttp, items: int) -> None:
    wait_until(lambda: "orders_current" in clickhouse.tables(), 60, "the daemon has started")
    wait_until(lambda: clickhouse.number("SELECT count() FROM orders_current") == items, 60, f"{items} items are there")


def test_what_is_not_run_stands_on_a_page() -> None:
    shown = [command for page in PAGES for block in blocks(page) for command in block.commands]
    for start in NOT_RUN:
        assert any(command.startswith(start) for command in shown), f"no page has {start!r} any more"

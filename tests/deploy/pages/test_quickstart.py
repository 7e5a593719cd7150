"""The quick start's commands, copied from the page and run in order: local AWS, a ClickHouse user with its grants."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp, free_port
from support.repository.tools import OURS, ROOT, tool
from support.servers.aws import REGION, Aws

from dyncdc.emulator.clickhouse import LocalClickHouse

PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
ITEMS = 25
PASSWORD = "open sesame"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def blocks(language: str) -> list[str]:
    """The blocks of a language that the page promises to work anywhere."""
    found = [block for note, kind, block in BLOCK.findall(PAGE.read_text()) if kind == language and not note]
    assert found
    return found


class Granted(LocalClickHouse):
    """A ClickHouse whose user dyncdc has the page's grants and no other.

    This ClickHouse takes users from its configuration only. Source: ClickHouse, users.xml, ``grants``.
    """

    def _write_configuration(self) -> None:
        super()._write_configuration()
        statements = " ".join(blocks("sql")).split(";")
        grants = [sql.strip().removesuffix(" TO dyncdc") for sql in statements if sql.strip().startswith("GRANT")]
        assert grants and all("dyncdc" not in grant for grant in grants)
        queries = "".join(f"<query>{grant}</query>" for grant in grants)
        file = self.directory / "users.xml"
        file.write_text(file.read_text().replace("</dyncdc>", f"<grants>{queries}</grants></dyncdc>", 1))


@pytest.fixture
def granted(tmp_path: Path) -> Iterator[LocalClickHouse]:
    server = Granted(tmp_path / "clickhouse", users={"dyncdc": PASSWORD})
    (tmp_path / "clickhouse").mkdir(exist_ok=True)
    asyncio.run(server.start())
    ClickHouseHttp(server.http_port).run(blocks("sql")[0].split(";")[0])
    yield server
    asyncio.run(server.stop())


@pytest.mark.usefixtures("names_of_pages")
def test_the_commands_of_the_page_replicate_a_table(aws: Aws, granted: LocalClickHouse, tmp_path: Path) -> None:
    tool("aws")
    aws.make_table("orders", {"id": "S"})
    aws.put_all("orders", [{"id": {"S": f"order {n}"}, "amount": {"N": f"{n}.5"}} for n in range(ITEMS)])
    script = "\n".join(["set -eu", *blocks("sh")])
    host = "clickhouse://dyncdc@ch.internal:9000/"
    assert script.count(host) == 1 and PASSWORD in script
    script = script.replace(host, f"clickhouse://dyncdc@127.0.0.1:{granted.tcp_port}/")
    script = script.replace("eu-west-1", REGION)
    assert script.count('prefix = "dyncdc/" }') == 1
    # AWS writes an export for minutes; here it is there at once, and waiting for it to settle proves nothing
    script = script.replace('prefix = "dyncdc/" }', 'prefix = "dyncdc/", settle_seconds = 0.5 }')
    script = script.replace("deploy/aws/", f"{ROOT}/deploy/aws/")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DYNCDC_"))},
        "PATH": f"{ROOT}/.venv/bin{os.pathsep}{OURS}{os.pathsep}{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": aws.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DYNCDC_HTTP__LISTEN": f"127.0.0.1:{free_port()}",
        "DYNCDC_AWS__ENDPOINT_URL": aws.endpoint_url,
    }
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    here = ClickHouseHttp(granted.http_port, "analytics")
    assert here.number("SELECT count() FROM orders_current") == ITEMS
    policies = {path.name: path.read_text() for path in tmp_path.glob("dyncdc-*.json")}
    assert len(policies) == 4 and not any("${" in text for text in policies.values())


def test_ten_steps_are_ten() -> None:
    assert re.findall(r"^## (\d+)\.", PAGE.read_text(), re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_what_the_page_does_not_run_says_why() -> None:
    for note, kind, block in BLOCK.findall(PAGE.read_text()):
        if note:
            assert kind == "sh" and block

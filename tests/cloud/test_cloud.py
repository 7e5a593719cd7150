"""``make cloud`` itself: what it asks for, and one run of it on a server of this machine behind TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp, environment
from support.servers.tls import demanding, make_certificate, tls_proxy
from torture.world import Loop

from cloud.service import CA_FILE, HOST, HTTPS, NEEDED, PASSWORD, USER, missing, service
from dyncdc.emulator.clickhouse import LocalClickHouse


def cloud(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).parents[1])
    kept = {name: value for name, value in environment().items() if not name.startswith("CLICKHOUSE_CLOUD_")}
    return subprocess.run(
        [sys.executable, "-m", "cloud"],
        env=kept | {"PYTHONPATH": os.pathsep.join([tests, kept.get("PYTHONPATH", "")])} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_what_the_environment_lacks_is_named_and_nothing_is_run() -> None:
    ended = cloud({HOST: "abc.eu-central-1.aws.clickhouse.cloud"})
    assert ended.returncode == 2 and not ended.stdout
    assert [line.split(":")[0].strip() for line in ended.stderr.splitlines()[1:]] == [USER, PASSWORD]


@pytest.mark.parametrize("absent", NEEDED)
def test_an_empty_variable_is_missing(absent: str) -> None:
    (line,) = missing(dict.fromkeys(NEEDED, "x") | {absent: ""})
    assert line.startswith(f"{absent}: ")


def test_a_service_has_the_ports_of_cloud_and_shows_no_password() -> None:
    found = service({HOST: "h", USER: "a@b", PASSWORD: "s3cret"})
    assert found.address == "clickhouses://a%40b@h:9440" and found.https_port == 8443
    assert "s3cret" not in repr(found)


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[tuple[LocalClickHouse, dict[str, str]]]:
    """A server with a login behind TLS, and the variables that name it."""
    certificate, loop = make_certificate(tmp_path / "cert.pem"), Loop()
    server = LocalClickHouse(tmp_path / "clickhouse", secret=True)
    loop.call(server.start())
    context = demanding(certificate, None)
    proxies = [tls_proxy(port, context) for port in (server.tcp_port, server.http_port)]
    native, https = (loop.call(proxy.__aenter__()) for proxy in proxies)
    yield (
        server,
        {
            HOST: f"127.0.0.1:{native}",
            HTTPS: str(https),
            USER: server.user,
            PASSWORD: server.password,
            CA_FILE: str(certificate),
        },
    )
    loop.call(server.stop())
    for proxy in proxies:
        loop.call(proxy.__aexit__(None, None, None))
    loop.close()


@pytest.mark.e2e
@pytest.mark.timeout(280)
def test_all_scenarios_end_equal_on_a_server_behind_tls_and_leave_nothing(
    behind_tls: tuple[LocalClickHouse, dict[str, str]],
) -> None:
    server, variables = behind_tls
    ended = cloud(variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert ended.stdout.count(": EQUAL, ") == 1
    assert server.password not in ended.stdout + ended.stderr
    left = ClickHouseHttp(server.http_port, "default", server.password).rows("SHOW DATABASES LIKE 'dyncdc_cloud%'")
    assert left == []

"""The compose file: valid, everything that it mounts exists, and the parts find each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repository.tools import DEPLOY, ROOT, ran, ran_python

from dyncdc.config import load_config

COMPOSE = DEPLOY / "compose" / "compose.yaml"
VALIDATE = "import compose_spec, sys; compose_spec.PyCompose.from_yaml(sys.stdin.read()).validate()"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    services: dict[str, dict[str, Any]] = document["services"]
    return services


def test_the_compose_file_is_as_the_specification_wants_it() -> None:
    given = re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", COMPOSE.read_text())  # compose puts values in before it looks
    ran_python("-c", VALIDATE, stdin=re.sub(r"\$\{\w+[^}]*\}", "/given", given))


def test_what_is_mounted_exists(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{DYNCDC_CONFIG_FILE:-./my-config.toml\}", "./config.toml", volume).split(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).is_file(), source


def test_nothing_listens_beyond_this_machine(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_service_has_a_password_of_its_own_in_the_file(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or value.startswith("${"), name


def test_the_daemon_can_write_nothing_and_has_time_to_drain(services: dict[str, dict[str, Any]]) -> None:
    daemon = services["dyncdc"]
    assert daemon["read_only"] is True and daemon["cap_drop"] == ["ALL"]
    assert daemon["stop_grace_period"] == "30s"


def test_who_may_read_the_profile_can_run_the_daemon(services: dict[str, dict[str, Any]]) -> None:
    """A file that only its owner may read is not readable for the image's own user, who has no capabilities."""
    assert any(volume.startswith("${HOME}/.aws:") for volume in services["dyncdc"]["volumes"])
    user = re.fullmatch(r"\$\{DYNCDC_USER:-(\d+)\}", services["dyncdc"]["user"])
    assert user is not None
    assert f"USER {user[1]}\n" in (ROOT / "Dockerfile").read_text()
    assert "DYNCDC_USER=$(id -u)" in COMPOSE.read_text()


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.search(r":(v?\d[\w.]*|local)$", service["image"]), name


def test_the_configuration_beside_it_is_one_and_reaches_the_clickhouse_beside_it(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "secret")
    config = load_config(COMPOSE.with_name("config.toml"))
    assert config.clickhouse.url.host in services
    given = services["clickhouse"]["environment"]
    assert (config.clickhouse.url.user, config.clickhouse.url.database) == (
        given["CLICKHOUSE_USER"],
        given["CLICKHOUSE_DB"],
    )


def test_prometheus_takes_its_configuration_and_scrapes_the_daemon(tmp_path: Path) -> None:
    text = (COMPOSE.parent / "prometheus.yml").read_text()
    assert "job_name: dyncdc\n" in text and '"dyncdc:9108"' in text
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/", f"{DEPLOY}/prometheus/"))
    ran("promtool", "check", "config", file)

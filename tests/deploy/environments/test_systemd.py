"""The systemd units: verified by systemd itself, hardened, and the same for one member as for the only one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click import Command
from support.repository.tools import DEPLOY, ROOT, ran

from dyncdc.cli.run import run

UNIT, TEMPLATE = DEPLOY / "dyncdc.service", DEPLOY / "dyncdc@.service"
INSTANCE = "dyncdc@0-2.service"
MOST_EXPOSED = 1.5
"""Of 10, where lower is better: `systemd-analyze security`. Newer systemd counts more settings."""

OF_ITS_OWN = ("Description=", "ExecStart=", "EnvironmentFile=-/etc/dyncdc/member-", "StateDirectory=")


def lines(unit: Path) -> list[str]:
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Both units with an executable that exists on this machine, the template as an instance of it."""
    made = []
    for unit, name in ((UNIT, UNIT.name), (TEMPLATE, INSTANCE)):
        text = unit.read_text()
        assert "/opt/dyncdc/bin/dyncdc " in text
        (tmp_path / unit.name).write_text(text.replace("/opt/dyncdc/bin/dyncdc ", f"{sys.executable} "))
        if name != unit.name:
            (tmp_path / name).symlink_to(tmp_path / unit.name)
        made.append(tmp_path / name)
    return made


def test_systemd_finds_nothing_wrong_with_the_units(units: list[Path]) -> None:
    said = ran("systemd-analyze", "verify", "--man=no", *units)
    assert not [line for line in said.splitlines() if "dyncdc" in line], said


def test_the_exposure_is_what_the_guide_states(units: list[Path]) -> None:
    stated = re.search(r"exposure level of (\d\.\d)", (ROOT / "docs" / "operations" / "guide.md").read_text())
    assert stated is not None
    for unit in units:
        said = ran("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        level = re.search(r"exposure level for \S+: (\d\.\d)", said)
        assert level is not None, said
        assert float(level[1]) <= MOST_EXPOSED
        assert float(stated[1]) <= MOST_EXPOSED


def test_a_member_is_supervised_as_the_only_process_is() -> None:
    shared = [[line for line in lines(unit) if not line.startswith(OF_ITS_OWN)] for unit in (UNIT, TEMPLATE)]
    assert shared[0] == shared[1]


def test_an_instance_names_its_member() -> None:
    assert ran("systemd-escape", "--unescape", "0-2").strip() == "0/2"
    assert "--member %I" in TEMPLATE.read_text()


def test_what_must_not_restart_does_not_and_a_start_may_take_forever() -> None:
    wanted = {"Type=notify", "Restart=always", "RestartPreventExitStatus=2", "TimeoutStartSec=infinity"}
    assert wanted <= set(lines(UNIT))


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda unit: unit.name)
def test_the_command_is_one_that_this_version_has(unit: Path) -> None:
    (command,) = [line for line in lines(unit) if line.startswith("ExecStart=")]
    used = set(re.findall(r" (--[a-z-]+)", command))
    assert used <= options(run)


def options(command: Command) -> set[str]:
    """The options that a command takes."""
    return {name for parameter in command.params for name in parameter.opts}

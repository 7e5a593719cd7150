"""What the pages for operators say of the program, compared with it."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import click
import pytest
from support.repository.documented import PAGES, ROOT, blocks, inline_commands

from dyncdc.app.daemon import daemon
from dyncdc.app.reload import AT_ONCE, BY_SESSION
from dyncdc.cli.main import cli
from dyncdc.telemetry.hints import HINTS

GUIDE = ROOT / "docs" / "operations" / "guide.md"
ALERTS = ROOT / "docs" / "operations" / "alerts.md"
UNIT = ROOT / "deploy" / "dyncdc.service"
QUICK_START = ROOT / "docs" / "quickstart.md"
SHOWN = sorted({*PAGES, *(ROOT / "docs").rglob("*.md")} - {ROOT / "docs" / "commands.md"})
"""Every page but the list of commands, which is generated from them, in another notation."""


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_are_ones_that_this_version_has(page: Path) -> None:
    shown = [re.sub(r"[\[\]]", " ", line) for block in blocks(page) for line in block.commands]
    for line in [*inline_commands(page), *(line for line in shown if line.startswith("dyncdc "))]:
        words = shlex.split(line.partition(" > ")[0])[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, f"{page.name}: {line}"
            command = found
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, f"{page.name}: {line}"


def test_the_quick_start_says_how_to_tell_whether_decoding_is_compiled() -> None:
    assert 'decoder="compiled" if IS_COMPILED else "exact"' in inspect.getsource(daemon)
    page = QUICK_START.read_text()
    assert '`"decoder":"exact"`' in page and '`"compiled"`' in page


def test_the_guide_names_what_a_reload_takes_up() -> None:
    (row,) = [line for line in GUIDE.read_text().splitlines() if line.startswith("| change other settings")]
    said = row.partition("reload takes up ")[2].partition(" at once")[0]
    assert set(re.findall(r"`([a-z_.]+)`", said)) == {*BY_SESSION, *AT_ONCE}


def test_every_kind_of_task_has_its_hint_and_its_line_on_the_page_of_alerts() -> None:
    code = "".join(path.read_text() for path in (ROOT / "dyncdc").rglob("*.py") if "/cli/" not in str(path))
    named = set(re.findall(r"health\.task\(f?\"([a-z]+)", code))
    named |= set(re.findall(r"return f\"([a-z]+):\{self", code))
    named |= set(re.findall(r"ShownRetrier\(instruments, \"([a-z]+)", code))
    assert {"insert", "shard", "snapshot", "discovery", "destination", "checkpointer"} <= named
    assert named == set(HINTS)
    section = ALERTS.read_text().partition("## DyncdcStuck")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z]+)[:`]", rows)) == set(HINTS)


def test_what_the_quick_start_installs_is_readable_for_the_user_of_the_unit(tmp_path: Path) -> None:
    """A unit with ``DynamicUser=`` runs as a user that owns nothing: a file that is not for all is not for it."""
    assert "DynamicUser=yes" in UNIT.read_text()
    (script,) = [block.text for block in blocks(QUICK_START) if "systemctl" in block.text]
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    (tmp_path / "config.toml").write_text('pipeline = "orders"\n')
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "bin").mkdir()
    for name in ("systemctl", "curl"):
        (tmp_path / "bin" / name).symlink_to(shutil.which("true") or "/missing")
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "CLICKHOUSE_PASSWORD": 'open "sesame" $HOME',
        "AWS_REGION": "eu-west-1",
    }
    script = script.replace(" /etc/", f" {tmp_path}/etc/")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, env=environment, check=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "etc").rglob("*") if path.is_file()}
    assert modes == {"config.toml": 0o644, "environment": 0o600, "dyncdc.service": 0o644}
    lines = (tmp_path / "etc" / "dyncdc" / "environment").read_text().splitlines()
    assert lines == ["CLICKHOUSE_PASSWORD='open \"sesame\" $HOME'", "AWS_REGION=eu-west-1"]
    for path in re.findall(r"(?:--config |EnvironmentFile=-)(\S+)", UNIT.read_text()):
        assert (tmp_path / path.lstrip("/")).exists(), path
